"""Optimizers by name, clipping, the check that gradients are finite, and an optimizer's state without pickle."""

import math
from typing import Any

import torch
from torch import Tensor

from rltrain.errors import NonFiniteError
from rltrain.nn.trained import Trained
from rltrain.system.accelerable import accelerable

OPTIMIZERS = ("adam", "rmsprop", "radam")
RMSPROP_DECAY = 0.99
"""The decay that Mnih et al. 2016 use."""


@accelerable
def make(name: str, trained: Trained, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Return Adam (Kingma & Ba 2015), RMSprop (Hinton 2012) or RAdam (Liu et al. 2020).

    RMSprop adds `eps` to the root of the mean square. Mnih et al. 2016 add it below the root, where the same number
    weighs more.
    """
    assert name in OPTIMIZERS, name
    if name == "adam":
        return torch.optim.Adam(trained.tensors, lr=learning_rate, eps=eps)
    if name == "rmsprop":
        return torch.optim.RMSprop(trained.tensors, lr=learning_rate, alpha=RMSPROP_DECAY, eps=eps)
    return torch.optim.RAdam(trained.tensors, lr=learning_rate, eps=eps)


@accelerable
@torch.no_grad()
def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Scale the gradients down to a global L2 norm; returns the norm before, (). Raises NonFiniteError."""
    gradients = [tensor.grad for tensor in trained.tensors if tensor.grad is not None]
    assert gradients, "nothing that is stepped has a gradient: the network has left it, to another device or by a copy"
    grad_norm = torch.nn.utils.get_total_norm(gradients)
    size = float(grad_norm)
    if not math.isfinite(size):
        named = trained.gradients()
        bad = next((name for name, gradient in named.items() if not gradient.isfinite().all()), "the network")
        raise not_finite(bad, {name: _describe(gradient) for name, gradient in named.items()})
    if size > max_grad_norm:
        torch._foreach_mul_(gradients, max_grad_norm / size)
    return grad_norm


def check_finite(trained: Trained) -> None:
    """Raise NonFiniteError where a gradient was not finite since the start.

    Waits for the device where updates are not waited for. Elsewhere `clip_gradients` has raised already.
    """
    if trained.deferred is None or not trained.deferred.not_finite.item():
        return
    have = [index for index, tensor in enumerate(trained.tensors) if tensor.grad is not None]
    facts = {}
    for index, culprit in zip(have, trained.deferred.culprits.tolist(), strict=False):
        for name, part in trained.split(index, trained.tensors[index]).items():
            facts[name] = {"shape": list(part.shape), "finite": not culprit}
    bad = next((name for name, fact in facts.items() if not fact["finite"]), "the network")
    raise not_finite(bad, facts)


def not_finite(bad: str, facts: dict[str, Any]) -> NonFiniteError:
    """Return the error that names the parameter `bad`; `facts` describe every gradient."""
    return NonFiniteError(
        f"the gradient of {bad} is not finite",
        "train/grad_norm",
        "lower algo.learning_rate or algo.reward_scale; the last checkpoint is from before",
        {"tensor": bad, "gradients": facts},
    )


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
    """Set the step size of the steps that follow."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    deferred = getattr(optimizer, "deferred", None)
    if deferred is not None:
        deferred.learning_rate.fill_(learning_rate)


def state_dict(optimizer: torch.optim.Optimizer, trained: Trained) -> dict[str, Any]:
    """Return tensors and JSON values, keys as text: torch's layout for an optimizer that steps every parameter."""
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
    if trained.deferred is not None:
        set_learning_rate(optimizer, group["lr"])
        for tensor, values in optimizer.state.items():  # torch leaves RMSprop's counts on the processor
            values["step"] = values["step"].to(tensor.device)
