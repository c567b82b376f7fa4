"""Logs of a run: metrics.jsonl and episodes.csv (the source of truth), TensorBoard, and the progress line.

The TensorBoard writer is that of the tensorboard package, which needs no torch. A log that cannot be written prints a
warning and does not end the training.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rltrain.envs.pool import Episode
from rltrain.errors import DiskError, disk_errors
from rltrain.system import atomic

_WIDE = 1000
"""Columns of a terminal whose width is unknown."""


class Logger:
    """The three logs of one run folder."""

    def __init__(
        self, folder: Path, hparams: dict[str, Any], start_step: int | None, evaluates_again: bool = False
    ) -> None:
        """Open the logs.

        hparams: nested settings for TensorBoard's HParams tab. start_step: step from which the run resumes; later lines
        are dropped; None: a new run. evaluates_again: also drop the evaluation of start_step. Raises DiskError.
        """
        self._warned = False
        self._metrics = folder / "metrics.jsonl"
        self._episodes = folder / "episodes.csv"
        if start_step is not None:

            def step_of(line: str) -> float:
                values = json.loads(line)
                return math.inf if evaluates_again and _repeated(values, start_step) else values["step"]

            _drop_after(self._metrics, start_step, step_of)
            _drop_after(self._episodes, start_step, lambda line: int(line.split(",")[0]), header_lines=1)
        with disk_errors("the logs", folder):
            self._metrics_file: TextIO = self._metrics.open("a", buffering=1)
            new = not self._episodes.exists()
            self._episodes_file: TextIO = self._episodes.open("a")
            if new:
                self._episodes_file.write("step,reward,length,frames\n")
            self._writer = EventFileWriter(str(folder), flush_secs=10)
        if start_step is None:
            self._write_hparams(_flatten(hparams))
        else:
            start = SessionLog(status=SessionLog.START)
            self._event(Event(wall_time=time.time(), step=start_step + 1, session_log=start))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Write one line of metrics.jsonl and the same scalars to TensorBoard, without values that are not finite."""
        values = {tag: value for tag, value in values.items() if math.isfinite(value)}
        with self.warned():
            self._metrics_file.write(json.dumps({"step": step, **values}) + "\n")
            self._episodes_file.flush()
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if "/" in tag]
        self._event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def episodes(self, step: int, episodes: list[Episode]) -> None:
        """Write one line of episodes.csv for each finished episode."""
        with self.warned():
            for episode in episodes:
                self._episodes_file.write(
                    f"{step},{episode.reward:.12g},{episode.length_steps},{episode.length_frames}\n"
                )

    def close(self) -> None:
        """Flush and close every file."""
        for file in (self._metrics_file, self._episodes_file, self._writer):
            with self.warned():
                file.close()

    def _event(self, event: Event) -> None:
        with self.warned():
            self._writer.add_event(event)

    def _write_hparams(self, hparams: dict[str, Any]) -> None:
        """Write the settings for TensorBoard's HParams tab."""
        metric = api_pb2.MetricInfo(name=api_pb2.MetricName(tag="eval/mean_reward"))
        infos, session = [], plugin_data_pb2.SessionStartInfo()
        for key, value in sorted(hparams.items()):
            info = api_pb2.HParamInfo(name=key)
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
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=[metric])
        for tag, data in (
            (hparams_metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=experiment)),
            (hparams_metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=session)),
        ):
            value = Summary.Value(tag=tag, metadata=hparams_metadata.create_summary_metadata(data))
            value.tensor.CopyFrom(hparams_metadata.NULL_TENSOR)
            self._event(Event(wall_time=time.time(), summary=Summary(value=[value])))

    @contextlib.contextmanager
    def warned(self) -> Iterator[None]:
        """Turn write errors inside into one warning. Use it only for files that `resume` does not need."""
        try:
            yield
        except (OSError, DiskError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            print(f"rltrain: warning: a log could not be written: {error}", file=sys.stderr)
            self._warned = True


class Silent:
    """The logs of a process that does not write the run folder."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def episodes(self, step: int, episodes: list[Episode]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def warned(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return contextlib.nullcontext()


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as one dict with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _repeated(values: dict[str, Any], step: int) -> bool:
    """Return True if a line of metrics is the evaluation of `step`."""
    return values["step"] == step and "eval/mean_reward" in values


def _drop_after(path: Path, step: int, step_of: Callable[[str], float], header_lines: int = 0) -> None:
    """Keep the lines up to a step and drop the later ones, whose steps the resumed run trains again."""
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_text().splitlines(keepends=True)):
        try:
            keep = number < header_lines or (line.endswith("\n") and step_of(line) <= step)
        except (ValueError, KeyError, TypeError):
            keep = False  # an incomplete line of a killed process
        if keep:
            kept.append(line)
    atomic.write_text(path, "".join(kept))


class Progress:
    """A progress line on stderr that is redrawn in place. If stderr is no terminal: plain lines, a tenth as often."""

    def __init__(self, total_steps: int, every_s: float, enabled: bool, train_s: Callable[[], float]) -> None:
        """train_s: returns the seconds of training so far, without evaluations."""
        self._total_steps = total_steps
        self._terminal = sys.stderr.isatty()
        self._every_s = every_s if self._terminal else every_s * 10
        self._enabled = enabled
        self._train_s = train_s
        self._shown_s = time.monotonic()
        self._begin: tuple[int, float] | None = None
        """Step and time of the first call. The time left excludes the time before it, such as starting emulators."""
        self._window: tuple[int, float] = (0, 0.0)
        """Step and training time of the last line, to compute the speed."""
        self.facts: dict[str, str] = {}
        """Further values to show in the line, by name."""

    def show(self, step: int, doing: str = "") -> None:
        """Print the progress line if it is due. Call this after every step.

        doing: the current activity to show instead of the speed, such as `evaluating`.
        """
        now = time.monotonic()
        if self._begin is None:
            self._begin, self._window = (step, now), (step, self._train_s())
        if not self._enabled or now - self._shown_s < self._every_s:
            return
        self._shown_s = now
        parts = [f"{min(step / self._total_steps, 1):4.0%} {step:,}/{self._total_steps:,}"]
        (begin_step, begin_s), (window_step, window_s) = self._begin, self._window
        if doing:
            parts.append(doing)
        elif step > window_step:
            self._window = (step, self._train_s())
            parts.append(f"{(step - window_step) / max(self._window[1] - window_s, 1e-9):,.0f} steps/s")
        if step > begin_step:
            left_s = (now - begin_s) / (step - begin_step) * max(self._total_steps - step, 0)
            parts.append(f"{_duration(left_s)} left")
        parts += [f"{key} {value}" for key, value in self.facts.items()]
        line = "  ".join(parts)[: _columns() - 1 if self._terminal else None]
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """End the progress line with a newline."""
        if self._enabled and self._terminal:
            print(file=sys.stderr)


def _columns() -> int:
    """Return the width of the terminal. A longer line would wrap, and redrawing would not remove the wrapped part."""
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDE
    return _WIDE


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
