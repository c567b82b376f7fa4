"""How many samples are computed at once, and what happens where memory runs out."""

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from rltrain.config.run import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.nn.recording import is_recording
from rltrain.system import out_of_memory

Result = TypeVar("Result")


class MicroBatches:
    """`micro_batch_size` samples at once; with `oom=split` half as many wherever memory runs out, from then on.

    An attempt that ran out of memory is begun again with nothing changed: parameters and optimizer move only after all
    gradients are there, and an attempt draws no random numbers. The optimizer's own step is not covered: it needs the
    same memory whatever the parts.
    """

    size: int | None
    """Samples computed at once; None: all."""

    def __init__(self, config: RunConfig) -> None:
        self.size = config.micro_batch_size
        self._splits = config.oom == "split"

    def until_it_fits(self, num_samples: int, attempt: Callable[[int], Result]) -> Result:
        """Return `attempt(size)`, trying ever smaller sizes where memory runs out.

        Without `oom=split` too, but then to raise OutOfMemory with a size that fits.
        """
        asked = size = min(self.size or num_samples, num_samples)
        what = ""
        while True:
            try:
                result = attempt(size)
                break
            except Exception as error:
                if is_recording() or not out_of_memory.is_shortage(error):
                    raise  # memory cannot be given back during a recording, which is done without then
                what = what or out_of_memory.describe(error)
                if size == 1:
                    fix = "not even one sample fits: use a smaller network or another device"
                    raise OutOfMemory(what, "network, device", fix) from error
            # Only here, past the error, nothing holds the memory that the attempt had taken.
            _give_back()
            size //= 2
        if size == asked:
            return result
        if not self._splits:
            fix = f"use micro_batch_size={size}, which was tried and fits, or oom=split"
            raise OutOfMemory(what, f"an update of {asked} samples at once", fix)
        self.size = size
        words = f"{what}; from now on gradients are added up over {size} samples at a time: the same mathematics"
        print(f"rltrain: warning: {words}; micro_batch_size={size} does so from the start", file=sys.stderr)
        return result


def _give_back() -> None:
    """Free the memory of a failed attempt, also what torch keeps for later in pieces that may not fit."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
