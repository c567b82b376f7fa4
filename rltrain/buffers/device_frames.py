"""The frames of a replay where the network computes, so that a sample sends numbers of slots there and no pixels."""

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from rltrain.nn.device import to_device

WAITING = 64
"""Frames that are sent at once, at most."""


class DeviceFrames:
    """torch's, on any device; the interface and the numbers of `HostFrames`."""

    def __init__(self, num_slots: int, num_numbers: int, dtype: DTypeLike, device: torch.device) -> None:
        self._dtype, self._device = np.dtype(dtype), device
        kind = torch.from_numpy(np.zeros(0, self._dtype)).dtype
        # One row more, which stays 0: what a stack shows before an episode's first frame.
        self._rows = torch.zeros((num_slots + 1, num_numbers), dtype=kind, device=device)
        self._waiting: dict[int, np.ndarray] = {}
        self.rows = self._rows[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows.nbytes

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Keep a copy until enough have come together, or rows are read: the device is sent to less often."""
        self._waiting[slot] = frame.astype(self._dtype)
        if len(self._waiting) >= WAITING:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            slots = np.fromiter(self._waiting, np.int64, len(self._waiting))
            frames = np.stack(list(self._waiting.values()))
            self._rows.index_copy_(0, to_device(slots, self._device), to_device(frames, self._device))
            self._waiting.clear()

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> Tensor:
        """Taken in one go, on the device."""
        self.flush()
        source = np.where(blank_MK, len(self.rows), slot_MK).ravel()
        return self._rows.index_select(0, to_device(source, self._device))
