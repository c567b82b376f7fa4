"""The environments of one process of a run, and random numbers that do not depend on the number of processes."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Share:
    """A contiguous range of a run's environments: those of one process."""

    first: int
    """The index of the first environment, over all processes."""
    count: int
    """The environments of this process."""
    total: int
    """The environments of the run."""

    @classmethod
    def of(cls, rank: int, size: int, total: int) -> "Share":
        """Return the share of process `rank` of `size`. Shares differ by at most one environment."""
        first, end = rank * total // size, (rank + 1) * total // size
        return cls(first, end - first, total)

    @property
    def weight(self) -> float:
        """The fraction of the environments, and so of the rows of every minibatch, that this process has."""
        return self.count / self.total

    @property
    def rows(self) -> slice:
        """The rows of this process in an array of all environments."""
        return slice(self.first, self.first + self.count)


class RowGenerator(np.random.Generator):
    """A generator that draws for all environments and returns the rows of one process.

    Every process draws the same numbers, so the generator's state is the same in each, and an environment gets the same
    numbers whatever the number of processes. The first dimension of what is drawn must be the environments.
    """

    def __init__(self, generator: np.random.Generator, share: Share) -> None:
        """The state is shared with `generator`."""
        super().__init__(generator.bit_generator)
        self._share = share

    def __reduce__(self) -> Any:
        raise TypeError("a RowGenerator is a view of another generator")

    def _all(self, size: Any) -> tuple[int, ...]:
        shape = (size,) if isinstance(size, int) else tuple(size)
        assert shape[0] == self._share.count, (
            f"{shape} does not have a row for each of {self._share.count} environments"
        )
        return (self._share.total, *shape[1:])

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Draw Gumbel numbers, [environments, ...]."""
        return super().gumbel(loc, scale, self._all(size))[self._share.rows]

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Draw standard normal numbers, [environments, ...]."""
        return super().standard_normal(self._all(size), dtype)[self._share.rows]

    def integers(self, low: Any, high: Any = None, size: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Draw integers, [environments, ...]."""
        return super().integers(low, high, self._all(size), *args, **kwargs)[self._share.rows]

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Draw uniform numbers in [0, 1), [environments, ...]."""
        return super().random(self._all(size), dtype)[self._share.rows]
