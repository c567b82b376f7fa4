"""The module of each environment family. An emulator's package is imported only when its family is used."""

import contextlib
import dataclasses
import importlib
import math
import numbers
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from rltrain.config import plugin_modules
from rltrain.config.environments import config_class
from rltrain.envs import checked
from rltrain.envs.ending import EndingPool
from rltrain.envs.pool import Pool
from rltrain.envs.viewer import Viewer
from rltrain.errors import ConfigError, EnvironmentFailure
from rltrain.system import notices

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

_FUNCTIONS = {"spaces": "config", "make_pool": "config, num_envs"}
_OPTIONAL = {"make_viewer": "config", "settle": "config, action_space", "action_names": "config"}
_OPTIONAL |= dict.fromkeys(("counted_from", "missing_limit", "known_limit"), "config")
"""The functions of the module of a plugin's family, with their arguments."""

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
    return _ask("settle", config, action_space, kind=type(config), default=config)


def bounded(config: Any, steps: int = NO_END_STEPS) -> Any:
    """Return the configuration for episodes that must end: with a time limit of `steps` if there is none.

    The first time, a line on stderr tells it. Raises ConfigError or EnvironmentFailure.
    """
    what = _ask("missing_limit", config, kind=str | None, default=None)
    if what is None:
        return config
    has_key = hasattr(config, "max_episode_steps")  # else `make_ending_pool` cuts the episodes
    if notices.is_new(what):
        limit = steps if has_key else NO_END_STEPS
        cut = f"evaluations, `play` and REINFORCE cut an episode that has not ended by itself after {limit:,} steps"
        notices.tell(f"{what}: {cut}" + ("; choose another limit with env.max_episode_steps" if has_key else ""))
    return dataclasses.replace(config, max_episode_steps=steps) if has_key else config


def has_bounded(env_id: str) -> bool:
    """Return True if this process has told that the environment lacks a limit."""
    return notices.has_told(f"'{env_id}' ")


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
    if config.family in _OURS and not hasattr(_module(config), "known_limit"):
        return pool  # these families count the steps or frames themselves
    known = _ask("known_limit", config, kind=numbers.Real | None, default=getattr(config, "max_episode_steps", None))
    if known is not None and not math.isfinite(known):
        raise checked.breach_of(config.family, "known_limit", known, "a finite number of agent steps, or None")
    return EndingPool(pool, max(known or 0, NO_END_STEPS), config.name)


def make_viewer(config: Any) -> Viewer:
    """Start one environment that renders pictures for a human viewer.

    Raises ConfigError or EnvironmentFailure, also for a plugin's family that has no `make_viewer`.
    """
    make = getattr(_module(config), "make_viewer", None)
    if make is None:
        fix = "use `rltrain eval`: it cannot be watched or filmed"
        raise EnvironmentFailure(f"environment family '{config.family}' draws no pictures", "env", fix)
    return make(config) if config.family in _OURS else checked.CheckedViewer(make(config), config.family)


def action_names(config: Any) -> list[str]:
    """Return the names of the environment's discrete actions in order, or [] if they have no names."""
    return list(_ask("action_names", config, kind=Iterable, default=()))


def counted_from(config: Any) -> tuple[int, Any]:
    """Return the environment's first state and first action, or a list of actions. Algorithms count them from 0."""
    first: tuple[Any, Any] = _ask("counted_from", config, kind=tuple, default=(0, 0))
    if config.family in _OURS:
        return first
    actions = first[1] if len(first) == 2 and isinstance(first[1], list) else first[1:]
    if len(first) != 2 or not all(isinstance(number, int | np.integer) for number in (first[0], *actions)):
        wanted = "two whole numbers, the first state and the first action (or a list of first actions)"
        raise checked.breach_of(config.family, "counted_from", first, wanted)
    return int(first[0]), [int(number) for number in actions] if isinstance(first[1], list) else int(first[1])


def _ask(function: str, config: Any, *given: Any, kind: Any, default: Any) -> Any:
    """Return what an optional function of a family returns, or `default`. Raises PoolBreach for another type."""
    found = getattr(_module(config), function, None)
    if found is None:
        return default
    answer = found(config, *given)
    if config.family not in _OURS and not isinstance(answer, kind):
        raise checked.breach_of(config.family, function, answer, kind)
    return answer


def _module(config: Any) -> ModuleType:
    config_class(config.family)  # raises ConfigError for an unknown family, naming the nearest one
    name = MODULES[config.family]
    if config.family in _OURS:
        return importlib.import_module(name)
    of = f"the environment family '{config.family}'"
    return plugin_modules.part(name, of, _FUNCTIONS, "rltrain/envs/gym/family.py", _OPTIONAL)
