"""A replay buffer's frames on the network's device. Sampling then sends only slot numbers to the device, no pixels."""

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from rltrain.nn.device import to_device

WAITING = 64
"""The most frames that wait on the host before they are sent to the device together."""


class DeviceFrames:
    """Frames in a torch tensor on any device. Implements `Frames`, with the same results as `HostFrames`."""

    def __init__(self, num_slots: int, num_numbers: int, dtype: DTypeLike, device: torch.device) -> None:
        self._dtype, self._device = np.dtype(dtype), device
        kind = torch.from_numpy(np.zeros(0, self._dtype)).dtype
        # The last row stays 0. Stacks use it for frames before an episode's first one.
        self._rows = torch.zeros((num_slots + 1, num_numbers), dtype=kind, device=device)
        self._waiting: dict[int, np.ndarray] = {}
        self.rows = self._rows[:-1]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows.nbytes

    def write(self, slot: int, frame: np.ndarray) -> None:
        """Store a copy of a frame [F]. It is sent to the device with the next `flush`, or after WAITING frames."""
        self._waiting[slot] = frame.astype(self._dtype)
        if len(self._waiting) >= WAITING:
            self.flush()

    def flush(self) -> None:
        """Send the waiting frames to the device."""
        if self._waiting:
            slots = np.fromiter(self._waiting, np.int64, len(self._waiting))
            frames = np.stack(list(self._waiting.values()))
            self._rows.index_copy_(0, to_device(slots, self._device), to_device(frames, self._device))
            self._waiting.clear()

    def stacks(self, slot_MK: np.ndarray, blank_MK: np.ndarray) -> Tensor:
        """Return the frames at slot_MK, with zeros where blank_MK, [M * K, F], as a copy on the device."""
        self.flush()
        source = np.where(blank_MK, len(self.rows), slot_MK).ravel()
        return self._rows.index_select(0, to_device(source, self._device))
