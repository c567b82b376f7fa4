"""Where a function may be recorded as a graph of kernels (CUDA graphs), and what plain code must know of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rltrain.config.run import RunConfig
from rltrain.system.accelerable import accelerable

_recording = False


def is_recording() -> bool:
    """Whether kernels are being recorded and not run: a value that Python reads now stays for good."""
    return _recording


@contextmanager
def recording() -> Iterator[None]:
    """Kernels launched inside are recorded."""
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False


@accelerable
def recorded(
    function: Callable[..., Any], config: RunConfig, device: torch.device, changed: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Return the function itself; its twin returns one that is recorded at its first calls, where that is possible.

    The function is called by keywords. It draws no random numbers, reads nothing back from the device and has no other
    effects. changed: the tensors that an update steps.
    """
    return function
