"""The size of micro-batches, and smaller ones when memory runs out."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from rltrain.config.run import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.nn.recording import is_recording
from rltrain.system import notices, out_of_memory

Result = TypeVar("Result")


class MicroBatches:
    """The number of samples computed at once: `micro_batch_size`. With `oom=split` it is halved when memory runs out.

    An attempt that ran out of memory can be repeated, because it changes nothing: parameters and optimizer change only
    after all gradients are complete, and an attempt draws no random numbers. The optimizer step itself is not covered,
    because it needs the same memory for every size.
    """

    size: int | None
    """Samples computed at once. None means the whole batch."""

    def __init__(self, config: RunConfig) -> None:
        self.size = config.micro_batch_size
        self._splits = config.oom == "split"

    def until_it_fits(self, num_samples: int, attempt: Callable[[int], Result]) -> Result:
        """Return `attempt(size)`, with half the size after each attempt that ran out of memory.

        Without `oom=split` it raises OutOfMemory instead of returning, and the error names a size that fits.
        """
        asked = size = min(self.size or num_samples, num_samples)
        what = ""
        while True:
            try:
                result = attempt(size)
                break
            except Exception as error:
                if is_recording() or not out_of_memory.is_shortage(error):
                    raise  # memory cannot be freed while a CUDA graph is recorded; the caller goes on without a graph
                what = what or out_of_memory.describe(error)
                if size == 1:
                    fix = "not even one sample fits: use a smaller network or another device"
                    raise OutOfMemory(what, "network, device", fix) from error
            # Not inside `except`: there the error's traceback still holds the memory of the attempt.
            _free_memory()
            size //= 2
        if size == asked:
            return result
        if not self._splits:
            fix = f"use micro_batch_size={size}, which was tried and fits, or oom=split"
            raise OutOfMemory(what, f"an update of {asked} samples at once", fix)
        self.size = size
        words = f"{what}; from now on gradients are added up over {size} samples at a time: the same mathematics"
        notices.warn(f"{words}; use micro_batch_size={size} to start with this size")
        return result


def _free_memory() -> None:
    """Free the memory of a failed attempt, including torch's cache, whose blocks may have the wrong sizes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
