"""Settings of `networks.py`, apart from it so that composing a configuration imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rltrain.config.validate import at_least, one_of
from rltrain.errors import ConfigError

SMALLEST_FRAME = {"nature_cnn": 36, "small_cnn": 20, "impala_cnn": 1, "course_cnn": 44}
"""Networks for pixels, with the pixels that a frame's shorter side needs before a layer has no output left."""

OWN: dict[str, Callable[..., Any]] = {}
"""What makes the layers of the networks that plugins registered; those for pixels are in SMALLEST_FRAME too."""


def names() -> tuple[str, ...]:
    """Every network."""
    return tuple(dict.fromkeys(("auto", "table", "mlp", *SMALLEST_FRAME, *OWN)))


@dataclass
class NetworkConfig:
    """Settings of the network's torso; its head follows from the algorithm and the action space."""

    name: str = "auto"
    """auto chooses once, before the run is created: table for tabular algorithms, mlp for vectors and states; for
    pixels nature_cnn on a GPU and small_cnn without one. The run's config.yaml holds the choice, so that its
    checkpoints fit on every device."""
    hidden_sizes: list[int] = field(default_factory=lambda: [64, 64])
    """Widths of the mlp's layers."""
    activation: str = "tanh"
    """tanh or relu, of the mlp."""

    def __post_init__(self) -> None:
        one_of("network.name", self.name, names())
        one_of("network.activation", self.activation, ("tanh", "relu"))
        if not self.hidden_sizes:
            raise ConfigError("a network without layers", "network.hidden_sizes", "give a width at least: [64]")
        for size in self.hidden_sizes:
            at_least("network.hidden_sizes", size, 1)


def check_fits(network: str, shape: tuple[int, ...], env: str) -> None:
    """Raise ConfigError unless a network with layers can read one frame of this shape."""
    pixels = len(shape) == 3
    if network != "table" and network not in SMALLEST_FRAME and pixels:
        raise ConfigError(f"{network} does not read the pixels of {env}", "network", "use network=auto")
    if network in SMALLEST_FRAME and not pixels:
        raise ConfigError(f"{network} needs pixels, and {env} has none", "network", "use network=mlp or network=auto")
    if network in SMALLEST_FRAME and min(shape[1:]) < SMALLEST_FRAME[network]:
        side = SMALLEST_FRAME[network]
        raise ConfigError(
            f"{network} needs frames of at least {side} x {side} pixels, those of {env} are {shape[1]} x {shape[2]}",
            "network",
            "use network=auto, or larger frames",
        )
