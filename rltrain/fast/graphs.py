"""Record functions of tensors as CUDA graphs, which launch hundreds of small kernels with one call.

Python and the driver need about 5 us to launch a kernel, and a GPU often needs less to run it. A graph always uses the
memory that it was recorded with, so the inputs of each call are copied there first. A number that Python reads during
the recording is fixed in the graph. Values that change between calls must be inputs or be stored in tensors.
"""

import functools
import gc
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError, causes
from rltrain.math import returns
from rltrain.nn import device as devices
from rltrain.nn import recording
from rltrain.system import notices

WARM_UPS = 3
"""Calls before the recording. In them libraries choose kernels, compilers compile and optimizers create their state."""
MOST = 4
"""The most graphs of one function, one for each set of input shapes, because each graph keeps memory. Inputs with
further shapes are computed without a graph."""

_broken: list[Any] = []
"""Graphs whose recording failed. torch's allocator may still refer to them, so they are kept alive, and nothing more is
recorded in this process."""


def recorded(
    function: Callable[..., Any], config: RunConfig, device: torch.device, changed: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Twin of `nn.recording.recorded`: return the function as a `Graphed` if the config and the device allow it.

    Updates in micro-batches are not recorded, because the number of micro-batches may change.
    """
    in_micro_batches = config.micro_batch_size is not None or config.oom == "split"
    allowed = config.cuda_graphs != "false" and config.algo.supports_cuda_graphs
    if not allowed or not devices.runs_ahead(device) or (changed and in_micro_batches):
        return function
    return Graphed(function, device, changed, required=config.cuda_graphs == "true")


def gae(*args: Any, **kwargs: Any) -> Tensor:
    """Twin of `math.returns.gae`, recorded on a GPU, where it launches about a thousand small kernels."""
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
    """The graph for inputs of one signature, with its memory."""

    inputs: dict[str, Any]
    """The memory that the graph reads."""
    calls: int = 0
    """The number of calls so far."""
    replay: Callable[[], None] | None = None
    """Runs the graph. None before the recording."""
    outputs: Any = None
    """The memory that the graph writes."""


class Graphed:
    """A function that is recorded as a CUDA graph after WARM_UPS calls. Call it with keyword arguments.

    The function must not draw random numbers, read values back from the device or have other side effects.
    """

    def __init__(
        self, function: Callable[..., Any], device: torch.device, changed: Sequence[Tensor] = (), required: bool = False
    ) -> None:
        """changed: the tensors that the function changes in place. required: raise ConfigError if the recording fails.

        Without `required`, a failed recording prints a warning and the function runs without a graph.
        """
        self._function, self._device, self._changed, self._required = function, device, changed, required
        self._known: dict[Any, _Recorded] = {}
        self._stream: Any = None
        self._failed = False

    def __call__(self, **inputs: Any) -> Any:
        """Return the result of the function: tensors, possibly in tuples and dicts, as copies.

        Tensors, arrays, floats and dataclasses of them are copied into the graph's memory. Another shape or dtype, or
        another value of any other type, needs another graph.
        """
        # A network has dropout in trainings only.
        signature = (getattr(self._function, "training", None), *(_signature(value) for value in inputs.values()))
        if self._failed or _broken or (signature not in self._known and len(self._known) == MOST):
            return self._function(**inputs)
        known = self._known.get(signature)
        if known is None:
            static = {name: _static(value, self._device) for name, value in inputs.items()}
            known = self._known[signature] = _Recorded(static)
        for name, value in inputs.items():
            _copy_to_static(known.inputs[name], value, self._device)
        known.calls += 1
        if known.calls <= WARM_UPS:
            return self._warm_up(known.inputs)
        if known.replay is None:
            self._try_to_record(known)
        if known.replay is None:  # not inside `except`: there the traceback still holds the memory of the attempt
            return self._function(**inputs)
        known.replay()
        # A replay does not increment the versions of parameters, which tell when cached conversions are outdated.
        torch.autograd.graph.increment_version(self._changed)
        return _copies(known.outputs)

    def _warm_up(self, inputs: dict[str, Any]) -> Any:
        """Call the function on the stream of the later recording, as torch requires of the first calls."""
        with torch.cuda.device(self._device):
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                outputs = self._function(**inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _try_to_record(self, known: _Recorded) -> None:
        """Record the function. If that fails, raise ConfigError or print a warning, and drop the earlier graphs."""
        try:
            known.replay, known.outputs = self._record(known.inputs)
        except Exception as error:
            if self._required:
                what = f"the network cannot be recorded as a CUDA graph ({_reason(error)})"
                fix = "use cuda_graphs=auto, which runs without a graph then"
                raise ConfigError(what, "cuda_graphs", fix) from error
            self._failed = True
            self._known.clear()
            notices.warn(f"no CUDA graph, so training is slower ({_reason(error)})")

    def _record(self, inputs: dict[str, Any]) -> tuple[Callable[[], None], Any]:
        """Record the function without running it. Return a function that replays the graph, and the output tensors."""
        gc.collect()  # a collection during the recording could free memory, which cannot be recorded
        with_gradients = torch.is_grad_enabled()
        # Not in inference mode: up to torch 2.10 the first graph would create an inference tensor that later graphs
        # write to.
        with torch.inference_mode(False), torch.set_grad_enabled(with_gradients), torch.cuda.device(self._device):
            graph, stream_before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            try:
                with recording.recording(), torch.cuda.graph(graph, stream=self._stream):
                    outputs = self._function(**inputs)
            except BaseException:
                _broken.append(graph)
                raise
            finally:
                torch.cuda.set_stream(stream_before)  # torch does not restore it if the end of the recording fails
        return graph.replay, outputs


def _signature(value: Any) -> Any:
    """Return what must be equal in two calls that use the same graph."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.stride()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str
    if isinstance(value, float):
        return float
    if inspect.ismethod(value):
        return value.__func__, id(value.__self__)
    return tuple(map(_signature, vars(value).values())) if is_dataclass(value) else (type(value), id(value))


def _static(value: Any, device: torch.device) -> Any:
    """Return an empty tensor for a tensor, array or float, and the same for the fields of dataclasses; else `value`."""
    if isinstance(value, Tensor):
        return torch.empty_like(value)
    if isinstance(value, np.ndarray):
        return torch.empty_like(torch.from_numpy(value), device=device)
    if isinstance(value, float):
        return torch.empty((), device=device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _static(field, device) for name, field in vars(value).items()})
    return value


def _copy_to_static(static: Any, value: Any, device: torch.device) -> None:
    if isinstance(value, Tensor):
        static.copy_(value)
    elif isinstance(value, np.ndarray):
        static.copy_(devices.staged(value, device), non_blocking=True)
    elif isinstance(value, float):
        static.fill_(value)
    elif is_dataclass(value):
        for name, field in vars(value).items():
            _copy_to_static(getattr(static, name), field, device)


def _reason(error: BaseException) -> str:
    """Describe the first error of a chain: the end of a failed recording raises another error."""
    *_, first = causes(error)
    return " ".join(f"{type(first).__name__}: {first}".split())[:200]


def _copies(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.clone()
    if isinstance(outputs, dict):
        return {name: _copies(value) for name, value in outputs.items()}
    return tuple(map(_copies, outputs)) if isinstance(outputs, tuple) else outputs
