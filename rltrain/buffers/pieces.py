"""A large array in pieces, so that a checkpoint writes those alone that changed since an earlier one."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PIECE_BYTES = 8_000_000
"""Of a piece, about. Smaller ones are more files; of larger ones more is written that has not changed."""


class Piece(NamedTuple):
    """Some rows of an array, and a number that grows whenever they change.

    Of two states of one run, in which a piece has the same stamp, it holds the same rows.
    """

    rows: "np.ndarray | Tensor"
    """Where they lie; `array` fetches them."""
    stamp: int

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.rows.nbytes

    def array(self) -> np.ndarray:
        """The rows in the processor's memory: asked only for pieces that are written."""
        return self.rows if isinstance(self.rows, np.ndarray) else self.rows.cpu().numpy()


class Pieces:
    """Rings of rows, [B, L, ...], that are written at their heads alone and saved in pieces of so many rows."""

    def __init__(self, rings: "np.ndarray | Tensor") -> None:
        self._rings = rings
        num_rings, self._length = int(rings.shape[0]), int(rings.shape[1])
        self._num_rows = max(1, PIECE_BYTES // max(1, rings[0, 0].nbytes))
        self._stamps = np.zeros((num_rings, -(-self._length // self._num_rows)), np.int64)
        self._head, self._num_adds, self._used = np.zeros(num_rings, np.int64), 0, 0

    def state_dict(self, head: np.ndarray, num_adds: int, used: int) -> dict[str, Any]:
        """The first `used` rows of every ring, as views.

        head: [B], the rows that are written next. num_adds: calls that moved a head so far, by one or two rows each.
        """
        self._stamp(head, num_adds, used)
        state: dict[str, Any] = {"stamps": self._stamps, "head": self._head, "adds": self._num_adds, "used": self._used}
        state["rows"] = self._num_rows
        for ring, piece in np.ndindex(self._stamps.shape):
            rows = self._rows(ring, piece)
            if len(rows):
                state[f"{ring}-{piece}"] = Piece(rows, int(self._stamps[ring, piece]))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, pieces as arrays. Raises KeyError, ValueError where it does not fit."""
        self._num_rows = int(state["rows"])  # as they were cut when their run began
        expected = (len(self._rings), -(-self._length // self._num_rows))
        if state["stamps"].shape != expected:
            raise ValueError(f"the saved pieces are {state['stamps'].shape}, these {expected}")
        self._stamps, self._head[:] = np.array(state["stamps"]), state["head"]
        self._num_adds, self._used = int(state["adds"]), int(state["used"])
        for ring, piece in np.ndindex(self._stamps.shape):
            rows = self._rows(ring, piece)
            if len(rows):
                _fill(rows, state[f"{ring}-{piece}"])

    def _rows(self, ring: int, piece: int) -> "np.ndarray | Tensor":
        return self._rings[ring, piece * self._num_rows : min((piece + 1) * self._num_rows, self._used)]

    def _stamp(self, head: np.ndarray, num_adds: int, used: int) -> None:
        """Mark what may have changed since the last time."""
        num_new = num_adds - self._num_adds
        if num_new == 0:
            return
        wrapped = 2 * num_new + 2 >= self._length  # two heads do not tell how often one went round
        for ring, (first, last) in enumerate(zip(self._head, head, strict=True)):
            count = self._length if wrapped else (last - first) % self._length + 1
            changed = (first + np.arange(count)) % self._length // self._num_rows
            self._stamps[ring, changed] = num_adds
        # A piece at the growing end gets longer, although its own ring's head may not have come so far.
        self._stamps[:, self._used // self._num_rows : -(-used // self._num_rows)] = num_adds
        self._head[:], self._num_adds, self._used = head, num_adds, used


def _fill(rows: "np.ndarray | Tensor", saved: np.ndarray) -> None:
    """Copy a saved piece to where it belongs. Raises ValueError where it does not fit."""
    dtype = rows.dtype if isinstance(rows, np.ndarray) else rows[:0].cpu().numpy().dtype
    if saved.shape != tuple(rows.shape) or saved.dtype != dtype:
        raise ValueError(f"a saved piece is {saved.dtype} {saved.shape}, not {dtype} {tuple(rows.shape)}")
    if isinstance(rows, np.ndarray):
        rows[:] = saved
    else:
        rows.copy_(rows.new_tensor(saved))
