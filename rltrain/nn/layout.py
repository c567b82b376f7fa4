"""How pixels and parameters lie in memory."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from rltrain.system.accelerable import accelerable


@accelerable  # twin: fast/cnn.py
def channels_last(obs: Tensor) -> Tensor:
    """Return pixels [N, C, H, W] uint8 in torch's memory format channels_last, which convolutions are fast with."""
    return obs.contiguous(memory_format=torch.channels_last)


def fill_gaps(tensors: Iterable[Tensor]) -> None:
    """Give memory of their own to tensors with gaps between their elements, or with one element for several places.

    torch's fused optimizers (2.13) would walk over the gaps, and beyond the end. A tensor stays the same object.
    """
    for tensor in tensors:
        if not is_lazy(tensor) and not is_dense(tensor):
            tensor.data = tensor.data.contiguous()


def is_dense(tensor: Tensor) -> bool:
    """Return True if the elements fill a piece of memory, in any order of the dimensions. True for sparse tensors."""
    if tensor.layout != torch.strided or tensor.numel() == 0:
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
