"""The frames of a replay in the processor's memory, and what a replay asks of frames wherever they lie.

Legend: M stacks, K frames of a stack, F numbers of a frame.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from torch import Tensor


class Frames(Protocol):
    """One row a slot."""

    @property
    def rows(self) -> "np.ndarray | Tensor":
        """[slots, F]: what `flush` has brought up to date."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        ...

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Store a frame [F]; what is given may change afterwards."""
        ...

    def flush(self) -> None:
        """Bring to `rows` what was written."""
        ...

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> "np.ndarray | Tensor":
        """The frames at slots int64, zeros where blank bool, [M * K, F], as a copy."""
        ...


class HostFrames:
    """NumPy's, the usual place."""

    def __init__(self, num_slots: int, num_numbers: int, dtype: DTypeLike) -> None:
        # np.zeros takes pages from the system only when they are first written: an unfilled replay costs no memory.
        self.rows: np.ndarray = np.zeros((num_slots, num_numbers), dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows.nbytes

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Store a frame."""
        self.rows[slot] = frame

    def flush(self) -> None:
        """Nothing: every frame is in its row at once."""

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> np.ndarray:
        """Taken in one go."""
        frames = np.take(self.rows, slot_MK.ravel(), axis=0)
        frames[blank_MK.ravel()] = 0
        return frames
