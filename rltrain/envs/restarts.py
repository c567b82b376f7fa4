"""The budget for replacements of engines or worker processes, which `env.max_restarts` sets."""

import threading

from rltrain.errors import EnvironmentFailure
from rltrain.system import notices

_IN_A_ROW = 3
"""Replacements in a row, without one step in between, after which another replacement would not help."""


class Restarts:
    """A budget for all engines or workers of a pool together. Thread-safe."""

    def __init__(self, num_replaceable: int, max_restarts: int, noun: str) -> None:
        """noun: the word for one of them in messages, such as "engine"."""
        self._max_restarts, self._noun = max_restarts, noun
        self._counts = [0] * num_replaceable
        self._in_a_row = [0] * num_replaceable
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def total(self) -> int:
        """The number of replacements so far."""
        return sum(self._counts)

    def count(self, number: int, failure: EnvironmentFailure) -> int:
        """Count a replacement of `number` and print a warning. Return the number of its replacements so far.

        Raises EnvironmentFailure if the budget is used up, or if `number` has not made a step since it was replaced
        for the third time in a row. So a short run does not end well with an environment that never works.
        """
        with self._lock:
            if self._in_a_row[number] >= _IN_A_ROW:
                what = f"{failure.what}, for the {_IN_A_ROW + 1}th time in a row without a step in between"
                raise EnvironmentFailure(what, failure.where, failure.fix) from failure
            if self._stopped or self.total >= self._max_restarts:
                raise EnvironmentFailure(
                    f"{failure.what}, and {self.total} {self._noun}s were replaced already",
                    "env.max_restarts",
                    "find out what ends them, or set a higher env.max_restarts",
                ) from failure
            self._counts[number] += 1
            self._in_a_row[number] += 1
            count = f"{self.total} of {self._max_restarts}"
        notices.warn(f"{failure.what}; {self._noun} {number} is replaced ({count})")
        return self._counts[number]

    def worked(self, number: int) -> None:
        """Note that `number` has made a step."""
        self._in_a_row[number] = 0

    def stop(self) -> None:
        """Refuse all further replacements."""
        with self._lock:
            self._stopped = True
