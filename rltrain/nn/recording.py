"""Mark functions that may be recorded as CUDA graphs, and tell plain code when a recording is in progress."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rltrain.config.run import RunConfig
from rltrain.system.accelerable import accelerable

_recording = False


def is_recording() -> bool:
    """Return true while kernels are recorded instead of run. A value that Python reads now is fixed in the graph."""
    return _recording


@contextmanager
def recording() -> Iterator[None]:
    """Make `is_recording` true inside the `with` block."""
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False


@accelerable  # twin: fast/graphs.py
def recorded(
    function: Callable[..., Any], config: RunConfig, device: torch.device, changed: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Return the function itself. The twin returns a function that is recorded as a CUDA graph in its first calls.

    The function is called with keyword arguments. It must not draw random numbers, read values back from the device or
    have other side effects. changed: the tensors that the function changes, such as trained parameters.
    """
    return function
