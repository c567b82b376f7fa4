"""What a module of your own calls to add an algorithm, an environment or a network: `plugins=[my_module]` imports it.

What is registered is chosen like anything else: `rltrain plugins=[my_module] algo=... env=... network=...`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from rltrain.algos import registry as algorithms
from rltrain.config import network as network_config
from rltrain.config.algorithms import ALGOS, AlgorithmConfig
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.envs import registry
from rltrain.errors import ConfigError, RltrainError


class Option(NamedTuple):
    """A choice of a configuration group: its settings and a line for `rltrain list`."""

    settings: Any
    text: str


OPTIONS: dict[tuple[str, str], Option] = {}
"""What was registered, by group and name."""


def register_algorithm(settings_class: Any) -> None:
    """Add an algorithm under the name that its settings give by default.

    `settings_class` is a dataclass below `AlgorithmConfig` of rltrain/config/algorithms.py, such as a `PPOConfig` with
    other defaults. The module that defines it (or, for a module X_config, the module X beside it) has
    `train(config, run)` and `make_agent(config, frame_space, action_space, seed)` like those in rltrain/algos.
    Raises ConfigError.
    """
    if not issubclass(settings_class, AlgorithmConfig):
        fix = "derive the class from rltrain.config.algorithms.LearningConfig"
        raise RltrainError(f"{settings_class.__name__} is no AlgorithmConfig", "plugins", fix)
    settings = settings_class()
    _add("algo", settings.name, settings, settings_class.__doc__, taken=settings.name in ALGOS)
    ALGOS[settings.name] = settings_class
    algorithms.PLUGIN_MODULES[settings.name] = settings_class.__module__.removesuffix("_config")


def register_environment(settings: Any, text: str = "") -> None:
    """Add an environment of a family that is there: `GymConfig(name="mine", id="Mine-v0")`, `DoomConfig(...)`, ...

    `tuned_as="cartpole"` among its settings gives it the tuned settings of that environment.
    An environment of gymnasium's needs no name here: `env=gym env.id=Mine-v0` finds what the module registered with
    gymnasium. Raises ConfigError.
    """
    config_class(settings.family)
    _add("env", settings.name, settings, text, taken=False)


def register_environment_family(name: str, module: str, settings_class: type) -> None:
    """Add a family: a module with `spaces(config)` and `make_pool(config, num_envs)` as in rltrain/envs/gym/family.py.

    `settings_class` is a dataclass with `name`, `stack_num` and `family`, which is `name`; where it derives from
    `EnvironmentConfig`, its environments may say `tuned_as`. Raises ConfigError.
    """
    if name in ENVIRONMENTS:
        raise ConfigError(f"there is an environment family '{name}' already", "plugins", "give it another name")
    ENVIRONMENTS[name] = settings_class
    registry.MODULES[name] = module


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
