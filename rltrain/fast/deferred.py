"""What an update on a GPU leaves there so that the host need not wait: whether every gradient was finite, and the step
size.

On the processor a norm is there as soon as it is asked for; on a GPU asking means to wait for all work before it.
"""

import torch
from torch import Tensor


class Deferred:
    """Read by the optimizer's kernel on the device. From the first gradient that is not finite on no step is taken."""

    def __init__(self, stepped: list[Tensor], learning_rate: float) -> None:
        device = stepped[0].device
        self.learning_rate = torch.tensor(learning_rate, device=device)
        """(), float32."""
        self.not_finite = torch.zeros((), device=device)
        """(), float32: 1 once a norm was not finite, else 0. What torch's fused kernels call found_inf."""
        self.culprits = torch.zeros(len(stepped), dtype=torch.bool, device=device)
        """Which gradients were not finite then, of those tensors that have one, in order."""

    @torch.no_grad()
    def clip(self, gradients: list[Tensor], max_grad_norm: float) -> Tensor:
        """Scale down to a global L2 norm; returns the norm before, (), and notes whether it was finite."""
        norms = torch.stack(torch._foreach_norm(gradients))
        grad_norm = torch.linalg.vector_norm(norms)
        self.culprits[: len(gradients)].logical_or_(~norms.isfinite())
        self.not_finite.masked_fill_(~grad_norm.isfinite(), 1.0)
        torch._foreach_mul_(gradients, (max_grad_norm / grad_norm).clamp(max=1.0))
        return grad_norm
