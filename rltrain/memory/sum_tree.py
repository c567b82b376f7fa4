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
        if index.min() < 0 or index.max() >= self.capacity:
            raise IndexError(f"index outside 0..{self.capacity - 1}")
        if not (np.isfinite(priority).all() and priority.min() >= 0):
            raise ValueError("priorities must be finite and not negative; has training diverged?")
        _update(self._nodes, self._num_leaves, index, priority)

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


@njit(cache=True)
def _update(nodes, num_leaves, index, priority):  # type: ignore[no-untyped-def]
    for k in range(len(index)):
        node = num_leaves + index[k]
        nodes[node] = priority[k]
        node >>= 1
        while node >= 1:
            # Summed anew rather than shifted by the difference: rounding errors then cannot build up.
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]
            node >>= 1


@njit(cache=True)
def _find(nodes, num_leaves, mass):  # type: ignore[no-untyped-def]
    found = np.empty(len(mass), np.int64)
    for k in range(len(mass)):
        rest = mass[k]
        node = 1
        while node < num_leaves:
            node *= 2
            left = nodes[node]
            # An empty side is never entered, so rounding in `rest` cannot end at an empty leaf.
            if left <= 0.0 or (rest >= left and nodes[node + 1] > 0.0):
                rest -= left
                node += 1
        found[k] = node - num_leaves
    return found
