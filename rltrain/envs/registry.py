"""The module of each environment family. An emulator's package is imported only when its family is used."""

import contextlib
import dataclasses
import importlib
import sys
from types import ModuleType
from typing import Any

import gymnasium

from rltrain.config.environments import config_class
from rltrain.envs import checked
from rltrain.envs.ending import EndingPool
from rltrain.envs.pool import Pool
from rltrain.envs.viewer import Viewer
from rltrain.errors import ConfigError, EnvironmentFailure, printable

MODULES: dict[str, str] = {
    "gym": "rltrain.envs.gym.family",
    "doom": "rltrain.envs.doom.family",
    "atari": "rltrain.envs.atari.family",
    "retro": "rltrain.envs.retro.family",
}
"""The module of each family. It has `spaces`, `make_pool` and, if it can render, `make_viewer`.

It may have `settle(config, action_space)`, `action_names(config)` and `counted_from(config)`, which the functions below
describe, and
`missing_limit(config)`: what is missing, in words, if episodes have no time limit, or None. `known_limit(config)`: a
time limit in agent steps that is declared, but that a wrapper of the environment's own may hide, or None.
"""

_OURS = frozenset(MODULES)

NO_END_STEPS = 10_000
"""The time limit of episodes that must end, in agent steps, if the environment has none."""
TABLE_STEPS = 1_000
"""The same for an environment with a transition table, whose evaluation takes longer the higher the limit is."""


def spaces(config: Any) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return one environment's (single-frame observation, action) spaces. Raises ConfigError or EnvironmentFailure."""
    found = _module(config).spaces(config)
    return found if config.family in _OURS else checked.check_spaces(found, config.family)


def settle(config: Any, action_space: gymnasium.Space) -> Any:
    """Return the configuration of a new run with what depends on the environment decided, and tell what is unusual.

    action_space: the second of `spaces(config)`. Raises ConfigError or EnvironmentFailure.
    """
    decide = getattr(_module(config), "settle", None)
    return decide(config, action_space) if decide else config


def bounded(config: Any, steps: int = NO_END_STEPS) -> Any:
    """Return the configuration for episodes that must end: with a time limit of `steps` if there is none.

    The first time, a line on stderr tells it. Raises ConfigError or EnvironmentFailure.
    """
    missing_limit = getattr(_module(config), "missing_limit", None)
    what = missing_limit(config) if missing_limit else None
    if what is None:
        return config
    if what not in _told:
        _told.add(what)
        cut = f"episodes that must end are cut after {steps:,} steps"
        text = f"rltrain: {what}: {cut}; choose another limit with env.max_episode_steps"
        print(printable(text), file=sys.stderr)
    return dataclasses.replace(config, max_episode_steps=steps)


_told: set[str] = set()
"""The missing limits that were told."""


def make_pool(config: Any, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` environments. Raises ConfigError or EnvironmentFailure.

    first_index: the number of the first environment, if the pool is a part of a larger one. Environments are seeded by
    their numbers.
    """
    if num_envs < 1:
        raise ConfigError(f"num_envs={num_envs} is too small", "num_envs", "use 1 or more")
    # A plugin's family may not know the argument: it runs in one process.
    pool: Pool = _module(config).make_pool(config, num_envs, *([first_index] if first_index else []))
    if config.family in _OURS:
        return pool
    try:
        return checked.CheckedPool(pool, config.family, num_envs, getattr(config, "stack_num", None))
    except EnvironmentFailure:
        with contextlib.suppress(Exception):  # what is told is what is wrong with it
            pool.close()
        raise


def make_ending_pool(config: Any, num_envs: int, first_index: int = 0) -> Pool:
    """`make_pool` for episodes that must end. config: of `bounded`.

    An episode that goes on past the known limit and NO_END_STEPS is cut.
    """
    pool = make_pool(config, num_envs, first_index)
    known_limit = getattr(_module(config), "known_limit", None)
    if known_limit is None and config.family in _OURS:
        return pool  # these families count the steps or frames themselves
    known = known_limit(config) if known_limit else getattr(config, "max_episode_steps", None)
    return EndingPool(pool, max(known or 0, NO_END_STEPS), config.name)


def make_viewer(config: Any) -> Viewer:
    """Start one environment that renders pictures for a human viewer. Raises ConfigError or EnvironmentFailure."""
    return _module(config).make_viewer(config)


def action_names(config: Any) -> list[str]:
    """Return the names of the environment's discrete actions in order, or [] if they have no names."""
    names = getattr(_module(config), "action_names", None)
    return list(names(config)) if names else []


def counted_from(config: Any) -> tuple[int, Any]:
    """Return the environment's first state and first action, or a list of actions. Algorithms count them from 0."""
    counted = getattr(_module(config), "counted_from", None)
    return counted(config) if counted else (0, 0)


def _module(config: Any) -> ModuleType:
    config_class(config.family)  # raises ConfigError for an unknown family, naming the nearest one
    return importlib.import_module(MODULES[config.family])
