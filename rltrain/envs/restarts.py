"""How often what runs a pool's environments may be replaced before the run ends."""

import sys
import threading

from rltrain.errors import EnvironmentFailure


class Restarts:
    """A budget over all engines or workers of a pool, which may ask from threads of their own."""

    def __init__(self, num_replaceable: int, max_restarts: int, noun: str) -> None:
        """`noun` is what messages call one of them."""
        self._max_restarts, self._noun = max_restarts, noun
        self._counts = [0] * num_replaceable
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def total(self) -> int:
        """How many were replaced."""
        return sum(self._counts)

    def count(self, number: int, failure: EnvironmentFailure) -> int:
        """Allow one more in place of `number`, and say why; returns how often this one has now been replaced.

        Raises EnvironmentFailure where the budget is spent.
        """
        with self._lock:
            if self._stopped or self.total >= self._max_restarts:
                raise EnvironmentFailure(
                    f"{failure.what}, and {self.total} {self._noun}s were replaced already",
                    "env.max_restarts",
                    "see what ends them; a higher env.max_restarts allows more",
                ) from failure
            self._counts[number] += 1
            count = f"{self.total} of {self._max_restarts}"
        print(f"rltrain: warning: {failure.what}; {self._noun} {number} is replaced ({count})", file=sys.stderr)
        return self._counts[number]

    def stop(self) -> None:
        """Allow none any more."""
        with self._lock:
            self._stopped = True
