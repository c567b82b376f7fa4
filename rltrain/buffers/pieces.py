"""Save a large array in pieces, so that a checkpoint writes only the pieces that have changed since an earlier one."""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PIECE_BYTES = 8_000_000
"""The approximate size of a piece. Smaller pieces mean more files; larger pieces rewrite more unchanged rows."""


class Piece(NamedTuple):
    """Some rows of an array, with a stamp that grows whenever they change.

    Two checkpoints of the same run hold the same rows in a piece if its stamp is equal.
    """

    rows: "np.ndarray | Tensor"
    """The rows, as a view; `array` copies them to host memory if they are on a device."""
    stamp: int

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.rows.nbytes

    def array(self) -> np.ndarray:
        """Return the rows in host memory. Called only for pieces that a checkpoint writes."""
        return self.rows if isinstance(self.rows, np.ndarray) else self.rows.cpu().numpy()


class Pieces:
    """Ring buffers of rows, [B, L, ...], that are written only at their heads. They are saved in pieces."""

    def __init__(self, rings: "np.ndarray | Tensor") -> None:
        self._rings = rings
        num_rings, self._length = int(rings.shape[0]), int(rings.shape[1])
        self._num_rows = max(1, PIECE_BYTES // max(1, rings[0, 0].nbytes))
        self._stamps = np.zeros((num_rings, -(-self._length // self._num_rows)), np.int64)
        self._head, self._num_adds, self._used = np.zeros(num_rings, np.int64), 0, 0

    def state_dict(self, head: np.ndarray, num_adds: int, used: int) -> dict[str, Any]:
        """Return the first `used` rows of each ring, as views in pieces.

        head: the row of each ring that is written next, [B]. num_adds: the number of calls so far that moved the heads;
        each call moves a head by one or two rows.
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
        """Restore the state that `state_dict` returned, with arrays for pieces. Raises KeyError or ValueError."""
        self._num_rows = int(state["rows"])  # a run keeps its size of pieces, even if PIECE_BYTES has changed since
        if self._num_rows < 1:
            raise ValueError(f"the saved pieces have {self._num_rows} rows")
        expected = (len(self._rings), -(-self._length // self._num_rows))
        if state["stamps"].shape != expected:
            raise ValueError(f"the saved pieces have the layout {state['stamps'].shape}, not {expected}")
        self._stamps, self._head[:] = np.array(state["stamps"]), state["head"]
        self._num_adds, self._used = int(state["adds"]), int(state["used"])
        for ring, piece in np.ndindex(self._stamps.shape):
            rows = self._rows(ring, piece)
            if len(rows):
                _fill(rows, state[f"{ring}-{piece}"])

    def _rows(self, ring: int, piece: int) -> "np.ndarray | Tensor":
        return self._rings[ring, piece * self._num_rows : min((piece + 1) * self._num_rows, self._used)]

    def _stamp(self, head: np.ndarray, num_adds: int, used: int) -> None:
        """Set the stamp of each piece that may have changed since the last call."""
        num_new = num_adds - self._num_adds
        if num_new == 0:
            return
        wrapped = 2 * num_new + 2 >= self._length  # a head may have passed the whole ring
        for ring, (first, last) in enumerate(zip(self._head, head, strict=True)):
            count = self._length if wrapped else (last - first) % self._length + 1
            changed = (first + np.arange(count)) % self._length // self._num_rows
            self._stamps[ring, changed] = num_adds
        # `used` is the same for all rings, so the last piece of every ring grows, wherever its head is.
        self._stamps[:, self._used // self._num_rows : -(-used // self._num_rows)] = num_adds
        self._head[:], self._num_adds, self._used = head, num_adds, used


def pieces_in(state: dict[str, Any]) -> list[np.ndarray]:
    """Return the pieces in a state that `Pieces.state_dict` returned."""
    return [value for key, value in state.items() if re.fullmatch(r"\d+-\d+", key)]


def _fill(rows: "np.ndarray | Tensor", saved: np.ndarray) -> None:
    """Copy a saved piece to its rows. Raises ValueError if shape or dtype differ."""
    dtype = rows.dtype if isinstance(rows, np.ndarray) else rows[:0].cpu().numpy().dtype
    if saved.shape != tuple(rows.shape) or saved.dtype != dtype:
        raise ValueError(f"a saved piece is {saved.dtype} {saved.shape}, not {dtype} {tuple(rows.shape)}")
    if isinstance(rows, np.ndarray):
        rows[:] = saved
    else:
        rows.copy_(rows.new_tensor(saved))
