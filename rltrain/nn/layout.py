"""The order in which pixels lie in memory."""

import torch
from torch import Tensor

from rltrain.system.accelerable import accelerable


@accelerable
def channels_last(obs: Tensor) -> Tensor:
    """Return pixels [N, C, H, W] uint8 as convolutions read them: in torch's memory format channels_last."""
    return obs.contiguous(memory_format=torch.channels_last)
