"""The interface to a replay buffer's frames, and frames in host memory.

Legend: M stacks, K frames of a stack, F numbers of a frame.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from torch import Tensor


class Frames(Protocol):
    """Frames stored as rows, one for each slot."""

    @property
    def rows(self) -> "np.ndarray | Tensor":
        """All frames, [slots, F]. Call `flush` first."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        ...

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Store a copy of a frame [F]."""
        ...

    def flush(self) -> None:
        """Write all stored frames to `rows`."""
        ...

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> "np.ndarray | Tensor":
        """Return the frames at slot_MK int64, with zeros where blank_MK bool, [M * K, F], as a copy."""
        ...


class HostFrames:
    """Frames in a NumPy array."""

    def __init__(self, num_slots: int, num_numbers: int, dtype: DTypeLike) -> None:
        # The system provides the pages of np.zeros at the first write, so an empty replay buffer uses no memory.
        self.rows: np.ndarray = np.zeros((num_slots, num_numbers), dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows.nbytes

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Store a copy of a frame [F]."""
        self.rows[slot] = frame

    def flush(self) -> None:
        """Do nothing: `write` has written the rows already."""

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> np.ndarray:
        """Return the frames at slot_MK, with zeros where blank_MK, [M * K, F], as a copy."""
        frames = np.take(self.rows, slot_MK.ravel(), axis=0)
        frames[blank_MK.ravel()] = 0
        return frames
