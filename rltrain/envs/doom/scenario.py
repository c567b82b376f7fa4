"""Doom scenarios: their names, spaces and pools. ViZDoom is imported only when a function needs it."""

import dataclasses
import sys

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.config.environments import DoomConfig
from rltrain.envs.pool import Pool
from rltrain.envs.spaces import PixelsAndVariables


def scenarios() -> list[str]:
    """Return the names of ViZDoom's own scenarios for one player whose WAD is installed."""
    from rltrain.envs.doom import setup as doom_setup

    return doom_setup.scenarios()


def spaces(config: DoomConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return (single-frame observation, action) spaces from the .cfg file, without starting an engine.

    They are Box [C, height, width] uint8, or PixelsAndVariables with `game_variables`, and Discrete. Raises ConfigError
    (unknown scenario, button or variable, bad .cfg) or EnvironmentFailure (no WAD, no ViZDoom).
    """
    from rltrain.envs.doom import setup as doom_setup

    actions = gym_spaces.Discrete(len(doom_setup.read_setup(config).actions))
    shape = (1 if config.gray else 3, config.height, config.width)
    if config.game_variables:
        return PixelsAndVariables(*shape, len(config.game_variables)), actions
    return gym_spaces.Box(0, 255, shape, np.uint8), actions


def bounded(config: DoomConfig, steps: int) -> DoomConfig:
    """Return the configuration with a time limit of `steps` if neither it nor the .cfg file has one.

    The first time, a line on stderr tells it. Raises what `spaces` raises.
    """
    from rltrain.envs.doom import setup as doom_setup

    cfg = str(doom_setup.read_setup(config).cfg)
    if config.max_episode_steps is not None or doom_setup.timeout_tics(cfg) > 0:
        return config
    if cfg not in _told:
        _told.add(cfg)
        what = f"rltrain: '{cfg}' has no episode_timeout: episodes that must end are cut after {steps:,} steps"
        print(f"{what}; choose another limit with env.max_episode_steps", file=sys.stderr)
    return dataclasses.replace(config, max_episode_steps=steps)


_told: set[str] = set()


def make_pool(config: DoomConfig, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` engines, seeded as numbers `first_index` and up. Raises ConfigError or EnvironmentFailure."""
    frame_space, action_space = spaces(config)  # first, because it reports a missing ViZDoom as EnvironmentFailure
    from rltrain.envs.doom.pool import DoomPool

    return DoomPool(config, num_envs, frame_space, action_space, first_index)
