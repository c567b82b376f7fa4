"""The times of a run: since its start, in training, and how a window between two log lines was spent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Counts on from what an earlier process of the same run had spent."""

    def __init__(self, step: int, saved: dict[str, Any]) -> None:
        self._wall_before_s = float(saved.get("wall_time_s", 0.0))
        self._train_s = float(saved.get("train_time_s", 0.0))
        self._start_s = self._window_s = time.perf_counter()
        self._window_step = step
        self._phase_s = {"env": 0.0, "learn": 0.0}

    def phase(self, name: str) -> "Phase":
        """Count the time of `env` or `learn`."""
        return Phase(self._phase_s, name)

    def spend(self, name: str, seconds: float) -> None:
        """Count time of `env` or `learn` that was measured elsewhere."""
        self._phase_s[name] += seconds

    @property
    def wall_s(self) -> float:
        """Seconds since the start, over all processes of the run."""
        return round(self._wall_before_s + time.perf_counter() - self._start_s, 3)

    @property
    def train_s(self) -> float:
        """Seconds without evaluations."""
        return round(self._train_s + time.perf_counter() - self._window_s, 3)

    @contextmanager
    def paused(self, step: int) -> Iterator[None]:
        """Leave what happens inside out of training time and speed."""
        self._train_s = self.train_s
        try:
            yield
        finally:
            self._begin_window(step)

    def end_window(self, step: int) -> dict[str, float]:
        """Speed and shares of the time since the last call, for a log line."""
        window_s = max(time.perf_counter() - self._window_s, 1e-9)
        values = {}
        if step > self._window_step:
            values["time/fps"] = round((step - self._window_step) / window_s, 1)
            for name, seconds in self._phase_s.items():
                # Workers of their own go on while the trainer evaluates, and report it in the next window.
                values[f"time/{name}_fraction"] = round(min(seconds / window_s, 1.0), 4)
        self._train_s += window_s
        self._begin_window(step)
        return values

    def _begin_window(self, step: int) -> None:
        self._window_s, self._window_step = time.perf_counter(), step
        for name in self._phase_s:
            self._phase_s[name] = 0.0


class Phase:
    """Adds the time spent inside to its sum, which an error leaves as it was; a generator would take twice as long."""

    __slots__ = ("_name", "_start_s", "_sums_s")

    def __init__(self, sums_s: dict[str, float], name: str) -> None:
        self._sums_s, self._name = sums_s, name

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._sums_s[self._name] += time.perf_counter() - self._start_s
