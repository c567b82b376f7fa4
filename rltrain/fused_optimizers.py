"""Optimizers that step on the processor in one pass over each tensor, without what torch's `step` does around it.

The layout of their states is that of torch's optimizers of the same name.
"""

from typing import Any

import torch
from torch import Tensor

_LATE = torch.tensor(1e6)
"""A step by which a decay to its power is 0."""


def _without_compiler(method: Any) -> Any:
    """What torch wraps so that its compiler leaves it alone; the wrapper imports the compiler: a second of start-up."""
    return getattr(method, "__wrapped__", method)


_add_param_group = _without_compiler(torch.optim.Optimizer.add_param_group)
_state_dict = _without_compiler(torch.optim.Optimizer.state_dict)
_load_state_dict = _without_compiler(torch.optim.Optimizer.load_state_dict)


class Adam(torch.optim.Adam):
    """torch's fused Adam: the work around that one call would cost more than a small network's update."""

    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that are there."""
        group = self.param_groups[0]
        stepped, gradients = _with_gradients(group)
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
            gradients,
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
        _forget_gradients(self.param_groups[0])


class RMSprop(torch.optim.RMSprop):
    """RMSprop by the kernel of Adam, as torch has none of its own.

    Adam without its mean of gradients (beta1 = 0) and without its bias correction (none is left at a late step) is
    RMSprop: v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt v + eps).
    """

    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step with the gradients that are there."""
        group = self.param_groups[0]
        stepped, gradients = _with_gradients(group)
        if not stepped:
            return
        for tensor in stepped:
            if not self.state[tensor]:
                self.state[tensor] = {"step": torch.zeros(()), "square_avg": torch.zeros_like(tensor)}
        states = [self.state[tensor] for tensor in stepped]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._fused_adam_(
            stepped,
            gradients,
            gradients,  # the mean of gradients: with beta1 = 0 the gradient itself, which is left as it is
            [state["square_avg"] for state in states],
            [],
            [_LATE] * len(stepped),
            lr=group["lr"],
            beta1=0.0,
            beta2=group["alpha"],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        torch.autograd.graph.increment_version(stepped)

    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        _forget_gradients(self.param_groups[0])


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """What is to be stepped, and by which gradients."""
    stepped = [tensor for tensor in group["params"] if tensor.grad is not None]
    return stepped, [tensor.grad for tensor in stepped]


def _forget_gradients(group: dict[str, Any]) -> None:
    for tensor in group["params"]:
        tensor.grad = None
