"""What algorithms make of a gymnasium environment's observations and actions."""

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.errors import ConfigError


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """[B, H, W] or [B, H, W, C] to [B, C, H, W]; a view."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)


def frame_space(env: gymnasium.Env, env_id: str) -> gymnasium.Space:
    """A single frame: Box [C, H, W] uint8, Box [K] float32 or Discrete. Raises ConfigError for anything else."""
    space = env.observation_space
    if isinstance(space, gym_spaces.Discrete):
        return space
    if isinstance(space, gym_spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        # Channels are few; an image that has them in front already is left as it is.
        if len(space.shape) == 3 and space.shape[0] <= 4 < space.shape[2]:
            return space
        low, high = channels_first(space.low[None])[0], channels_first(space.high[None])[0]
        return gym_spaces.Box(low, high, dtype=np.uint8)
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1:
        return gym_spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    raise ConfigError(
        f"'{env_id}' has observations that no network here takes: {space}", "env.id", "use Box or Discrete"
    )


def action_space(env: gymnasium.Env, env_id: str) -> gymnasium.Space:
    """What algorithms are to give: choices count from 0, and buttons pressed together are choices of two each.

    Raises ConfigError for actions that none gives.
    """
    space = env.action_space
    if isinstance(space, gym_spaces.Discrete):
        return gym_spaces.Discrete(int(space.n))
    if isinstance(space, gym_spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return gym_spaces.MultiDiscrete(space.nvec.tolist())
    if isinstance(space, gym_spaces.MultiBinary) and isinstance(space.n, int):
        return gym_spaces.MultiDiscrete([2] * space.n)
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        return gym_spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    raise ConfigError(f"'{env_id}' takes actions that no algorithm here gives: {space}", "env.id", "use another")
