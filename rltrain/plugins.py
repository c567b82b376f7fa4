"""What a module of your own calls to add an algorithm, an environment or a network: `plugins=[my_module]` imports it.

What is registered is chosen like anything else: `rltrain plugins=[my_module] algo=... env=... network=...`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from rltrain import config, network_config
from rltrain.envs import registry
from rltrain.errors import ConfigError, RltrainError


class Option(NamedTuple):
    """A choice of a configuration group: its settings and a line for `rltrain list`."""

    settings: Any
    text: str


OPTIONS: dict[tuple[str, str], Option] = {}
"""What was registered, by group and name."""


def register_algorithm(config_class: type, several_actions: bool = False) -> None:
    """Add an algorithm under the name that its settings give by default.

    `config_class` is a dataclass as in `rltrain/algos/ppo_config.py`, with `name` and `num_envs`. Its module, or for a
    module X_config the module X beside it, has `train(run_config, run)`, `make_agent` and `evaluate` as those in
    `rltrain/algos`. `several_actions`: it can choose several things at once (MultiDiscrete). Raises ConfigError.
    """
    settings = config_class()
    _add("algo", settings.name, settings, config_class.__doc__, taken=settings.name in config.ALGOS)
    config.ALGOS[settings.name] = config_class
    if several_actions:
        config.SEVERAL_ACTIONS.add(settings.name)


def register_environment(settings: Any, text: str = "") -> None:
    """Add an environment of a family that is there: `GymConfig(name="mine", id="Mine-v0")`, `DoomConfig(...)`, ...

    An environment of gymnasium's needs no name here: `env=gym env.id=Mine-v0` finds what the module registered with
    gymnasium. Raises ConfigError.
    """
    registry.config_class(settings.family)
    _add("env", settings.name, settings, text, taken=False)


def register_environment_family(name: str, module: str, config_class: type) -> None:
    """Add a family: a module with `spaces(config)` and `make_pool(config, num_envs)` as in `rltrain/envs/gym.py`.

    `config_class` is a dataclass with `name`, `stack_num` and `family`, which is `name`. Raises ConfigError.
    """
    if name in registry.FAMILIES:
        raise ConfigError(f"there is an environment family '{name}' already", "plugins", "give it another name")
    registry.FAMILIES[name] = registry.Family(module, config_class)


def register_network(name: str, layers: Callable[..., Any], smallest_frame: int | None = None) -> None:
    """Add a torso: a function that returns its layers in order, among them a linear one; for pixels a convolution is
    the first. What the heads read is what comes after the last linear layer and its activation.

    With `smallest_frame`, the pixels that a frame's shorter side needs, it is for pixels and is called with the shape
    [channels, height, width]; without, it is for vectors and states and is called with their size. Raises ConfigError.
    """
    settings = network_config.NetworkConfig()
    _add("network", name, settings, layers.__doc__, taken=name in network_config.names())
    network_config.OWN[name] = layers
    if smallest_frame is not None:
        network_config.SMALLEST_FRAME[name] = smallest_frame
    OPTIONS["network", name] = OPTIONS["network", name]._replace(settings=dataclasses.replace(settings, name=name))


def _add(group: str, name: str, settings: Any, text: str | None, taken: bool) -> None:
    if taken or (group, name) in OPTIONS:
        raise ConfigError(f"there is {group}={name} already", "plugins", "give it another name")
    if not dataclasses.is_dataclass(settings):
        raise RltrainError(f"the settings of {name} are no dataclass", f"plugins, {group}", "decorate them")
    OPTIONS[group, name] = Option(settings, (text or "").strip().split("\n")[0])
