"""The gradient of a batch, computed in parts that fit in memory and added up: the same mathematics in less memory."""

import gc
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from rltrain import cuda_graphs, out_of_memory
from rltrain.config import RunConfig
from rltrain.errors import OutOfMemory

Result = TypeVar("Result")


class MicroBatches:
    """How many samples are computed at once: `micro_batch_size`, and with `oom=split` half as many wherever memory
    runs out, from then on.

    What ran out of memory is begun again with nothing changed: parameters and optimizer move only after all gradients
    are there, and the functions given here draw no random numbers. The optimizer's own step is not covered: it needs
    the same memory whatever the parts.
    """

    size: int | None
    """Samples computed at once; None: all."""

    def __init__(self, run_config: RunConfig) -> None:
        self.size = run_config.micro_batch_size
        self._splits = run_config.oom == "split"
        self._compiles, self._compile_s = run_config.compile, 0.0

    def accumulate_gradients(
        self,
        optimizer: torch.optim.Optimizer,
        num_samples: int,
        loss_of: Callable[[slice], tuple[Tensor, dict[str, Any]]],
    ) -> dict[str, Any]:
        """Put the gradient of the mean loss over `num_samples` samples in place of the optimizer's last ones.

        `loss_of(rows)` gives the mean loss of these samples, (), and metrics that are means over them; it may be called
        again for the same rows. Returns the metrics of all. Raises OutOfMemory.
        """

        def attempt(size: int) -> dict[str, Any]:
            optimizer.zero_grad()
            if size >= num_samples:
                loss, metrics = loss_of(slice(0, num_samples))
                loss.backward()
                return metrics
            total: dict[str, Any] = {}
            for rows, share in _parts(num_samples, size):
                loss, metrics = loss_of(rows)
                (share * loss).backward()
                for tag, value in metrics.items():
                    total[tag] = total.get(tag, 0) + share * value
            return total

        start_s = time.perf_counter()
        metrics = self._until_it_fits(num_samples, attempt)
        if not self._compiles:
            return metrics
        # The first gradient is where torch compiles, forwards and backwards.
        self._compile_s = self._compile_s or time.perf_counter() - start_s
        return metrics | {"time/compile_s": self._compile_s}

    def infer(self, num_samples: int, values_of: Callable[[slice], Tensor]) -> Tensor:
        """`values_of(rows)`, [len(rows), ...], of all samples, without gradients. Raises OutOfMemory."""

        def attempt(size: int) -> Tensor:
            with torch.inference_mode():
                return torch.cat([values_of(rows) for rows, _ in _parts(num_samples, size)])

        return self._until_it_fits(num_samples, attempt)

    def _until_it_fits(self, num_samples: int, attempt: Callable[[int], Result]) -> Result:
        """`attempt(size)` in ever smaller parts; without `oom=split` too, so as to say which size fits."""
        asked = size = min(self.size or num_samples, num_samples)
        what = ""
        while True:
            try:
                result = attempt(size)
                break
            except Exception as error:
                if cuda_graphs.is_recording() or not out_of_memory.is_shortage(error):
                    raise  # memory cannot be given back during a recording, which is done without then
                what = what or out_of_memory.describe(error)
                if size == 1:
                    fix = "not even one sample fits: use a smaller network or another device"
                    raise OutOfMemory(what, "network, device", fix) from error
            # Only here, past the error, nothing holds what the attempt had taken.
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


def _parts(num_samples: int, size: int) -> list[tuple[slice, float]]:
    """Slices of at most `size` samples, in order, each with its share of all."""
    starts = range(0, num_samples, size)
    parts = [slice(start, min(start + size, num_samples)) for start in starts]
    return [(rows, (rows.stop - rows.start) / num_samples) for rows in parts]


def _give_back() -> None:
    """Let go of what a failed attempt held, also of what torch keeps for later in pieces that may not fit."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
