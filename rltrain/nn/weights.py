"""The parameters of a network as one array, to be sent to copies of the network elsewhere.

The order is that of the network's own list of parameters. It does not depend on the device, nor on which of them share
memory (fast/mlp.py).
"""

import numpy as np
import torch
from torch import nn


def read(network: nn.Module) -> np.ndarray:
    """Return a copy of all parameters, [P] float32."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).cpu().numpy()


def write(network: nn.Module, weights: np.ndarray) -> None:
    """Set all parameters, in place. weights: as `read` returned them. Raises ValueError for another number of them."""
    parameters = list(network.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    if weights.shape != (sum(sizes),):
        raise ValueError(f"{weights.shape} weights do not fit {sum(sizes)} parameters")
    with torch.no_grad():
        for parameter, part in zip(parameters, torch.from_numpy(weights).split(sizes), strict=True):
            parameter.copy_(part.view_as(parameter))
