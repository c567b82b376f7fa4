"""Adam and RMSprop as one fused kernel call for each step, on the CPU and on CUDA.

They skip the Python code of torch's `step` around its kernel. Their states have the same layout as those of torch's
optimizers of the same name.
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
        plain = optimizers.make.plain(name, trained, learning_rate, eps)
        plain.register_step_post_hook(_increment_versions)
        return plain
    fused: Adam | RMSprop
    if name == "adam":
        fused = Adam(trained.tensors, lr=learning_rate, eps=eps, fused=True)
    else:
        fused = RMSprop(trained.tensors, lr=learning_rate, alpha=optimizers.RMSPROP_DECAY, eps=eps)
    if devices.runs_ahead(device):
        trained.deferred = fused.deferred = Deferred(trained.tensors, learning_rate)
    return fused


def clip_gradients(trained: Trained, max_grad_norm: float) -> Tensor:
    """Twin of `nn.optimizers.clip_gradients`.

    On a GPU it does not wait for the norm. A norm that is not finite disables this and every later step there, and
    `nn.optimizers.check_finite` raises the error afterwards.
    """
    if trained.deferred is None:
        return optimizers.clip_gradients.plain(trained, max_grad_norm)
    return trained.deferred.clip([tensor.grad for tensor in trained.tensors if tensor.grad is not None], max_grad_norm)


def _increment_versions(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Increment the version of each parameter, so that cached conversions of it (`fast/cnn.py`) are refreshed."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


@functools.cache
def _late_step(device: torch.device) -> Tensor:
    """Return a step count so large that Adam's bias correction has no effect."""
    return torch.tensor(1e6, device=device)


def _unwrapped(method: Any) -> Any:
    """Return the method without torch's `_disable_dynamo` wrapper, which imports the compiler: 1 s of start-up."""
    return getattr(method, "__wrapped__", method)


_add_param_group = _unwrapped(torch.optim.Optimizer.add_param_group)
_state_dict = _unwrapped(torch.optim.Optimizer.state_dict)
_load_state_dict = _unwrapped(torch.optim.Optimizer.load_state_dict)


class Adam(torch.optim.Adam):
    """torch's fused Adam without its Python overhead, which takes longer than the update of a small network."""

    deferred: Deferred | None = None
    """Set on a device with asynchronous updates."""
    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient."""
        group = self.param_groups[0]
        stepped, gradients, states = _count_step(self, ("exp_avg", "exp_avg_sq"))
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        counts = [state["step"] for state in states]
        _adam_kernel(stepped, gradients, means, squares, counts, group, beta1, beta2, self.deferred)
        _uncount_skipped(counts, self.deferred)

    step.hooked = True  # type: ignore[attr-defined]  # keeps torch from wrapping it for hooks and the profiler

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to None."""
        _zero_grad(self.param_groups[0])


class RMSprop(torch.optim.RMSprop):
    """RMSprop with Adam's fused kernel, because torch has no fused RMSprop.

    RMSprop is Adam with beta1 = 0 and without bias correction, which has no effect at a late step:
    v = alpha v + (1 - alpha) g^2;  p -= lr g / (sqrt(v) + eps).
    """

    deferred: Deferred | None = None
    """Set on a device with asynchronous updates."""
    add_param_group = _add_param_group
    state_dict = _state_dict
    load_state_dict = _load_state_dict

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient."""
        group = self.param_groups[0]
        stepped, gradients, states = _count_step(self, ("square_avg",))
        means = gradients  # with beta1 = 0 the mean is the gradient, so the kernel does not change it
        squares = [state["square_avg"] for state in states]
        late = [_late_step(tensor.device) for tensor in stepped]
        _adam_kernel(stepped, gradients, means, squares, late, group, 0.0, group["alpha"], self.deferred)
        _uncount_skipped([state["step"] for state in states], self.deferred)

    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to None."""
        _zero_grad(self.param_groups[0])


def _count_step(
    optimizer: torch.optim.Optimizer, statistics: tuple[str, ...]
) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
    """Return the parameters with a gradient, their gradients and their states, and add 1 to their step counts.

    A parameter without a state gets one: a step count, and these statistics set to 0.
    """
    stepped = [tensor for tensor in optimizer.param_groups[0]["params"] if tensor.grad is not None]
    for tensor in stepped:
        if not optimizer.state[tensor]:
            zeros = {name: torch.zeros_like(tensor) for name in statistics}
            optimizer.state[tensor] = {"step": torch.zeros((), device=tensor.device), **zeros}
    states = [optimizer.state[tensor] for tensor in stepped]
    if states:
        torch._foreach_add_([state["step"] for state in states], 1)
    return stepped, [tensor.grad for tensor in stepped], states


def _adam_kernel(
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
    """Run torch's fused Adam kernel in place. With `deferred` it does nothing after a gradient was not finite."""
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
    # Fused kernels do not increment the versions of parameters, which tell when cached conversions are outdated.
    torch.autograd.graph.increment_version(stepped)


def _uncount_skipped(counts: list[Tensor], deferred: Deferred | None) -> None:
    """Subtract 1 from the step counts if the kernel skipped the step."""
    if deferred and counts:
        torch._foreach_sub_(counts, [deferred.not_finite] * len(counts))


def _zero_grad(group: dict[str, Any]) -> None:
    for tensor in group["params"]:
        tensor.grad = None
