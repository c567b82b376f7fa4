"""Update state that stays on the GPU: the learning rate, and whether every gradient was finite.

Reading a gradient norm on the host would wait for all work on the GPU. With this state no update has to wait.
"""

import torch
from torch import Tensor


class Deferred:
    """Numbers that the optimizer's kernel reads on the device. Once a gradient is not finite, no step has an effect."""

    def __init__(self, stepped: list[Tensor], learning_rate: float) -> None:
        device = stepped[0].device
        self.learning_rate = torch.tensor(learning_rate, device=device)
        """(), float32."""
        self.not_finite = torch.zeros((), device=device)
        """(), float32: 1 after a norm was not finite, else 0. torch's fused kernels call it found_inf."""
        self.culprits = torch.zeros(len(stepped), dtype=torch.bool, device=device)
        """True for each gradient that was not finite, [tensors], bool, in the order of the tensors with a gradient."""

    @torch.no_grad()
    def clip(self, gradients: list[Tensor], max_grad_norm: float) -> Tensor:
        """Scale the gradients down to a global L2 norm of at most max_grad_norm. Return the norm before, ().

        Sets `not_finite` and `culprits` if the norm is not finite.
        """
        norms = torch.stack(torch._foreach_norm(gradients))
        grad_norm = torch.linalg.vector_norm(norms)
        self.culprits[: len(gradients)].logical_or_(~norms.isfinite())
        self.not_finite.masked_fill_(~grad_norm.isfinite(), 1.0)
        torch._foreach_mul_(gradients, (max_grad_norm / grad_norm).clamp(max=1.0))
        return grad_norm
