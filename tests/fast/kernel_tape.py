"""CUDA graphs in miniature, on the CPU: what torch computes goes to a tape and is computed again on the same memory.

Nothing of Python runs in a replay, so a number that was read, a choice that was made or an array of NumPy's while the
tape was running shows as a difference from the computation itself.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rltrain.fast import accelerate, cnn, graphs, mlp
from rltrain.nn import device as devices
from rltrain.nn import layout, recording


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """Records every operation; refuses those by which Python would read a number."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, list[tuple[int, torch.Tensor]]]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal"):
            raise RuntimeError(f"{func} cannot be recorded")
        kwargs = kwargs or {}
        self._keep_what_changes(func, args, kwargs)
        outputs = func(*args, **kwargs)
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}
        places = enumerate(tree_leaves(outputs))
        new = [(n, leaf) for n, leaf in places if isinstance(leaf, torch.Tensor) and _address(leaf) not in given]
        self._made |= {_address(leaf) for _, leaf in new}
        self.steps.append((func, args, kwargs, new))
        return outputs

    def _keep_what_changes(self, func: Any, args: Any, kwargs: Any) -> None:
        for number, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[number] if number < len(args) else kwargs.get(argument.name)
                for tensor in _tensors(value):
                    if _address(tensor) not in self._made | self._before.keys():
                        storage = tensor.untyped_storage()
                        self._before[_address(tensor)] = storage, storage.clone()

    def undo(self) -> None:
        """As recording a CUDA graph changes nothing."""
        for storage, before in self._before.values():
            storage.copy_(before)

    def replay(self) -> None:
        """Compute everything again; what was new memory then is written to."""
        with torch.no_grad():
            for func, args, kwargs, new in self.steps:
                leaves = tree_leaves(func(*args, **kwargs))
                for place, kept in new:
                    kept.copy_(leaves[place])


def _record(graphed: graphs.Graphed, inputs: dict[str, Any]) -> tuple[Callable[[], None], Any]:
    tape = Tape()
    with recording.recording(), tape:
        outputs = graphed._function(**inputs)
    tape.undo()
    return tape.replay, outputs


def pretend_cuda(monkeypatch: Any) -> list[graphs.Graphed]:
    """Let the CPU take the ways of CUDA: modules, checks afterwards, graphs. Returns a list of what was recorded.

    The twins that are for the processor alone are left out.
    """
    recorded = []

    def record(graphed: graphs.Graphed, inputs: dict[str, Any]) -> tuple[Callable[[], None], Any]:
        recorded.append(graphed)
        return _record(graphed, inputs)

    monkeypatch.setattr(devices, "runs_ahead", lambda device: True)
    monkeypatch.setattr(mlp, "_fits", lambda torso: False)
    monkeypatch.setattr(cnn, "fits", lambda layers: False)
    twins = [(function, twin) for function, twin in accelerate.TWINS if function is not layout.channels_last]
    monkeypatch.setattr(accelerate, "TWINS", twins)
    monkeypatch.setattr(layout.channels_last, "current", layout.channels_last.plain)
    graphs._graphed_gae.cache_clear()
    monkeypatch.setattr(graphs.Graphed, "_warm_up", lambda graphed, inputs: graphed._function(**inputs))
    monkeypatch.setattr(graphs.Graphed, "_record", record)
    return recorded
