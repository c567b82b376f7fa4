"""Optimizers that step in one pass over each tensor, on the processor and on CUDA.

They leave out what torch's `step` does around its kernel. Their states have the layout of torch's optimizers of the
same name.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from rltrain.fast.deferred import Deferred
from rltrain.nn import device as devices
from rltrain.nn import optimizers
from rltrain.nn.trained import Trained


def make(name: str, trained: Trained, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Twin of `nn.optimizers.make`."""
    device = trained.tensors[0].device
    if name == "radam" or device.type not in ("cpu", "cuda"):
        theirs = optimizers.make.plain(name, trained, learning_rate, eps)
        theirs.register_step_post_hook(_tell_of_change)
        return theirs
    ours: Adam | RMSprop
    if name == "adam":
        ours = Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
    else:
        ours = RMSprop(trained.tensors, lr=learning_rate, alpha=optimizers.RMSPROP_DECAY, eps=eps)
    if devices.runs_ahead(device):
        trained.deferred = ours.deferred = Deferred(trained.tensors, learning_rate)
    return ours


def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Twin of `nn.optimizers.clip_gradients`.

    On a GPU it does not wait for the norm: a norm that is not finite stops every later step there, and
    `nn.optimizers.check_finite` raises afterwards.
    """
    if trained.deferred is None:
        return optimizers.clip_gradients.plain(trained, max_grad_norm)
    return trained.deferred.clip([tensor.grad for tensor in trained.tensors if tensor.grad is not None], max_grad_norm)


def _tell_of_change(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Count a new version of each parameter: weights converted from it are then known to be old."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


@functools.cache
def _late(device: torch.device) -> Tensor:
    """A step by which a decay to its power is 0."""
    return torch.tensor(1e6, device=device)


def _without_compiler(method: Any) -> Any:
    """What torch wraps so that its compiler leaves it alone; the wrapper imports the compiler: a second of start-up."""
    return getattr(method, "__wrapped__", method)


_add_param_group = _without_compiler(torch.optim.Optimizer.add_param_group)
_state_dict = _without_compiler(torch.optim.Optimizer.state_dict)
_load_state_dict = _without_compiler(torch.optim.Optimizer.load_state_dict)


class Adam(torch.optim.Adam):
    """torch's fused Adam: the work around that one call would cost more than a small network's update."""

    deferred: Deferred | None = None
    """Where an update is not waited for."""
    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that are there."""
        group = self.param_groups[0]
        stepped, gradients, states = _count_step(self, ("exp_avg", "exp_avg_sq"))
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        counts = [state["step"] for state in states]
        _move(stepped, gradients, means, squares, counts, group, beta1, beta2, self.deferred)
        _uncount(counts, self.deferred)

    step.hooked = True  # type: ignore[attr-defined]  # or torch wraps it for hooks and its profiler

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        _forget_gradients(self.param_groups[0])


class RMSprop(torch.optim.RMSprop):
    """RMSprop by the kernel of Adam, as torch has none of its own.

    Adam without its mean of gradients (beta1 = 0) and without its bias correction (none is left at a late step) is
    RMSprop: v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt v + eps).
    """

    deferred: Deferred | None = None
    """Where an update is not waited for."""
    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that are there."""
        group = self.param_groups[0]
        stepped, gradients, states = _count_step(self, ("square_avg",))
        means = gradients  # with beta1 = 0 the mean is the gradient itself, which is left as it is
        squares = [state["square_avg"] for state in states]
        late = [_late(tensor.device) for tensor in stepped]
        _move(stepped, gradients, means, squares, late, group, 0.0, group["alpha"], self.deferred)
        _uncount([state["step"] for state in states], self.deferred)

    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        _forget_gradients(self.param_groups[0])


def _count_step(
    optimizer: torch.optim.Optimizer, statistics: tuple[str, ...]
) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """What is to be stepped, by which gradients, and its states: with these statistics, one step further."""
    stepped = [tensor for tensor in optimizer.param_groups[0]["params"] if tensor.grad is not None]
    for tensor in stepped:
        if not optimizer.state[tensor]:
            zeros = {name: torch.zeros_like(tensor) for name in statistics}
            optimizer.state[tensor] = {"step": torch.zeros((), device=tensor.device), **zeros}
    states = [optimizer.state[tensor] for tensor in stepped]
    if states:
        torch._foreach_add_([state["step"] for state in states], 1)
    return stepped, [tensor.grad for tensor in stepped], states


def _move(
    stepped: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    counts: list[Tensor],
    group: dict[str, Any],
    beta1: float,
    beta2: float,
    deferred: Deferred | None,
) -> None:
    """Adam's kernel, in place. With `deferred` it does nothing once a gradient was not finite."""
    if not stepped:
        return
    torch._fused_adam_(
        stepped,
        gradients,
        means,
        squares,
        [],
        counts,
        lr=deferred.learning_rate if deferred else group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
        found_inf=deferred.not_finite if deferred else None,
    )
    # What was made from parameters is known to be old by their version, which fused kernels leave as it was.
    torch.autograd.graph.increment_version(stepped)


def _uncount(counts: list[Tensor], deferred: Deferred | None) -> None:
    """Take back the step that was not taken."""
    if deferred and counts:
        torch._foreach_sub_(counts, [deferred.not_finite] * len(counts))


def _forget_gradients(group: dict[str, Any]) -> None:
    for tensor in group["params"]:
        tensor.grad = None
