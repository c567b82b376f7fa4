"""What an optimizer steps of a network, and how to speak of it by the names of the parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rltrain.deferred import Deferred
from rltrain.fully_connected import FullyConnected


class Trained:
    """The tensors of a network that an optimizer steps: its parameters, or in place of many the one that holds them."""

    def __init__(self, network: nn.Module) -> None:
        """Of a network where it is to stay: on its device."""
        parameters = dict(network.named_parameters())
        names = {parameter: name for name, parameter in parameters.items()}
        self.names = list(parameters)
        """Of the parameters, in the network's order."""
        self.tensors: list[Tensor] = []
        """What is stepped, leaves of the graph."""
        self.deferred: Deferred | None = None
        """Where an update is not waited for: what its optimizer reads on the device."""
        self._parts: list[tuple[list[str], Callable[[Tensor], list[Tensor]]]] = []
        for module in network.modules():
            fused = getattr(module, "fused", None)
            if isinstance(fused, FullyConnected) and fused.holds:
                self._add(fused.joined, [names.pop(parameter) for parameter in fused.parameters], fused.parts)
        for parameter, name in names.items():
            self._add(parameter, [name], lambda whole: [whole])

    def _add(self, tensor: Tensor, names: list[str], parts: Callable[[Tensor], list[Tensor]]) -> None:
        self.tensors.append(tensor)
        self._parts.append((names, parts))

    def forget_gradients(self) -> None:
        """As `zero_grad` of an optimizer that steps these tensors."""
        for tensor in self.tensors:
            tensor.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """Of every parameter that has one, by its name."""
        wholes = [(index, tensor.grad) for index, tensor in enumerate(self.tensors) if tensor.grad is not None]
        found = {name: part for index, whole in wholes for name, part in self.split(index, whole).items()}
        return {name: found[name] for name in self.names if name in found}

    def split(self, index: int, whole: Tensor) -> dict[str, Tensor]:
        """What of a tensor like `tensors[index]` belongs to each parameter in it, by its name: views of their shapes.

        A single number, such as a count, belongs to each.
        """
        names, parts = self._parts[index]
        return dict(zip(names, parts(whole) if whole.dim() else [whole] * len(names), strict=True))

    def join(self, index: int, by_name: dict[str, Tensor]) -> Tensor:
        """The reverse. Raises KeyError and ValueError where something does not fit."""
        first = by_name[self._parts[index][0][0]]
        whole = torch.empty_like(self.tensors[index].detach()) if first.dim() else first.clone()
        for name, part in self.split(index, whole).items():
            if part.shape != by_name[name].shape:
                raise ValueError(f"{name} is {tuple(by_name[name].shape)}, not {tuple(part.shape)}")
            part.copy_(by_name[name])
        return whole
