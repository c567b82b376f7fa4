"""Functions of tensors as CUDA graphs: hundreds of small kernels are launched at once, as they were recorded.

Python and the driver need some 5 us to launch a kernel, a GPU often less to run it. A graph runs again on the memory
that it was recorded with; so what a function is given is copied there first, and what changes from call to call must be
among it or lie in tensors: a number that Python has read while recording stays for good.
"""

import functools
import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError
from rltrain.math import returns
from rltrain.nn import device as devices
from rltrain.nn import recording

WARM_UPS = 3
"""Calls before a function is recorded: libraries choose kernels, compilers compile, optimizers make their state."""
MOST = 4
"""Graphs of one function, for inputs of different shapes; each keeps memory. More shapes are computed without."""

_broken: list[Any] = []
"""Graphs whose recording failed. torch's allocator may point to one for as long as it records; so they are kept, and
nothing more is recorded."""


def recorded(
    function: Callable[..., Any], config: RunConfig, device: torch.device, changed: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Twin of `nn.recording.recorded`: the function as `Graphed` where the configuration and the device allow it.

    Updates in micro-batches are not recorded: how many parts they have may change.
    """
    in_parts = config.micro_batch_size is not None or config.oom == "split"
    allowed = config.cuda_graphs != "false" and config.algo.supports_cuda_graphs
    if not allowed or not devices.runs_ahead(device) or (changed and in_parts):
        return function
    return Graphed(function, device, changed, required=config.cuda_graphs == "true")


def gae(*args: Any, **kwargs: Any) -> Tensor:
    """Twin of `math.returns.gae`: recorded on a GPU, where it is a thousand small kernels."""
    bound = inspect.signature(returns.gae.plain).bind(*args, **kwargs).arguments
    device = bound["reward_TB"].device
    if not devices.runs_ahead(device):
        return returns.gae.plain(*args, **kwargs)
    return _graphed_gae(device)(**bound)


@functools.cache
def _graphed_gae(device: torch.device) -> "Graphed":
    return Graphed(returns.gae.plain, device)


@dataclass
class _Recorded:
    """What belongs to inputs of one kind."""

    inputs: dict[str, Any]
    calls: int = 0
    replay: Callable[[], None] | None = None
    outputs: Any = None


class Graphed:
    """Called by keywords, like the function; draws no random numbers, reads nothing back and has no other effects."""

    def __init__(
        self, function: Callable[..., Any], device: torch.device, changed: Sequence[Tensor] = (), required: bool = False
    ) -> None:
        """required: raise ConfigError where recording fails, instead of going on without."""
        self._function, self._device, self._changed, self._required = function, device, changed, required
        self._known: dict[Any, _Recorded] = {}
        self._stream: Any = None
        self._failed = False

    def __call__(self, **inputs: Any) -> Any:
        """What the function returns, tensors in tuples and dicts, as copies.

        Tensors, arrays, floats and dataclasses of them may change from call to call; anything else makes another graph.
        """
        kind = tuple(_kind(value) for value in inputs.values())
        if self._failed or _broken or (kind not in self._known and len(self._known) == MOST):
            return self._function(**inputs)
        known = self._known.get(kind)
        if known is None:
            fixed = {name: _fixed(value, self._device) for name, value in inputs.items()}
            known = self._known[kind] = _Recorded(fixed)
        for name, value in inputs.items():
            _fill(known.inputs[name], value, self._device)
        known.calls += 1
        if known.calls <= WARM_UPS:
            return self._aside(known.inputs)
        if known.replay is None:
            self._try_to_record(known)
        if known.replay is None:  # only here, past the error, nothing holds the memory that it had taken
            return self._function(**inputs)
        known.replay()
        # What was made from parameters is known to be old by their version, which a replay leaves as it was.
        torch.autograd.graph.increment_version(self._changed)
        return _copies(known.outputs)

    def _aside(self, inputs: dict[str, Any]) -> Any:
        """A call as it is, on the stream that is recorded later: torch wants the first ones to be made there."""
        with torch.cuda.device(self._device):
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                outputs = self._function(**inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _try_to_record(self, known: _Recorded) -> None:
        """Record, or tell that it cannot be and forget what was recorded before."""
        try:
            known.replay, known.outputs = self._record(known.inputs)
        except Exception as error:
            if self._required:
                fix = "use cuda_graphs=auto, which goes on without"
                raise ConfigError(f"the network cannot be recorded ({_reason(error)})", "cuda_graphs", fix) from error
            self._failed = True
            self._known.clear()
            print(f"rltrain: warning: no CUDA graph, so slower ({_reason(error)})", file=sys.stderr)

    def _record(self, inputs: dict[str, Any]) -> tuple[Callable[[], None], Any]:
        """How to do it again, and where the outputs will be. Nothing is done yet."""
        gc.collect()  # or it might free memory in the midst, which cannot be recorded
        with_gradients = torch.is_grad_enabled()
        # Never in inference mode: up to torch 2.10 the first graph makes a tensor there that later ones write to.
        with torch.inference_mode(False), torch.set_grad_enabled(with_gradients), torch.cuda.device(self._device):
            graph, stream_before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            try:
                with recording.recording(), torch.cuda.graph(graph, stream=self._stream):
                    outputs = self._function(**inputs)
            except BaseException:
                _broken.append(graph)
                raise
            finally:
                torch.cuda.set_stream(stream_before)  # where ending the recording failed, torch leaves its own
        return graph.replay, outputs


def _kind(value: Any) -> Any:
    """What must be equal for the same graph to do."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.stride()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str
    if isinstance(value, float):
        return float
    if inspect.ismethod(value):
        return value.__func__, id(value.__self__)
    return tuple(map(_kind, vars(value).values())) if is_dataclass(value) else (type(value), id(value))


def _fixed(value: Any, device: torch.device) -> Any:
    """Memory of its own for a tensor, an array or a float; anything else itself."""
    if isinstance(value, Tensor):
        return torch.empty_like(value)
    if isinstance(value, np.ndarray):
        return torch.empty_like(torch.from_numpy(value), device=device)
    if isinstance(value, float):
        return torch.empty((), device=device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _fixed(field, device) for name, field in vars(value).items()})
    return value


def _fill(fixed: Any, value: Any, device: torch.device) -> None:
    if isinstance(value, Tensor):
        fixed.copy_(value)
    elif isinstance(value, np.ndarray):
        fixed.copy_(devices.staged(value, device), non_blocking=True)
    elif isinstance(value, float):
        fixed.fill_(value)
    elif is_dataclass(value):
        for name, field in vars(value).items():
            _fill(getattr(fixed, name), field, device)


def _reason(error: BaseException) -> str:
    """What went wrong first: ending a recording that has failed raises another error."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _copies(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.clone()
    if isinstance(outputs, dict):
        return {name: _copies(value) for name, value in outputs.items()}
    return tuple(map(_copies, outputs)) if isinstance(outputs, tuple) else outputs
