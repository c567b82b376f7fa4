"""A binary tree whose inner nodes hold the sum of their children (Schaul et al. 2016, appendix B.2.1).

`find` looks up the index of a point of the total in log2(capacity) steps, so random points give indices in proportion
to their priorities. Compiled with numba.
"""

import numpy as np

from rltrain.fast.numba_cache import compiled


class SumTree:
    """A sum tree of `capacity` priorities, float64, initially 0."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._num_leaves = 1 << max(capacity - 1, 1).bit_length()
        self._nodes = np.zeros(2 * self._num_leaves, np.float64)  # root at 1, children of i at 2i and 2i + 1

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._nodes[1])

    @property
    def nbytes(self) -> int:
        """Bytes of all nodes."""
        return self._nodes.nbytes

    @property
    def priorities(self) -> np.ndarray:
        """All priorities, [capacity], float64. It is a view: do not write to it."""
        return self._nodes[self._num_leaves : self._num_leaves + self.capacity]

    def update(self, index: np.ndarray, priority: np.ndarray) -> None:
        """Set the priorities, [N] float64, at index [N] int64. If an index occurs twice, its last priority counts.

        Raises IndexError or ValueError and changes nothing if an index or a priority is out of range.
        """
        if len(index) == 0:
            return
        fault = _update(self._nodes, self._num_leaves, self.capacity, index, priority)
        if fault == 1:
            raise IndexError(f"index outside 0..{self.capacity - 1}")
        if fault == 2:
            raise ValueError("priorities must be finite and not negative")

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Return the index i with sum(p[:i]) <= mass < sum(p[:i + 1]) for each mass, [N] int64.

        mass: numbers in [0, total), [N] float64. Rounding never leads to an index of priority 0. Raises ValueError if
        all priorities are 0.
        """
        if not self._nodes[1] > 0:
            raise ValueError("the sum tree is empty")
        return _find(self._nodes, self._num_leaves, mass)

    def load(self, priority: np.ndarray) -> None:
        """Replace all priorities by `priority`, [capacity] float64."""
        self.update(np.arange(self.capacity), np.ascontiguousarray(priority, np.float64))


# Both functions loop over levels outside and over the batch inside. The lower levels of a large tree are not in the
# cache, so the path of one index is a chain of cache misses. In this order the misses of different indices overlap.


@compiled
def _update(nodes, num_leaves, capacity, index, priority):  # type: ignore[no-untyped-def]
    for k in range(len(index)):  # check everything first, so that a call with an error changes nothing
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
            # Add the children again instead of adding the difference, so that rounding errors do not accumulate.
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]
        level >>= 1
        shift += 1
    return 0


@compiled
def _find(nodes, num_leaves, mass):  # type: ignore[no-untyped-def]
    rest = mass.copy()
    found = np.ones(len(mass), np.int64)
    level = 1
    while level < num_leaves:
        for k in range(len(mass)):
            node = 2 * found[k]
            left = nodes[node]
            # Never enter a child with sum 0, so that rounding errors of `rest` cannot lead to a leaf of priority 0.
            if left <= 0.0 or (rest[k] >= left and nodes[node + 1] > 0.0):
                rest[k] -= left
                node += 1
            found[k] = node
        level *= 2
    return found - num_leaves
