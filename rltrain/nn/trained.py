"""What an optimizer steps of a network, by the names of the network's parameters."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class FlatParameters(Protocol):
    """Several parameters that lie in one tensor, which is stepped in their place (`fast/mlp.py` makes them).

    A module has one as its attribute `flat_parameters`.
    """

    joined: Tensor
    """[P], a leaf of the graph; the parameters are views of it and get no gradients."""
    parameters: list[nn.Parameter]

    def parts(self, whole: Tensor) -> list[Tensor]:
        """Return what of a tensor [P] belongs to each parameter: views of their shapes."""
        ...


class Trained:
    """The tensors that an optimizer steps: the network's parameters, or in place of many the one that holds them."""

    def __init__(self, network: nn.Module) -> None:
        """The network must stay on its device from now on."""
        parameters = dict(network.named_parameters())
        names = {parameter: name for name, parameter in parameters.items()}
        self.names = list(parameters)
        """Of the parameters, in the network's order."""
        self.tensors: list[Tensor] = []
        """What is stepped, leaves of the graph."""
        self.deferred: Any = None
        """On a GPU: what an update leaves there, so that the host need not wait (`fast/deferred.py`)."""
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
        """Return the gradient of every parameter that has one, by its name."""
        wholes = [(index, tensor.grad) for index, tensor in enumerate(self.tensors) if tensor.grad is not None]
        found = {name: part for index, whole in wholes for name, part in self.split(index, whole).items()}
        return {name: found[name] for name in self.names if name in found}

    def split(self, index: int, whole: Tensor) -> dict[str, Tensor]:
        """Return what of a tensor like `tensors[index]` belongs to each parameter in it, by its name: views.

        A single number, such as a count, belongs to each.
        """
        names, parts = self._parts[index]
        return dict(zip(names, parts(whole) if whole.dim() else [whole] * len(names), strict=True))

    def join(self, index: int, by_name: dict[str, Tensor]) -> Tensor:
        """The reverse of `split`. Raises KeyError and ValueError where something does not fit."""
        first = by_name[self._parts[index][0][0]]
        whole = torch.empty_like(self.tensors[index].detach()) if first.dim() else first.clone()
        for name, part in self.split(index, whole).items():
            if part.shape != by_name[name].shape:
                raise ValueError(f"{name} is {tuple(by_name[name].shape)}, not {tuple(part.shape)}")
            part.copy_(by_name[name])
        return whole
