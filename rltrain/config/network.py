"""Settings of the networks in rltrain/nn/networks.py, without importing torch."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rltrain.config.validate import at_least, one_of
from rltrain.errors import ConfigError

SMALLEST_FRAME = {"nature_cnn": 36, "small_cnn": 20, "impala_cnn": 1, "course_cnn": 44}
"""Networks for pixels, each with the smallest frame side in pixels for which every layer has an output."""

OWN: dict[str, Callable[..., Any]] = {}
"""Functions that return the layers of a plugin's network, by name. Networks for pixels are in SMALLEST_FRAME too."""


SMALLER_LAYERS = "network.hidden_sizes", "use smaller layers: network.hidden_sizes=[64,64]"
"""The key and the advice where an mlp is too large for the memory."""


def names() -> tuple[str, ...]:
    """Return the names of all networks."""
    return tuple(dict.fromkeys(("auto", "table", "mlp", *SMALLEST_FRAME, *OWN)))


@dataclass
class NetworkConfig:
    """Settings of the torso. The algorithm and the action space determine the heads."""

    name: str = "auto"
    """auto: table for tabular algorithms, mlp for vectors and discrete states, and for pixels nature_cnn on a GPU or
    small_cnn on a CPU. The choice is saved in the run's config.yaml, so its checkpoints fit on every device."""
    hidden_sizes: list[int] = field(default_factory=lambda: [64, 64])
    """Widths of the hidden layers of the mlp."""
    activation: str = "tanh"
    """Activation of the mlp: tanh or relu."""

    def __post_init__(self) -> None:
        one_of("network.name", self.name, names())
        one_of("network.activation", self.activation, ("tanh", "relu"))
        if not self.hidden_sizes:
            raise ConfigError("the network has no layers", "network.hidden_sizes", "give at least one width: [64]")
        for size in self.hidden_sizes:
            at_least("network.hidden_sizes", size, 1)


def mlp_parameters(network: NetworkConfig, num_inputs: int) -> int:
    """Return the number of parameters of an mlp, without the heads."""
    widths = [num_inputs, *network.hidden_sizes]
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))


def check_fits(network: str, shape: tuple[int, ...], env: str) -> None:
    """Raise ConfigError if the network cannot process frames of this shape. `table` always passes."""
    pixels = len(shape) == 3
    if network != "table" and network not in SMALLEST_FRAME and pixels:
        raise ConfigError(f"{network} cannot process the pixels of {env}", "network", "use network=auto")
    if network in SMALLEST_FRAME and not pixels:
        raise ConfigError(f"{network} needs pixels, but {env} has none", "network", "use network=mlp or network=auto")
    if network in SMALLEST_FRAME and min(shape[1:]) < SMALLEST_FRAME[network]:
        side = SMALLEST_FRAME[network]
        raise ConfigError(
            f"{network} needs frames of at least {side} x {side} pixels, but {env} has {shape[1]} x {shape[2]}",
            "network",
            "use network=auto, or larger frames",
        )
