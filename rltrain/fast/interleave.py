"""Stacked frames to channels last. Compiled with numba, which is imported only where such frames are read."""

import numpy as np
import torch
from torch import Tensor

from rltrain.fast.numba_cache import compiled


def interleaved(obs: Tensor) -> Tensor:
    """Four planes of bytes, [N, 4, H, W] uint8, contiguous, as the same numbers in channels_last, a copy.

    The four bytes of a pixel are put together as one number, in a fifth of the time that torch needs to move each.
    """
    num, _, height, width = obs.shape
    pixels = np.empty((num, height * width), np.uint32)
    _interleave(obs.numpy().reshape(num, 4, -1), pixels)
    stored = torch.from_numpy(pixels.view(np.uint8).reshape(num, height, width, 4))
    return stored.permute(0, 3, 1, 2)


@compiled
def _interleave(planes, pixels):  # type: ignore[no-untyped-def]
    """planes: [N, 4, P] uint8. pixels: [N, P] uint32, written: the first plane is the lowest byte."""
    eight, sixteen, twenty_four = np.uint32(8), np.uint32(16), np.uint32(24)
    for sample in range(pixels.shape[0]):
        first, second, third, fourth = planes[sample]
        row = pixels[sample]
        for pixel in range(row.size):
            row[pixel] = (
                np.uint32(first[pixel])
                | (np.uint32(second[pixel]) << eight)
                | (np.uint32(third[pixel]) << sixteen)
                | (np.uint32(fourth[pixel]) << twenty_four)
            )
