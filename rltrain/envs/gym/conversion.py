"""Convert between a gymnasium environment and the algorithms: observations to frames, actions to the environment's."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.errors import ConfigError


class Conversion:
    """The conversion of observations and actions for one environment.

    Algorithms count states and actions from 0; an environment may count from another number. Pixels become [C, H, W].
    """

    frame_space: gymnasium.Space
    """The space of a single frame: Box [C, H, W] uint8, Box [K] float32 or Discrete from 0."""
    action_space: gymnasium.Space
    """The action space for algorithms: Discrete or MultiDiscrete from 0, or Box [A] float32. MultiBinary becomes
    MultiDiscrete with two options per choice."""

    def __init__(self, env: gymnasium.Env, env_id: str) -> None:
        """Raises ConfigError for an observation space or an action space that is not supported."""
        self.frame_space, self.action_space = _frame_space(env, env_id), _action_space(env, env_id)
        self._discrete = isinstance(env.action_space, gym_spaces.Discrete)
        self._first_action = getattr(env.action_space, "start", 0)
        self._first_state = getattr(env.observation_space, "start", 0)
        self._shifts_actions, self._shifts_states = bool(np.any(self._first_action)), bool(self._first_state)
        self._moves_channels = _is_pixels(env.observation_space) and not _has_channels_first(env.observation_space)

    def actions(self, action: np.ndarray) -> Sequence[Any] | np.ndarray:
        """Return the argument of each environment's `step` for actions [B] or [B, K] int64 or [B, A] float32."""
        if self._shifts_actions:
            action = action + self._first_action
        # Python numbers, because environments index and compare with them, which is slow with NumPy scalars.
        return action.tolist() if self._discrete else action

    def frames(self, obs: np.ndarray) -> np.ndarray:
        """Return observations [B, ...] as frames [B, *frame_shape]; `obs` itself if there is nothing to convert."""
        if self._moves_channels:
            return np.ascontiguousarray(_channels_first(obs))
        return obs - self._first_state if self._shifts_states else obs


def _frame_space(env: gymnasium.Env, env_id: str) -> gymnasium.Space:
    space = env.observation_space
    if isinstance(space, gym_spaces.Discrete):
        return gym_spaces.Discrete(int(space.n))
    if isinstance(space, gym_spaces.Box) and _is_pixels(space):
        if _has_channels_first(space):
            return space
        low, high = _channels_first(space.low[None])[0], _channels_first(space.high[None])[0]
        return gym_spaces.Box(low, high, dtype=np.uint8)
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1:
        return gym_spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    raise ConfigError(
        f"the observations of '{env_id}' are not supported: {space}",
        "env.id",
        "use an environment with Box or Discrete observations",
    )


def _action_space(env: gymnasium.Env, env_id: str) -> gymnasium.Space:
    space = env.action_space
    if isinstance(space, gym_spaces.Discrete):
        return gym_spaces.Discrete(int(space.n))
    if isinstance(space, gym_spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return gym_spaces.MultiDiscrete(space.nvec.tolist())
    if isinstance(space, gym_spaces.MultiBinary) and isinstance(space.n, int):
        return gym_spaces.MultiDiscrete([2] * space.n)
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f":
        return gym_spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    raise ConfigError(
        f"the actions of '{env_id}' are not supported: {space}",
        "env.id",
        "use an environment with Discrete, MultiDiscrete, MultiBinary or Box actions",
    )


def _is_pixels(space: gymnasium.Space) -> bool:
    return isinstance(space, gym_spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _has_channels_first(space: gymnasium.Space) -> bool:
    """Guess from the shape if the channels come first: they are at most 4, and there are more columns."""
    shape = space.shape or ()
    return len(shape) == 3 and shape[0] <= 4 < shape[2]


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """Return pixels [B, H, W] or [B, H, W, C] as [B, C, H, W], a view."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
