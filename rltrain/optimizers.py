"""Optimizers by name, the one optimizer step that every algorithm takes, and their state without pickle."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from rltrain import device as devices
from rltrain.deferred import Deferred
from rltrain.errors import NonFiniteError
from rltrain.fused_optimizers import Adam, RMSprop
from rltrain.math.schedules import linear_or_constant
from rltrain.trained import Trained

OPTIMIZERS = ("adam", "rmsprop")


def make(name: str, trained: Trained, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), or RMSprop with the decay of .99 that Mnih et al. 2016 use.

    Of RMSprop, `eps` is added to the root of the mean square; theirs is added below the root, where the same number is
    worth more.
    """
    assert name in OPTIMIZERS, name
    device = trained.tensors[0].device
    if device.type not in ("cpu", "cuda"):
        if name == "adam":
            theirs: torch.optim.Optimizer = torch.optim.Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
        else:
            theirs = torch.optim.RMSprop(trained.tensors, lr=learning_rate, alpha=0.99, eps=eps)
        theirs.register_step_post_hook(_tell_of_change)
        return theirs
    ours: Adam | RMSprop
    if name == "adam":
        ours = Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
    else:
        ours = RMSprop(trained.tensors, lr=learning_rate, alpha=0.99, eps=eps)
    if devices.runs_ahead(device):
        trained.deferred = ours.deferred = Deferred(trained.tensors, learning_rate)
    return ours


def _tell_of_change(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """What was made from parameters is known to be old by their version, which the fused kernels leave as it was."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


@torch.no_grad()
def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Scale the gradients down to a global L2 norm; returns the norm before. Raises NonFiniteError, before any step.

    Where updates are not waited for, no step follows either, and `check_finite` raises later.
    """
    every = [tensor.grad for tensor in trained.tensors if tensor.grad is not None]
    assert every, "nothing that is stepped has a gradient: the network has left it, to another device or by a copy"
    if trained.deferred:
        return trained.deferred.clip(every, max_grad_norm)
    grad_norm = torch.linalg.vector_norm(every[0]) if len(every) == 1 else torch.nn.utils.get_total_norm(every)
    size = float(grad_norm)
    if not math.isfinite(size):
        gradients = trained.gradients()
        bad = next((name for name, gradient in gradients.items() if not gradient.isfinite().all()), "the network")
        raise _not_finite(bad, {name: _describe(gradient) for name, gradient in gradients.items()})
    if size > max_grad_norm:
        torch._foreach_mul_(every, max_grad_norm / size)
    return grad_norm


def check_finite(trained: Trained) -> None:
    """Raise NonFiniteError where a gradient was not finite since the start; to be called after each round of updates.

    Waits for the device where updates are not waited for, and elsewhere has nothing to do.
    """
    if trained.deferred is None or not trained.deferred.not_finite.item():
        return
    have = [index for index, tensor in enumerate(trained.tensors) if tensor.grad is not None]
    facts = {}
    for index, culprit in zip(have, trained.deferred.culprits.tolist(), strict=False):
        for name, part in trained.split(index, trained.tensors[index]).items():
            facts[name] = {"shape": list(part.shape), "finite": not culprit}
    bad = next((name for name, fact in facts.items() if not fact["finite"]), "the network")
    raise _not_finite(bad, facts)


def _not_finite(bad: str, facts: dict[str, Any]) -> NonFiniteError:
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


class StepSize(Protocol):
    """The settings of a step size: null as its end keeps it constant."""

    learning_rate: float
    learning_rate_end: float | None


def anneal(optimizer: torch.optim.Optimizer, config: StepSize, step: int, total_steps: int) -> float:
    """Set the step size for the updates that follow on agent step `step`; returns it."""
    rate = linear_or_constant(step, config.learning_rate, config.learning_rate_end, total_steps)
    set_learning_rate(optimizer, rate)
    return rate


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """For the next steps."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    if isinstance(optimizer, Adam | RMSprop) and optimizer.deferred:
        optimizer.deferred.learning_rate.fill_(learning_rate)


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
    if trained.deferred:
        set_learning_rate(optimizer, group["lr"])
        for tensor, values in optimizer.state.items():  # torch leaves RMSprop's counts on the processor
            values["step"] = values["step"].to(tensor.device)
