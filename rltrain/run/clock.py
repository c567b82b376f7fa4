"""Times of a run: total, in training, and the shares of each window between two log lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter  # an environment may freeze the module's
from typing import Any


class Clock:
    """Measures the times of a run, over all processes of the run."""

    def __init__(self, step: int, saved: dict[str, Any]) -> None:
        """saved: the times of earlier processes, from a checkpoint."""
        self._wall_before_s = float(saved.get("wall_time_s", 0.0))
        self._train_s = float(saved.get("train_time_s", 0.0))
        self._start_s = self._window_s = perf_counter()
        self._window_step = step
        self._phase_s = {"env": 0.0, "learn": 0.0}
        self._paused_s = 0.0
        """Seconds of evaluations since the last `end_window`."""

    def phase(self, name: str) -> "Phase":
        """Return a context manager that counts the time inside as `env` or `learn`."""
        return Phase(self._phase_s, name)

    def spend(self, name: str, seconds: float) -> None:
        """Add seconds of `env` or `learn` that were measured elsewhere."""
        self._phase_s[name] += seconds

    @property
    def wall_s(self) -> float:
        """Seconds since the start of the run, over all its processes."""
        return round(self._wall_before_s + perf_counter() - self._start_s, 3)

    @property
    def train_s(self) -> float:
        """Seconds of training, without evaluations."""
        return round(self._train_s + perf_counter() - self._window_s, 3)

    @contextmanager
    def paused(self, step: int) -> Iterator[None]:
        """Exclude the time inside from the training time and speed."""
        self._train_s = self.train_s
        start_s = perf_counter()
        try:
            yield
        finally:
            self._paused_s += perf_counter() - start_s
            self._begin_window(step)

    def end_window(self, step: int) -> dict[str, float]:
        """Return time/fps and the fraction of each phase since the last call, and start a new window.

        time/eval_fraction is the share of evaluations in all of the time since the last call; the other fractions are
        shares of the training time since then or since the last evaluation.
        """
        window_s = max(perf_counter() - self._window_s, 1e-9)
        values = {}
        if step > self._window_step:
            values["time/fps"] = round((step - self._window_step) / window_s, 1)
            for name, seconds in self._phase_s.items():
                # Worker processes go on while the trainer evaluates and report this time in the next window.
                values[f"time/{name}_fraction"] = round(min(seconds / window_s, 1.0), 4)
            values["time/eval_fraction"] = round(self._paused_s / (self._paused_s + window_s), 4)
        self._paused_s = 0.0
        self._train_s += window_s
        self._begin_window(step)
        return values

    def _begin_window(self, step: int) -> None:
        self._window_s, self._window_step = perf_counter(), step
        for name in self._phase_s:
            self._phase_s[name] = 0.0


class Phase:
    """A context manager that adds the time inside to its sum, unless an error occurs.

    It is a class because a generator-based context manager takes twice as long.
    """

    __slots__ = ("_name", "_start_s", "_sums_s")

    def __init__(self, sums_s: dict[str, float], name: str) -> None:
        self._sums_s, self._name = sums_s, name

    def __enter__(self) -> None:
        self._start_s = perf_counter()

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._sums_s[self._name] += perf_counter() - self._start_s
