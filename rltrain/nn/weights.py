"""The weights of a network: as one array, to be sent to copies of the network elsewhere, and as a saved state.

The order in the array is that of the network's own list of parameters, then of its buffers, such as the running mean
of a plugin's normalisation. It does not depend on the device, nor on which of them share memory (fast/mlp.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def read(network: nn.Module) -> np.ndarray:
    """Return a copy of all parameters and buffers, [P] float32."""
    return torch.cat([tensor.detach().flatten().float() for tensor in _tensors(network)]).cpu().numpy()


def write(network: nn.Module, weights: np.ndarray) -> None:
    """Set all parameters and buffers, in place. weights: as `read` returned them.

    Raises ValueError for another number of them.
    """
    tensors = _tensors(network)
    sizes = [tensor.numel() for tensor in tensors]
    if weights.shape != (sum(sizes),):
        raise ValueError(f"{weights.shape} weights do not fit {sum(sizes)} parameters")
    with torch.no_grad():
        for tensor, part in zip(tensors, torch.from_numpy(weights).split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def load(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore what `network.state_dict()` returned.

    Raises ValueError for another dtype, from which torch would convert in silence, and RuntimeError for other names or
    shapes.
    """
    for name, own in network.state_dict().items():
        if name in state and state[name].dtype != own.dtype:
            raise ValueError(f"the saved {name} is {state[name].dtype}, not {own.dtype}")
    network.load_state_dict(state)
