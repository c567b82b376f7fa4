"""Doom scenarios: their names, spaces and pools. ViZDoom is imported only when a function needs it."""

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.config.environments import DoomConfig
from rltrain.envs.pool import Pool
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.system import notices


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


def settle(config: DoomConfig, action_space: gymnasium.Space) -> DoomConfig:
    """Tell which buttons of an own .cfg file a new run never presses. Returns the configuration as it is."""
    from rltrain.envs.doom.actions import left_out
    from rltrain.envs.doom.setup import read_setup

    buttons = read_setup(config).buttons if config.cfg is not None and config.actions is None else []
    if names := left_out(buttons):
        each = ",".join(f"[{name}]" for name in buttons)
        notices.warn_once(
            f"no action presses {', '.join(names)}; {config.cfg}; to press with 1 use 'env.actions=[{each}]'"
        )
    return config


def missing_limit(config: DoomConfig) -> str | None:
    """Return what is missing, in words, if neither the configuration nor the .cfg file has a time limit; else None.

    Raises what `spaces` raises.
    """
    from rltrain.envs.doom.setup import read_setup

    setup = read_setup(config)
    if config.max_episode_steps is not None or setup.timeout_tics > 0:
        return None
    return f"'{setup.cfg}' has no episode_timeout"


def make_pool(config: DoomConfig, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` engines, seeded as numbers `first_index` and up. Raises ConfigError or EnvironmentFailure."""
    frame_space, action_space = spaces(config)  # first, because it reports a missing ViZDoom as EnvironmentFailure
    from rltrain.envs.doom.pool import DoomPool

    return DoomPool(config, num_envs, frame_space, action_space, first_index)
