"""Optimizers by name, gradient clipping, the check for finite gradients, and optimizer states for checkpoints."""

import math
from typing import Any

import torch
from torch import Tensor

from rltrain.errors import NonFiniteError
from rltrain.nn.trained import Trained
from rltrain.system.accelerable import accelerable

OPTIMIZERS = ("adam", "rmsprop", "radam")
RMSPROP_DECAY = 0.99
"""The decay of the mean square in Mnih et al. 2016."""


@accelerable  # twin: fast/optimizers.py
def make(name: str, trained: Trained, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Return Adam (Kingma & Ba 2015), RMSprop (Hinton 2012) or RAdam (Liu et al. 2020).

    RMSprop adds `eps` to the root of the mean square. Mnih et al. 2016 add it inside the root, where the same number
    has a larger effect.
    """
    assert name in OPTIMIZERS, name
    if name == "adam":
        return torch.optim.Adam(trained.tensors, lr=learning_rate, eps=eps)
    if name == "rmsprop":
        return torch.optim.RMSprop(trained.tensors, lr=learning_rate, alpha=RMSPROP_DECAY, eps=eps)
    return torch.optim.RAdam(trained.tensors, lr=learning_rate, eps=eps)


@accelerable  # twin: fast/optimizers.py
@torch.no_grad()
def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Scale the gradients down to a global L2 norm of at most max_grad_norm. Return the norm before, ().

    Raises NonFiniteError.
    """
    gradients = [tensor.grad for tensor in trained.tensors if tensor.grad is not None]
    assert gradients, "no trained tensor has a gradient: the network was copied or moved to another device"
    # A small network's parameters are one tensor (fast/mlp.py). For that, get_total_norm takes four times as long.
    grad_norm = (
        torch.linalg.vector_norm(gradients[0]) if len(gradients) == 1 else torch.nn.utils.get_total_norm(gradients)
    )
    size = float(grad_norm)
    if not math.isfinite(size):
        named = trained.gradients()
        bad = next((name for name, gradient in named.items() if not gradient.isfinite().all()), "the network")
        raise not_finite(bad, {name: _describe(gradient) for name, gradient in named.items()})
    if size > max_grad_norm:
        torch._foreach_mul_(gradients, max_grad_norm / size)
    return grad_norm


def check_finite(trained: Trained) -> None:
    """Raise NonFiniteError if any gradient has been not finite since the start, on a device with asynchronous updates.

    Waits for the device. On other devices `clip_gradients` raises the error itself.
    """
    if trained.deferred is None or not trained.deferred.not_finite.item():
        return
    with_gradient = [index for index, tensor in enumerate(trained.tensors) if tensor.grad is not None]
    facts = {}
    for index, culprit in zip(with_gradient, trained.deferred.culprits.tolist(), strict=False):
        for name, part in trained.split(index, trained.tensors[index]).items():
            facts[name] = {"shape": list(part.shape), "finite": not culprit}
    bad = next((name for name, fact in facts.items() if not fact["finite"]), "the network")
    raise not_finite(bad, facts)


def not_finite(bad: str, facts: dict[str, Any]) -> NonFiniteError:
    """Return the error for the parameter `bad`. facts: a description of each gradient, for nonfinite.json."""
    return NonFiniteError(
        f"the gradient of {bad} is not finite",
        "train/grad_norm",
        "lower algo.learning_rate or algo.reward_scale; the last checkpoint is older than the fault",
        {"tensor": bad, "gradients": facts},
    )


def _describe(tensor: Tensor) -> dict[str, Any]:
    """Return the description of a tensor for nonfinite.json."""
    finite = tensor[tensor.isfinite()].float()
    return {
        "shape": list(tensor.shape),
        "not_finite": tensor.numel() - finite.numel(),
        "largest_finite": float(finite.abs().max()) if finite.numel() else None,
    }


def fill_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the optimizer's statistics, all 0, as its first step would. Does nothing if they exist."""
    if optimizer.state:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # gradients of 0 change no parameter
    optimizer.zero_grad()
    for values in optimizer.state.values():
        values["step"].zero_()


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the following steps."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    deferred = getattr(optimizer, "deferred", None)
    if deferred is not None:
        deferred.learning_rate.fill_(learning_rate)


def state_dict(optimizer: torch.optim.Optimizer, trained: Trained) -> dict[str, Any]:
    """Return the optimizer's state as tensors and JSON values.

    The layout is that of torch's `state_dict` for an optimizer of the network's separate parameters, with text keys.
    """
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
    """Restore the state that `state_dict` returned: the statistics and the learning rate.

    Everything else is the configuration's. Raises KeyError or ValueError for statistics of another optimizer or shape.
    """
    by_name = {trained.names[int(index)]: statistics for index, statistics in state["state"].items()}
    keys = {"step", "square_avg"} if isinstance(optimizer, torch.optim.RMSprop) else {"step", "exp_avg", "exp_avg_sq"}
    joined: dict[int, dict[str, Tensor]] = {}
    for index, tensor in enumerate(trained.tensors):
        parameters = trained.split(index, tensor)
        if not by_name.keys() & parameters.keys():
            continue
        for name, parameter in parameters.items():
            found = {key: tuple(value.shape) for key, value in by_name[name].items()}
            wanted = {key: () if key == "step" else tuple(parameter.shape) for key in keys}
            if found != wanted:
                raise ValueError(f"the optimizer's statistics of {name} have the shapes {found}, not {wanted}")
        joined[index] = {key: trained.join(index, {name: by_name[name][key] for name in parameters}) for key in keys}
    group = optimizer.state_dict()["param_groups"][0] | {"lr": float(state["param_groups"][0]["lr"])}
    optimizer.load_state_dict({"state": joined, "param_groups": [group]})
    if trained.deferred is not None:
        set_learning_rate(optimizer, group["lr"])
        for tensor, values in optimizer.state.items():  # torch leaves RMSprop's step counts on the CPU
            values["step"] = values["step"].to(tensor.device)
