"""Optimizers by name, the one optimizer step that every algorithm takes, and their state without pickle."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rltrain.errors import NonFiniteError
from rltrain.fully_connected import FullyConnected

OPTIMIZERS = ("adam", "rmsprop")


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


class Adam(torch.optim.Adam):
    """torch's fused Adam on the processor, without what its `step` does around the one call, which costs more than a
    small network's update."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step with the gradients that are there."""
        group = self.param_groups[0]
        stepped = [tensor for tensor in group["params"] if tensor.grad is not None]
        if not stepped:
            return
        for tensor in stepped:
            if not self.state[tensor]:
                self.state[tensor] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(tensor),
                    "exp_avg_sq": torch.zeros_like(tensor),
                }
        states = [self.state[tensor] for tensor in stepped]
        counts = [state["step"] for state in states]
        torch._foreach_add_(counts, 1)
        torch._fused_adam_(
            stepped,
            [tensor.grad for tensor in stepped],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            counts,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        # What was made from parameters is known to be old by their version, which fused kernels leave as it was.
        torch.autograd.graph.increment_version(stepped)

    step.hooked = True  # type: ignore[attr-defined]  # or torch wraps it for hooks and its profiler

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for tensor in self.param_groups[0]["params"]:
            tensor.grad = None


def make(name: str, trained: Trained, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), or RMSprop with the decay of .99 that Mnih et al. 2016 use."""
    if name == "adam":
        if all(tensor.is_cpu for tensor in trained.tensors):
            return Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
        adam = torch.optim.Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
        adam.register_step_post_hook(_tell_of_change)
        return adam
    assert name == "rmsprop", name
    return torch.optim.RMSprop(trained.tensors, lr=learning_rate, alpha=0.99, eps=eps)


def _tell_of_change(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """What was made from parameters is known to be old by their version, which the fused kernels leave as it was."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


@torch.no_grad()
def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Scale the gradients down to a global L2 norm; returns the norm before. Raises NonFiniteError, before any step."""
    every = [tensor.grad for tensor in trained.tensors if tensor.grad is not None]
    grad_norm = torch.linalg.vector_norm(every[0]) if len(every) == 1 else torch.nn.utils.get_total_norm(every)
    size = float(grad_norm)
    if not math.isfinite(size):
        gradients = trained.gradients()
        bad = next((name for name, gradient in gradients.items() if not gradient.isfinite().all()), "the network")
        raise NonFiniteError(
            f"the gradient of {bad} is not finite",
            "train/grad_norm",
            "lower algo.learning_rate or algo.reward_scale; the last checkpoint is from before",
            {"tensor": bad, "gradients": {name: _describe(gradient) for name, gradient in gradients.items()}},
        )
    if size > max_grad_norm:
        torch._foreach_mul_(every, max_grad_norm / size)
    return grad_norm


def _describe(tensor: Tensor) -> dict[str, Any]:
    """What nonfinite.json says of a tensor."""
    finite = tensor[tensor.isfinite()].float()
    return {
        "shape": list(tensor.shape),
        "not_finite": tensor.numel() - finite.numel(),
        "largest_finite": float(finite.abs().max()) if finite.numel() else None,
    }


def fill_state(optimizer: torch.optim.Optimizer) -> None:
    """Make the statistics that the first step would make, all zero, unless they are there."""
    if optimizer.state:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # with gradients of zero, which moves no parameter
    optimizer.zero_grad()
    for values in optimizer.state.values():
        values["step"].zero_()


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """For the next steps."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def state_dict(optimizer: torch.optim.Optimizer, trained: Trained) -> dict[str, Any]:
    """Tensors and JSON values, keys as text: torch's layout for an optimizer that steps every parameter by itself."""
    state = optimizer.state_dict()
    [group] = state["param_groups"]
    by_name: dict[str, dict[str, Tensor]] = {}
    for index, statistics in state["state"].items():
        for key, whole in statistics.items():
            for name, part in trained.split(index, whole).items():
                by_name.setdefault(name, {})[key] = part
    return {
        "state": {str(index): by_name[name] for index, name in enumerate(trained.names) if name in by_name},
        "param_groups": [group | {"params": list(range(len(trained.names)))}],
    }


def load_state_dict(optimizer: torch.optim.Optimizer, trained: Trained, state: dict[str, Any]) -> None:
    """Take back what `state_dict` gave."""
    by_name = {trained.names[int(index)]: statistics for index, statistics in state["state"].items()}
    [group] = state["param_groups"]
    joined: dict[int, dict[str, Tensor]] = {}
    for index, tensor in enumerate(trained.tensors):
        names = list(trained.split(index, tensor))
        if names[0] in by_name:
            joined[index] = {
                key: trained.join(index, {name: by_name[name][key] for name in names}) for key in by_name[names[0]]
            }
    params = list(range(len(trained.tensors)))
    optimizer.load_state_dict({"state": joined, "param_groups": [group | {"params": params}]})
