"""Logs of a run: metrics.jsonl and episodes.csv (the source of truth), TensorBoard, and the progress line.

The TensorBoard writer is that of the tensorboard package, which needs no torch. A log that cannot be written prints a
warning and does not end the training.
"""

import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rltrain.config.groups import with_varied
from rltrain.envs.pool import Episode
from rltrain.errors import CheckpointError, DiskError, disk_errors
from rltrain.system import atomic, csv_files, inside, notices, plain_json, terminal

_HPARAMS = ("algo", "env", "seed")
"""The settings that every table of runs needs, as typed."""

_FINAL, _BEST = "final/mean_reward", "best/mean_reward"
_METRICS = (_FINAL, _BEST, "eval/mean_reward", "rollout/ep_rew_mean", "time/fps")
"""The columns of scores in the HParams tab, which shows five."""

_COLUMNS = "step,reward,length,frames"
"""The first line of episodes.csv."""

_BEGINS = '{"step": '
"""The beginning of each line of metrics.jsonl."""

_UNREADABLE = (LookupError, ValueError, TypeError, RecursionError)
"""What `_step_of_metrics` and `_step_of_episode` raise for a line without a step."""

_show_thread_error = threading.excepthook


def on_thread_error(error: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: print one line instead of a traceback if TensorBoard's thread cannot write.

    That happens after the folder was moved.
    """
    if type(error.thread).__name__ == "_AsyncWriterThread" and isinstance(error.exc_value, OSError):
        notices.warn(f"TensorBoard's log could not be written: {error.exc_value.strerror}")
    else:
        _show_thread_error(error)


class Silent:
    """The logs of a process that does not write the run folder, and of a resumed run before `Run.begin`."""

    def __init__(self) -> None:
        self._warned = False

    def sync(self) -> None:
        """Do nothing."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def episodes(self, step: int, episodes: list[Episode]) -> None:
        """Do nothing."""

    def result(self, step: int, final: dict[str, Any], best: dict[str, Any] | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def warned(self) -> Iterator[None]:
        """Turn write errors inside into one warning. Use it only for files that `resume` does not need."""
        try:
            yield
        except (OSError, DiskError, CheckpointError) as error:  # a folder has the name of the log
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            notices.warn(f"a log could not be written: {error}")
            self._warned = True


class Logger(Silent):
    """The three logs of one run folder."""

    def __init__(
        self,
        folder: Path,
        hparams: dict[str, Any],
        start_step: int | None,
        evaluates_again: bool = False,
        varies: Mapping[str, str] | None = None,
    ) -> None:
        """Open the logs.

        hparams: nested settings for TensorBoard's HParams tab. start_step: step from which the run resumes; later lines
        are dropped; None: a new run. evaluates_again: also drop the evaluation of start_step. varies: what varies in
        the run's sweep, by key. Raises DiskError.
        """
        super().__init__()
        metrics, episodes = folder / "metrics.jsonl", folder / "episodes.csv"
        if start_step is not None:

            def step_of(line: str) -> float:
                step = _step_of_metrics(line)
                return math.inf if evaluates_again and _repeated(plain_json.loads(line), start_step) else step

            _drop_after(metrics, start_step, step_of)
            _drop_after(episodes, start_step, _step_of_episode, header_lines=1)
        with disk_errors("the logs", folder):
            self._metrics, self._episodes = _Log(metrics, 1), _Log(episodes, -1)
            if not self._episodes.num_bytes:
                self._episodes.write(f"{_COLUMNS}\n")
            self._writer = EventFileWriter(str(folder), flush_secs=10)
        if start_step is None:
            self._write_hparams(_flatten(hparams), varies or {})
        else:
            start = SessionLog(status=SessionLog.START)
            self._event(Event(wall_time=time.time(), step=start_step + 1, session_log=start))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Write one line of metrics.jsonl and the same scalars to TensorBoard, without values that are not finite."""
        values = {tag: value for tag, value in values.items() if math.isfinite(value)}
        with self.warned():
            self._metrics.write(plain_json.dumps({"step": step, **values}) + "\n")
            self._episodes.file.flush()
        self._scalars(step, {tag: value for tag, value in values.items() if "/" in tag})

    def result(self, step: int, final: dict[str, Any], best: dict[str, Any] | None) -> None:
        """Write the scores of result.json to TensorBoard, for the HParams tab."""
        scores = {_FINAL: final, _BEST: best}
        self._scalars(step, {tag: score["mean_reward"] for tag, score in scores.items() if score})

    def episodes(self, step: int, episodes: list[Episode]) -> None:
        """Write one line of episodes.csv for each finished episode."""
        with self.warned():
            for episode in episodes:
                self._episodes.write(f"{step},{episode.reward:.12g},{episode.length_steps},{episode.length_frames}\n")

    def tell_of_other_episodes(self, recent: Sequence[tuple[float, int]]) -> None:
        """Warn if episodes.csv does not end with the agent's last episodes, `recent`: (return, length) of each.

        Such is the log of another branch, which was trained from an earlier checkpoint.
        """
        found: list[tuple[float, float]] = []
        with contextlib.suppress(OSError, CheckpointError, *_UNREADABLE):
            lines = inside.tail(self._episodes.path, 64 * len(recent) + 64)
            rows = [line.split(",") for line in lines[-len(recent) :]]
            found = [(float(row[1]), float(row[2])) for row in rows]
        # A spreadsheet may have rounded the rewards.
        is_own = len(found) == len(recent) and np.allclose(found, list(recent), rtol=1e-6, atol=1e-6, equal_nan=True)
        if recent and not is_own:
            what = "episodes.csv does not end with the episodes that the agent has played last"
            why = "lines are missing, or it is the log of another branch of the run; then metrics.jsonl is, too"
            notices.warn(f"{what}: {why}")

    def sync(self) -> None:
        """Write all lines so far to the disk, before a checkpoint that counts them."""
        for log in (self._metrics, self._episodes):
            with self.warned():
                log.sync(is_whole=not self._warned)

    def close(self) -> None:
        """Flush and close every file."""
        for file in (self._metrics.file, self._episodes.file, self._writer):
            with self.warned():
                file.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def _event(self, event: Event) -> None:
        with self.warned():
            self._writer.add_event(event)

    def _write_hparams(self, hparams: dict[str, Any], varies: Mapping[str, str]) -> None:
        """Write the settings for TensorBoard's HParams tab.

        TensorBoard takes the columns from the first run that it finds, and shows first those that `differs` marks. So
        every run of a sweep marks the same ones, also where it lacks a setting that varies.
        """
        hparams = with_varied(hparams, varies)
        marked = dict.fromkeys((*_HPARAMS, *varies))
        infos, session = [], plugin_data_pb2.SessionStartInfo()
        for key in (*marked, *sorted(hparams.keys() - marked.keys())):
            value = hparams.get(key)
            info = api_pb2.HParamInfo(name=key, differs=key in marked)
            if isinstance(value, bool):
                info.type = api_pb2.DATA_TYPE_BOOL
                session.hparams[key].bool_value = value
            elif isinstance(value, int | float):
                info.type = api_pb2.DATA_TYPE_FLOAT64
                session.hparams[key].number_value = value
            else:
                info.type = api_pb2.DATA_TYPE_STRING
                session.hparams[key].string_value = str(value)
            infos.append(info)
        metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in _METRICS]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
        for tag, data in (
            (hparams_metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)),
            (hparams_metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=session)),
        ):
            value = Summary.Value(tag=tag, metadata=hparams_metadata.create_summary_metadata(data))
            value.tensor.CopyFrom(hparams_metadata.NULL_TENSOR)
            self._event(Event(wall_time=time.time(), summary=Summary(value=[value])))


class _Log:
    """A text file in ASCII to which lines are added, also where other programs save it meanwhile."""

    def __init__(self, path: Path, buffering: int) -> None:
        """Raises OSError, CheckpointError."""
        self.path = path
        self.file: TextIO = inside.append(path, buffering)
        self.num_bytes = os.fstat(self.file.fileno()).st_size
        """What the run wrote, with what it began with."""

    def write(self, text: str) -> None:
        """Add a text. Raises OSError."""
        self.num_bytes += len(text)
        self.file.write(text)

    def sync(self, is_whole: bool) -> None:
        """Write all lines so far to the disk, and under the log's name. Raises OSError, DiskError, CheckpointError.

        is_whole: every line could be written.
        """
        self.file.flush()
        if self.path.parent.is_dir() and not self._is_at_its_path():  # without its folder the checkpoint is an error
            self._put_back()
        if (found := os.fstat(self.file.fileno()).st_size) != self.num_bytes and is_whole:
            what = f"another program wrote into {self.path.name} while the run trains"
            text = f"{what}: it has {found:,} bytes instead of {self.num_bytes:,}; lines of the run may be gone from it"
            notices.warn(text)
            self.num_bytes = found
        os.fsync(self.file.fileno())

    def _is_at_its_path(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self.file.fileno()))
        return False

    def _put_back(self) -> None:
        """Write the lines again, because an editor, a spreadsheet or `rm` took the name of the log away.

        What has its name now gets another one. Raises OSError, DiskError, CheckpointError.
        """
        what = f"{self.path.name} was removed while the run trains"
        if os.path.lexists(self.path):
            other = csv_files.set_aside(self.path)
            what = f"{self.path.name} was replaced while the run trains, by what is now {other}"
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        atomic.write_parts(self.path, iter(functools.partial(os.read, self.file.fileno(), 1 << 20), b""))
        put_back = inside.append(self.path, 1 if self.file.line_buffering else -1)
        self.file.close()
        self.file = put_back
        notices.warn(f"{what}; the run's own lines are written again")


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as one dict with keys joined by dots, as typed: the name of the algorithm is `algo`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix[:-1] if key == "name" and prefix.count(".") == 1 else f"{prefix}{key}"] = value
    return flat


def _repeated(values: dict[str, Any], step: int) -> bool:
    """Return True if a line of metrics is the evaluation of `step`."""
    return values["step"] == step and "eval/mean_reward" in values


def _step_of_metrics(line: str) -> float:
    """Return the step of a line of metrics.jsonl. Raises one of _UNREADABLE."""
    return plain_json.loads(line)["step"] + 0


def _step_of_episode(line: str) -> float:
    """Return the step of a line of episodes.csv. Raises one of _UNREADABLE, also for the beginning of a line."""
    if not line.endswith("\n"):
        raise ValueError
    return float(line.split(",")[0])  # other programs write 200.0


def check(folder: Path) -> None:
    """Raise CheckpointError for logs to which a resumed run cannot add. Nothing is written.

    The lines of an episodes.csv with other columns could not be told from later ones, nor could those of a log that
    another program has saved in another layout.
    """
    for name, step_of in (("metrics.jsonl", _step_of_metrics), ("episodes.csv", _step_of_episode)):
        with contextlib.suppress(FileNotFoundError):
            path = folder / name
            lines = inside.lines(path)
            if name == "episodes.csv" and not _COLUMNS.startswith(next(lines, "").strip("\r\n")):
                fix = f"put the columns in this order: {_COLUMNS}; or move the file away"
                raise CheckpointError("episodes.csv has other columns than rltrain writes", str(path), fix)
            first = next(lines, "")
            begins = "" if name == "episodes.csv" else _BEGINS
            is_part = not first.endswith("\n") and begins.startswith(first[: len(begins)])  # of a killed process
            if first.strip() and not is_part and not _is_readable(first, step_of):
                fix = "save it in UTF-8, each entry in a line of its own; or move the file away"
                raise CheckpointError(f"{name} has other lines than rltrain writes", str(path), fix)


def _is_readable(line: str, step_of: Callable[[str], float]) -> bool:
    try:
        return step_of(line) is not None
    except _UNREADABLE:
        return False


def _drop_after(path: Path, step: int, step_of: Callable[[str], float], header_lines: int = 0) -> None:
    """Keep the lines up to a step and drop the later ones, whose steps the resumed run trains again.

    The file is replaced in any case: it may be a hard link to one outside. Raises CheckpointError, DiskError.
    """
    unreadable = 0

    def kept() -> Iterator[str]:
        nonlocal unreadable
        for number, line in enumerate(inside.lines(path)):
            try:
                is_kept = line.endswith("\n") if number < header_lines else step_of(line) <= step
            except _UNREADABLE:
                is_kept = False
                # A line without its end is that of a killed process.
                unreadable += line.endswith("\n") and not line.isspace()
            if is_kept:
                yield line if line.endswith("\n") else f"{line}\n"

    if os.path.lexists(path):
        atomic.write_lines(path, kept())
    if unreadable:
        what = f"{unreadable:,} of the lines of {path.name} cannot be read and are left out"
        notices.warn(what)


class Progress:
    """A progress line on stderr that is redrawn in place. If stderr is no terminal: plain lines, a tenth as often."""

    def __init__(self, total_steps: int, every_s: float, enabled: bool, train_s: Callable[[], float]) -> None:
        """train_s: returns the seconds of training so far, without evaluations."""
        self._total_steps = total_steps
        self._terminal = terminal.is_drawable(sys.stderr)
        self._every_s = every_s if self._terminal else every_s * 10
        self._enabled = enabled
        self._train_s = train_s
        self._shown_s = time.monotonic()
        self._window: tuple[int, float] | None = None
        """Step and training time at the last line, to compute the speed."""
        self._step_s: float | None = None
        """Seconds of training for each agent step, mostly of the last lines."""
        self._episode_s = 0.0
        """Seconds for each episode of the last evaluation."""
        self.episodes_left: Callable[[int], int] = lambda step: 0
        """Returns the number of episodes of the evaluations that come after a step."""
        self.learning_starts = 0
        """The step of the first update."""
        self.facts: dict[str, str] = {}
        """Further values to show in the line, by name."""

    def evaluated(self, num_episodes: int, seconds: float) -> None:
        """Note how long an evaluation took: those to come count for the time left."""
        self._episode_s = seconds / max(num_episodes, 1)

    def show(self, step: int, doing: str = "") -> None:
        """Print the progress line if it is due. Call this after every step.

        doing: the current activity to show instead of the speed, such as `evaluating 7 of 20`.
        """
        now = time.monotonic()
        # The time before the first step, such as starting emulators, says nothing of what is to come. Neither does the
        # speed before the first update.
        if (self._window is None and not doing) or (self._window and self._window[0] < self.learning_starts <= step):
            self._window = (step, self._train_s())
        if not self._enabled or now - self._shown_s < self._every_s:
            return
        self._shown_s = now
        parts = [f"{min(step / self._total_steps, 1):4.0%} {step:,}/{self._total_steps:,}"]
        if self._window is not None and step > self._window[0]:
            window_step, window_s = self._window
            self._window = (step, self._train_s())
            step_s = max(self._window[1] - window_s, 1e-9) / (step - window_step)
            if window_step >= self.learning_starts:
                # Half from the last line, half from those before: neither the first steps nor a single line decides.
                self._step_s = step_s if self._step_s is None else (step_s + self._step_s) / 2
            if not doing:
                parts.append(f"{1 / step_s:,.0f} steps/s")
        if doing:
            parts.append(doing)
        if self._step_s is not None:
            left_s = max(self._total_steps - step, 0) * self._step_s + self.episodes_left(step) * self._episode_s
            parts.append(f"{_duration(left_s)} left")
        parts += [f"{key} {value}" for key, value in self.facts.items()]
        # A line of the full width would wrap, and redrawing would not remove the wrapped part.
        line = _fitting(parts, terminal.width(sys.stderr) - 1) if self._terminal else "  ".join(parts)
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """End the progress line with a newline."""
        if self._enabled and self._terminal:
            print(file=sys.stderr)


def _fitting(parts: list[str], width: int) -> str:
    """Join as many parts as fit, so that no word or number is cut. The first one is always there."""
    line = parts[0][:width]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
