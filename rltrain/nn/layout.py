"""The memory format of pixels."""

import torch
from torch import Tensor

from rltrain.system.accelerable import accelerable


@accelerable  # twin: fast/cnn.py
def channels_last(obs: Tensor) -> Tensor:
    """Return pixels [N, C, H, W] uint8 in torch's memory format channels_last, which convolutions are fast with."""
    return obs.contiguous(memory_format=torch.channels_last)
