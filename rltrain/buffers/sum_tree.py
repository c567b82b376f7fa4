"""A binary tree whose inner nodes hold the sum of their children (Schaul et al. 2016, appendix B.2.1).

Draws an index in proportion to its priority in log2(capacity) steps. Compiled with numba, which is imported here alone.
"""

import numpy as np
from numba import njit


class SumTree:
    """`capacity` priorities, float64, all 0 at first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._num_leaves = 1 << max(capacity - 1, 1).bit_length()
        self._nodes = np.zeros(2 * self._num_leaves, np.float64)  # root at 1, children of i at 2i and 2i + 1

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    @property
    def nbytes(self) -> int:
        """Bytes of all nodes."""
        return self._nodes.nbytes

    @property
    def priorities(self) -> np.ndarray:
        """Every priority, [capacity], float64; a view, read it only."""
        return self._nodes[self._num_leaves : self._num_leaves + self.capacity]

    def update(self, index: np.ndarray, priority: np.ndarray) -> None:
        """Set priorities, [N] float64, at index [N] int64; where an index comes twice the last one holds."""
        if len(index) == 0:
            return
        fault = _update(self._nodes, self._num_leaves, self.capacity, index, priority)
        if fault == 1:
            raise IndexError(f"index outside 0..{self.capacity - 1}")
        if fault == 2:
            raise ValueError("priorities must be finite and not negative")

    def find(self, mass: np.ndarray) -> np.ndarray:
        """For each mass [N] float64 in [0, total): the index i with sum(p[:i]) <= mass < sum(p[:i + 1]), [N] int64.

        Never an index of priority 0, whatever the rounding.
        """
        if not self._nodes[1] > 0:
            raise ValueError("the sum tree is empty")
        return _find(self._nodes, self._num_leaves, mass)

    def load(self, priority: np.ndarray) -> None:
        """Replace all priorities by priority [capacity], float64."""
        self.update(np.arange(self.capacity), np.ascontiguousarray(priority, np.float64))


# Both walk level by level with the batch inside, so that the cache misses of different indices overlap: the bottom
# levels of a large tree lie outside the cache, and one index's path is a chain of misses.


@njit(cache=True)
def _update(nodes, num_leaves, capacity, index, priority):  # type: ignore[no-untyped-def]
    for k in range(len(index)):  # checked first: a refused call changes nothing
        if index[k] < 0 or index[k] >= capacity:
            return 1
        if not (priority[k] >= 0.0 and priority[k] < np.inf):
            return 2
    for k in range(len(index)):
        nodes[num_leaves + index[k]] = priority[k]
    level = num_leaves >> 1  # first node of the level
    shift = 1
    while level >= 1:
        for k in range(len(index)):
            node = (num_leaves + index[k]) >> shift
            # Summed anew rather than shifted by the difference: rounding errors then cannot build up.
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]
        level >>= 1
        shift += 1
    return 0


@njit(cache=True)
def _find(nodes, num_leaves, mass):  # type: ignore[no-untyped-def]
    rest = mass.copy()
    found = np.ones(len(mass), np.int64)
    level = 1
    while level < num_leaves:
        for k in range(len(mass)):
            node = 2 * found[k]
            left = nodes[node]
            # An empty side is never entered, so rounding in `rest` cannot end at an empty leaf.
            if left <= 0.0 or (rest[k] >= left and nodes[node + 1] > 0.0):
                rest[k] -= left
                node += 1
            found[k] = node
        level *= 2
    return found - num_leaves
