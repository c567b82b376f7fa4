"""Optimizers by name, the one optimizer step that every algorithm takes, and their state without pickle."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from rltrain.errors import NonFiniteError

OPTIMIZERS = ("adam", "rmsprop")


def make(name: str, network: nn.Module, learning_rate: float, eps: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), or RMSprop with the decay of .99 that Mnih et al. 2016 use."""
    if name == "adam":
        adam = torch.optim.Adam(network.parameters(), lr=learning_rate, eps=eps, fused=True)
        adam.register_step_post_hook(_tell_of_change)
        return adam
    assert name == "rmsprop", name
    on_cpu = all(parameter.is_cpu for parameter in network.parameters())
    kind = FusedRMSprop if on_cpu else torch.optim.RMSprop
    rmsprop = kind(network.parameters(), lr=learning_rate, alpha=0.99, eps=eps)
    rmsprop.register_step_post_hook(_tell_of_change)
    return rmsprop


class FusedRMSprop(torch.optim.RMSprop):
    """RMSprop in one pass over each tensor, on the processor.

    torch has a fused kernel for Adam alone, which without its mean of gradients (beta1 = 0) and without its bias
    correction (none is left at a late step) is RMSprop: v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt v + eps).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] |= {"step": torch.tensor(0.0), "square_avg": torch.zeros_like(parameter)}
            states = [self.state[parameter] for parameter in parameters]
            torch._foreach_add_([state["step"] for state in states], 1)
            gradients = [parameter.grad for parameter in parameters]
            torch._fused_adam_(
                parameters,
                gradients,
                gradients,  # the mean of gradients: with beta1 = 0 the gradient itself, which is left as it is
                [state["square_avg"] for state in states],
                [],
                [_LATE] * len(parameters),
                lr=group["lr"],
                beta1=0.0,
                beta2=group["alpha"],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


_LATE = torch.tensor(1e6)
"""A step by which alpha to its power is 0."""


def _tell_of_change(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """What was made from parameters is known to be old by their version, which the fused kernels leave as it was."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


def named_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """What `clip_gradients` takes: to walk through the modules for each update would cost more than to clip."""
    return dict(network.named_parameters())


@torch.no_grad()
def clip_gradients(parameters: dict[str, nn.Parameter], max_grad_norm: float) -> Tensor:
    """Scale the gradients down to a global L2 norm; returns the norm before. Raises NonFiniteError, before any step."""
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    every = list(gradients.values())
    grad_norm = torch.nn.utils.get_total_norm(every)
    size = float(grad_norm)
    if not math.isfinite(size):
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


def state_dict(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Tensors and JSON values, keys as text."""
    state = optimizer.state_dict()
    return {
        "state": {str(index): values for index, values in state["state"].items()},
        "param_groups": state["param_groups"],
    }


def load_state_dict(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take back what `state_dict` gave."""
    by_index = {int(index): values for index, values in state["state"].items()}
    optimizer.load_state_dict({"state": by_index, "param_groups": state["param_groups"]})
