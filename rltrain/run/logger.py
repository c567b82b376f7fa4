"""What a run writes while it goes: metrics.jsonl and episodes.csv (the source of truth), TensorBoard, progress.

TensorBoard's writer comes from the tensorboard package itself: training a table needs no torch. A log that cannot be
written never ends a training.
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
"""Columns of a terminal that does not tell."""


class Logger:
    """The three logs of one run folder.

    start_step: where a resumed run goes on; later lines are dropped, and with `evaluates_again` that step's evaluation.
    """

    def __init__(
        self, folder: Path, hparams: dict[str, Any], start_step: int | None, evaluates_again: bool = False
    ) -> None:
        """Raises DiskError where they cannot be opened."""
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
        """One line of metrics.jsonl and its scalars; what is not finite (an undefined ratio, say) is left out."""
        values = {tag: value for tag, value in values.items() if math.isfinite(value)}
        with self.warned():
            self._metrics_file.write(json.dumps({"step": step, **values}) + "\n")
            self._episodes_file.flush()
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if "/" in tag]
        self._event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def episodes(self, step: int, episodes: list[Episode]) -> None:
        """One line of episodes.csv for each finished episode."""
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
        """Fill TensorBoard's HParams tab, in this run's own file."""
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
        """What cannot be written inside is told and lost: nothing that a resume needs."""
        try:
            yield
        except (OSError, DiskError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            print(f"rltrain: warning: a log could not be written: {error}", file=sys.stderr)
            self._warned = True


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _repeated(values: dict[str, Any], step: int) -> bool:
    """Whether a line of metrics is the evaluation of `step`."""
    return values["step"] == step and "eval/mean_reward" in values


def _drop_after(path: Path, step: int, step_of: Callable[[str], float], header_lines: int = 0) -> None:
    """Keep the lines up to a step: what came after it is about to be trained again."""
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_text().splitlines(keepends=True)):
        try:
            keep = number < header_lines or (line.endswith("\n") and step_of(line) <= step)
        except (ValueError, KeyError, TypeError):
            keep = False  # a line that the killed process had half written
        if keep:
            kept.append(line)
    atomic.write_text(path, "".join(kept))


class Progress:
    """One line on stderr that stays; plain lines, ten times rarer, where stderr is no terminal."""

    def __init__(self, total_steps: int, every_s: float, enabled: bool, train_s: Callable[[], float]) -> None:
        """train_s: the seconds of the run so far without its evaluations."""
        self._total_steps = total_steps
        self._terminal = sys.stderr.isatty()
        self._every_s = every_s if self._terminal else every_s * 10
        self._enabled = enabled
        self._train_s = train_s
        self._shown_s = time.monotonic()
        self._begin: tuple[int, float] | None = None
        """Step and time of the first call: what comes before it, such as starting emulators, comes once."""
        self._window: tuple[int, float] = (0, 0.0)
        """Step and training time of the last line, from which the speed is counted."""
        self.facts: dict[str, str] = {}
        """What else the line says, by name."""

    def show(self, step: int, doing: str = "") -> None:
        """Print where the run stands, when it is due; called after every step, as lines of metrics can be far apart.

        doing: what keeps the steps waiting.
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
        """Leave the line."""
        if self._enabled and self._terminal:
            print(file=sys.stderr)


def _columns() -> int:
    """Width of the terminal: a line that is longer goes on in the next one, which stays when the line is drawn anew."""
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDE
    return _WIDE


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
