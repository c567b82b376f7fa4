"""Functions that your own module calls to register an algorithm, an environment or a network.

`plugins=[my_module]` imports the module, so that its parts can be chosen by name:
`rltrain plugins=[my_module] algo=... env=... network=...`.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from rltrain.algos import registry as algorithms
from rltrain.config import network as network_config
from rltrain.config import plugin_modules
from rltrain.config.algorithms import ACTION_WORDS, ALGOS, AlgorithmConfig
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.envs import registry
from rltrain.errors import ConfigError, RltrainError


class Option(NamedTuple):
    """A choice of a configuration group: its settings and its line in `rltrain list`."""

    settings: Any
    text: str


_METHODS = {
    "check": "frame_space, action_space, stack_num",
    "memory": "frame_space, stack_num, frames_on_device",
    "checkpoint_every_steps": "frame_space, total_steps",
    "until_first_update": "",
}
"""The methods of an algorithm's settings, with their arguments."""

OPTIONS: dict[tuple[str, str], Option] = {}
"""The registered choices, by group and name."""


def register_algorithm(settings_class: Any) -> None:
    """Register an algorithm under the default `name` of its settings.

    `settings_class` is a dataclass derived from `AlgorithmConfig` in rltrain/config/algorithms.py, such as a
    `PPOConfig` with other defaults. The module that defines it must have `train(config, run)` and
    `make_agent(config, frame_space, action_space, seed)`, as in rltrain/algos. It may have `evaluate`, as in
    rltrain/algos/parts/q_table.py, which the evaluations of a run then call. If the module is named X_config, the
    functions are in module X. Raises ConfigError.
    """
    if not issubclass(settings_class, AlgorithmConfig):
        fix = "derive the class from LearningConfig or TabularConfig of rltrain.config.algorithms"
        raise RltrainError(f"{settings_class.__name__} is not derived from AlgorithmConfig", "plugins", fix)
    settings = settings_class()
    if missing := plugin_modules.missing(settings, _METHODS):
        fix = "give it the arguments that AlgorithmConfig of rltrain/config/algorithms.py has"
        raise ConfigError(f"{settings_class.__name__} has no {', '.join(missing)}", "plugins", fix)
    kinds = settings.action_kinds
    if isinstance(kinds, str) or not kinds or not set(kinds) <= ACTION_WORDS.keys():
        fix = f"use a tuple of some of {', '.join(ACTION_WORDS)}"
        raise ConfigError(f"the action_kinds of {settings_class.__name__} are {kinds!r}", "plugins", fix)
    _add("algo", settings.name, settings, settings_class.__doc__, taken=settings.name in ALGOS)
    ALGOS[settings.name] = settings_class
    algorithms.PLUGIN_MODULES[settings.name] = settings_class.__module__.removesuffix("_config")


def register_environment(settings: Any, text: str = "") -> None:
    """Register an environment of an existing family: `GymConfig(name="mine", id="Mine-v0")`, `DoomConfig(...)`, ...

    text: the line in `rltrain list`. The setting `tuned_as="cartpole"` uses the tuned settings of that environment.
    A gymnasium environment works without this call: `env=gym env.id=Mine-v0` finds any id that the module registers
    with gymnasium. Raises ConfigError.
    """
    config_class(settings.family)
    try:  # the module may change them, or what they hold, for the next environment
        settings = copy.deepcopy(settings)
    except Exception:  # what cannot be copied is no setting, which the run tells
        settings = copy.copy(settings)
    for key in getattr(settings, "filled_in", ()):  # null again, so that they follow a typed env.protocol
        setattr(settings, key, None)
    _add("env", settings.name, settings, text, taken=False)


def register_environment_family(name: str, module: str, settings_class: type) -> None:
    """Register a family of environments.

    `module` is the name of a module with `spaces(config)` and `make_pool(config, num_envs)`, as in
    rltrain/envs/gym/family.py. `rltrain play` needs its `make_viewer(config)`, too. `settings_class` is a dataclass
    with `name`, `stack_num` and `family`; the default of `family` is the family's name. If the class derives from
    `EnvironmentConfig`, its environments can set `tuned_as`. Raises ConfigError.
    """
    if name in ENVIRONMENTS:
        raise ConfigError(f"the environment family '{name}' already exists", "plugins", "use another name")
    ENVIRONMENTS[name] = settings_class
    registry.MODULES[name] = module


def register_network(name: str, layers: Callable[..., Any], smallest_frame: int | None = None) -> None:
    """Register a torso.

    `layers` is a function that returns the torch modules of the torso in order. One of them must be linear, and for
    pixels the first must be a convolution. The heads get the output of the last linear layer and its activation.
    Batch normalisation is refused: a value would depend on the other samples of its batch. Actor-critics begin with
    orthogonal weights in linear and 2D convolutional layers; weights that are the same with every seed stay.
    smallest_frame: the smallest frame side in pixels that the torso supports. With it, the torso is for pixels and
    `layers` gets the shape [channels, height, width]. Without it, the torso is for vectors and discrete states, and
    `layers` gets their size. Raises ConfigError.
    """
    if not plugin_modules.accepts(layers, "inputs"):
        fix = "let it take one argument: the number of inputs, or with smallest_frame the shape of the pixels"
        raise ConfigError(f"the network '{name}' is no function of one argument", "plugins", fix)
    settings = network_config.NetworkConfig()
    _add("network", name, settings, layers.__doc__, taken=name in network_config.names())
    network_config.OWN[name] = layers
    if smallest_frame is not None:
        network_config.SMALLEST_FRAME[name] = smallest_frame
    OPTIONS["network", name] = OPTIONS["network", name]._replace(settings=dataclasses.replace(settings, name=name))


def _add(group: str, name: str, settings: Any, text: str | None, taken: bool) -> None:
    if taken or (group, name) in OPTIONS:
        raise ConfigError(f"{group}={name} already exists", "plugins", "use another name")
    if not dataclasses.is_dataclass(settings):
        raise RltrainError(f"the settings of {name} are not a dataclass", f"plugins, {group}", "add @dataclass")
    OPTIONS[group, name] = Option(settings, (text or "").strip().split("\n")[0])
