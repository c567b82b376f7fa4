"""The tensors of a network that an optimizer steps, and the parameters that each of them contains."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rltrain.nn.layout import fill_gaps


class FlatParameters(Protocol):
    """Parameters that are views of one flat tensor, which the optimizer steps instead (`fast/mlp.py`).

    A module has it as its attribute `flat_parameters`.
    """

    joined: Tensor
    """The flat tensor, [P], a leaf of the autograd graph. The parameters themselves get no gradients."""
    parameters: list[nn.Parameter]

    def parts(self, whole: Tensor) -> list[Tensor]:
        """Split a tensor [P] into views, one for each parameter and of its shape."""
        ...


class Trained:
    """The tensors that an optimizer steps: a network's parameters, or a flat tensor for several of them."""

    def __init__(self, network: nn.Module) -> None:
        """The network must stay on its device from now on."""
        parameters = dict(network.named_parameters())
        fill_gaps(parameters.values())
        names = {parameter: name for name, parameter in parameters.items()}
        self.names = list(parameters)
        """The names of the parameters, in the network's order."""
        self.tensors: list[Tensor] = []
        """The tensors that the optimizer steps, leaves of the autograd graph."""
        self.deferred: Any = None
        """A `fast.deferred.Deferred` on a GPU with asynchronous updates, else None."""
        self._parts: list[tuple[list[str], Callable[[Tensor], list[Tensor]]]] = []
        for module in network.modules():
            flat: FlatParameters | None = getattr(module, "flat_parameters", None)
            if flat is not None:
                assert flat.joined.data_ptr() == flat.parameters[0].data_ptr(), "the parameters have left their tensor"
                self._add(flat.joined, [names.pop(parameter) for parameter in flat.parameters], flat.parts)
        for parameter, name in names.items():
            self._add(parameter, [name], lambda whole: [whole])

    def _add(self, tensor: Tensor, names: list[str], parts: Callable[[Tensor], list[Tensor]]) -> None:
        self.tensors.append(tensor)
        self._parts.append((names, parts))

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients by the names of the parameters. Parameters without a gradient are left out."""
        wholes = [(index, tensor.grad) for index, tensor in enumerate(self.tensors) if tensor.grad is not None]
        found = {name: part for index, whole in wholes for name, part in self.split(index, whole).items()}
        return {name: found[name] for name in self.names if name in found}

    def split(self, index: int, whole: Tensor) -> dict[str, Tensor]:
        """Split a tensor shaped like `tensors[index]` into views, by the names of the parameters.

        A scalar, such as a step count, is returned for each parameter.
        """
        names, parts = self._parts[index]
        return dict(zip(names, parts(whole) if whole.dim() else [whole] * len(names), strict=True))

    def join(self, index: int, by_name: dict[str, Tensor]) -> Tensor:
        """Join tensors by name into one tensor: the inverse of `split`. Raises KeyError or ValueError on a mismatch."""
        first = by_name[self._parts[index][0][0]]
        whole = torch.empty_like(self.tensors[index].detach()) if first.dim() else first.clone()
        for name, part in self.split(index, whole).items():
            if part.shape != by_name[name].shape:
                raise ValueError(f"{name} is {tuple(by_name[name].shape)}, not {tuple(part.shape)}")
            part.copy_(by_name[name])
        return whole
