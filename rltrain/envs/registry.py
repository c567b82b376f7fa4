"""The table of environment families. An emulator's package is imported only where its family is used."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium

from rltrain.envs.atari import AtariConfig
from rltrain.envs.doom import DoomConfig
from rltrain.envs.gym import GymConfig
from rltrain.envs.pool import Pool
from rltrain.envs.retro import RetroConfig
from rltrain.envs.viewer import Viewer
from rltrain.errors import ConfigError, nearest


class Family(NamedTuple):
    """One row: where `make_pool` and `spaces` live, and the schema of the `env` group's files."""

    module: str
    config: type


FAMILIES: dict[str, Family] = {
    "gym": Family("rltrain.envs.gym", GymConfig),
    "doom": Family("rltrain.envs.doom", DoomConfig),
    "atari": Family("rltrain.envs.atari", AtariConfig),
    "retro": Family("rltrain.envs.retro", RetroConfig),
}


def config_class(family: str) -> type:
    """The schema of a family. Raises ConfigError for an unknown one."""
    return _family(family).config


def spaces(config: Any) -> tuple[gymnasium.Space, gymnasium.Space]:
    """One environment's (single-frame observation, action) spaces. Raises ConfigError or EnvironmentFailure."""
    return _module(config).spaces(config)


def make_pool(config: Any, num_envs: int) -> Pool:
    """Start `num_envs` environments. Raises ConfigError or EnvironmentFailure."""
    if num_envs < 1:
        raise ConfigError(f"num_envs={num_envs}", "num_envs", "give at least 1")
    return _module(config).make_pool(config, num_envs)


def make_viewer(config: Any) -> Viewer:
    """One environment with a picture for people. Raises ConfigError or EnvironmentFailure."""
    return _module(config).make_viewer(config)


def folder_name(config: Any) -> str:
    """What run folders, tables and plots call an environment.

    Its `name`; where that names the family alone (env=gym env.id=...), the id, game or scenario, safe in a path.
    """
    if config.name != config.family:
        return str(config.name)
    if config.family == "doom":
        cfg = getattr(config, "cfg", None)
        chosen = Path(cfg).stem if cfg else config.scenario
        chosen = "doom" if chosen == "basic" else f"doom_{chosen}"  # env=doom is the basic scenario
    else:
        chosen = getattr(config, "id", "") or getattr(config, "game", "") or config.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", chosen).strip("-.")


def _family(family: str) -> Family:
    if family not in FAMILIES:
        raise ConfigError(f"unknown family '{family}'", "env.family", nearest(family, FAMILIES))
    return FAMILIES[family]


def _module(config: Any) -> ModuleType:
    return importlib.import_module(_family(config.family).module)
