"""Convert between a gymnasium environment and the algorithms: observations to frames, actions to the environment's."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.guard import environment_code
from rltrain.envs.patience import StandsStill, interruptible
from rltrain.envs.spaces import ScaledActions
from rltrain.errors import ConfigError, EnvironmentFailure

_NO_BOUND = 1e30
"""A bound beyond it stands for none: float32 goes to 3e38."""


class Conversion:
    """The conversion of observations and actions for one environment. Whoever steps an environment uses it.

    Algorithms count states and actions from 0; an environment may count from another number. Pixels become [C, H, W].
    With `env.scale_actions` the algorithms' continuous actions are from -1 to 1.
    """

    frame_space: gymnasium.Space
    """The space of a single frame: Box [C, H, W] uint8, Box [K] float32 or Discrete from 0."""
    action_space: gymnasium.Space
    """The action space for algorithms: Discrete or MultiDiscrete from 0, or Box [A] float32. MultiBinary becomes
    MultiDiscrete with two options per choice."""

    def __init__(self, env: gymnasium.Env, config: GymConfig) -> None:
        """Raises ConfigError for an unsupported observation or action space, EnvironmentFailure for a missing one."""
        observation_space, action_space = (
            _declared(env, name, config.id) for name in ("observation_space", "action_space")
        )
        self._theirs: Any = action_space
        self._has_channels_first = _has_channels_first(observation_space, config.channels)
        self.frame_space = self._frame_space(observation_space, config.id)
        self.action_space = _action_space(action_space, config.id)
        self._discrete = isinstance(action_space, gym_spaces.Discrete)
        # int64, as algorithms count: int64 and uint64 make float64, which is no index.
        self._first_action = np.asarray(getattr(action_space, "start", 0)).astype(np.int64)
        self._first_state = int(getattr(observation_space, "start", 0))
        self._shifts_actions, self._shifts_states = bool(np.any(self._first_action)), bool(self._first_state)
        self._moves_channels = _is_pixels(observation_space) and not self._has_channels_first
        self._is_locked = isinstance(action_space, gym_spaces.Box) and not _lies_inside(self.action_space, action_space)
        """Some dimension has bounds with no float32 between them."""
        self._scaled = np.zeros(0, bool)
        """Which dimensions of the actions are scaled, [A]; empty if none is."""
        if isinstance(self.action_space, gym_spaces.Box):
            scales = config.scale_actions
            if scales is None:
                scales = far_actions(action_space)
            if scales and (scalable := _scalable(action_space)).any():
                self._scaled = scalable
                low, high = (
                    np.where(self._scaled, end, bound).astype(np.float32)
                    for end, bound in ((-1, self.action_space.low), (1, self.action_space.high))
                )
                self.action_space = ScaledActions(low, high, action_space)

    @property
    def counted_from(self) -> tuple[int, Any]:
        """The environment's first state and first action, or a list of actions; 0 where it does not count."""
        return self._first_state, self._first_action.tolist()

    def actions(self, action: np.ndarray) -> Sequence[Any] | np.ndarray:
        """Return the argument of each environment's `step` for actions [B] or [B, K] int64 or [B, A] float32."""
        if self._shifts_actions:
            action = action + self._first_action
        if self._discrete:
            # Python numbers, because environments index and compare with them, which is slow with NumPy scalars.
            return action.tolist()
        if self._scaled.any():
            low, high = self._theirs.low.astype(np.float64), self._theirs.high.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # dimensions without bounds, which are not scaled
                scaled = low + (action.astype(np.float64) + 1) / 2 * (high - low)
            action = np.where(self._scaled, np.clip(scaled, low, high), action)
        action = action.astype(self._theirs.dtype)  # a copy, because an environment may change it in place
        return np.clip(action, self._theirs.low, self._theirs.high) if self._is_locked else action

    def frames(self, obs: np.ndarray) -> np.ndarray:
        """Return observations [B, ...] as frames [B, *frame_shape]; `obs` itself if there is nothing to convert."""
        if self._moves_channels:
            return np.ascontiguousarray(_channels_first(obs))
        return obs - self._first_state if self._shifts_states else obs

    def _frame_space(self, space: Any, env_id: str) -> gymnasium.Space:
        if isinstance(space, gym_spaces.Discrete):
            return gym_spaces.Discrete(int(space.n))
        if isinstance(space, gym_spaces.Box) and 0 not in space.shape:
            if _is_pixels(space):
                if self._has_channels_first:
                    return space
                low, high = _channels_first(space.low[None])[0], _channels_first(space.high[None])[0]
                return gym_spaces.Box(low, high, dtype=np.uint8)
            if len(space.shape) == 1:
                return gym_spaces.Box(_float32(space.low), _float32(space.high), dtype=np.float32)
        what, fix = _refusal(space)
        raise ConfigError(f"the observations of '{env_id}' are not supported: {what}", "env.id", fix)


def far_actions(space: gymnasium.Space) -> bool:
    """Return true if a new policy, which acts around 0 with deviation 1, cannot reach most of a Box of actions.

    It is far if a finite interval has its centre outside of [-1, 1], or is wider than 20 or narrower than 0.2.
    """
    if not isinstance(space, gym_spaces.Box):
        return False
    finite = _scalable(space)
    low, high = space.low[finite].astype(np.float64), space.high[finite].astype(np.float64)
    centre, half = (low + high) / 2, (high - low) / 2
    # The bounds may be the float32 neighbours of the numbers that were meant.
    return bool(((np.abs(centre) > 1) | (half > 10.001) | (half < 0.0999)).any())


def out_of_reach(space: gymnasium.Space) -> bool:
    """Return true if a Box has actions with one bound, where a new policy hardly acts, which nothing scales."""
    if not isinstance(space, gym_spaces.Box):
        return False
    has_low, has_high = _bounds(space)
    return bool(((has_low & ~has_high & (space.low > 1)) | (has_high & ~has_low & (space.high < -1))).any())


def _scalable(space: Any) -> np.ndarray:
    """Return which dimensions have two bounds that differ, [A] bool."""
    has_low, has_high = _bounds(space)
    return has_low & has_high & (space.low < space.high)


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return which dimensions have a lower and an upper bound, [A] bool each.

    The largest number of a dtype stands for no bound, as infinity does.
    """
    return space.low > -_NO_BOUND, space.high < _NO_BOUND


@contextlib.contextmanager
def answered(env_id: str) -> Iterator[None]:
    """Turn StandsStill inside, where spaces are read, into EnvironmentFailure: a space may be asked of a simulator."""
    try:
        yield
    except StandsStill as hang:
        what = f"environment '{env_id}' hung while its spaces were read, and the run stops"
        raise EnvironmentFailure(what, "env.id", "the fault is in the environment") from hang


def _declared(env: gymnasium.Env, name: str, env_id: str) -> gymnasium.Space:
    """Return a space of an environment. Raises EnvironmentFailure if it has none."""
    with answered(env_id), environment_code(env_id), interruptible():
        space = getattr(env, name)
    if not isinstance(space, gymnasium.Space):
        what = f"environment '{env_id}' has the {name} {space!r}, which is no gymnasium space"
        raise EnvironmentFailure(what, "env.id", f"set self.{name} in the environment's constructor")
    return space


def _refusal(space: Any) -> tuple[str, str]:
    """Return what an unsupported observation space is, and what to use instead."""
    if not isinstance(space, gym_spaces.Box):
        kind = type(space).__name__
        return f"{kind} ({space})", "make it a vector with gymnasium.wrappers.FlattenObservation in its factory"
    shape = "x".join(map(str, space.shape))
    if 0 in space.shape or not space.shape:
        return f"a Box of shape {space.shape}, without numbers to learn from", "use a Box of shape (n,)"
    kind = f"a {space.dtype} grid or picture of {shape}"
    if len(space.shape) in (2, 3):
        return kind, (
            "make it a vector with gymnasium.wrappers.FlattenObservation in its factory, or a picture of uint8 (0 to "
            "255) with shape (height, width[, channels])"
        )
    return kind, "make it a vector with gymnasium.wrappers.FlattenObservation in its factory"


def _action_space(space: Any, env_id: str) -> gymnasium.Space:
    if isinstance(space, gym_spaces.Discrete):
        return gym_spaces.Discrete(int(space.n))
    if isinstance(space, gym_spaces.MultiDiscrete) and space.nvec.ndim == 1 and space.nvec.size:
        return gym_spaces.MultiDiscrete(space.nvec.tolist())
    if isinstance(space, gym_spaces.MultiBinary) and isinstance(space.n, int):
        return gym_spaces.MultiDiscrete([2] * space.n)
    if isinstance(space, gym_spaces.Box) and len(space.shape) == 1 and 0 not in space.shape and space.dtype.kind == "f":
        low, high = _float32(space.low), _float32(space.high)
        # Round inward: the float32 next to 0.1 is above 0.1, which an environment may refuse.
        low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
        low, high = np.where(low > high, _float32(space.low), (low, high))  # a joint that is locked at 0.1
        return gym_spaces.Box(low, high, dtype=np.float32)
    what = f"{space}{' without a choice' if 0 in (space.shape or ()) else ''}"
    fix = "use an environment with Discrete actions, or MultiDiscrete, MultiBinary or Box of one dimension"
    if isinstance(space, gym_spaces.Box):
        what = f"a {space.dtype} Box of shape {space.shape}"
        fix = "use a Box of floats with one dimension; gymnasium.wrappers.TransformAction reshapes and rounds"
    raise ConfigError(f"the actions of '{env_id}' are not supported: {what}", "env.id", fix)


def _lies_inside(ours: Any, theirs: Any) -> bool:
    return bool(((ours.low >= theirs.low) & (ours.high <= theirs.high)).all())


def _float32(bounds: np.ndarray) -> np.ndarray:
    """Return bounds as float32, in which those that are too large are infinite."""
    with np.errstate(over="ignore"):
        return bounds.astype(np.float32)


def _is_pixels(space: gymnasium.Space) -> bool:
    return isinstance(space, gym_spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _has_channels_first(space: gymnasium.Space, channels: str | None) -> bool:
    """Return true if the channels of a picture come first: `channels` says so or, if it is null, the shape.

    Up to 4 channels are colours. Of two axes that are both longer or both shorter, the one that is shorter than both
    others is a stack of frames; where there is none, the channels come last, as usual in gymnasium.
    """
    shape = space.shape or ()
    if len(shape) != 3 or channels is not None:
        return len(shape) == 3 and channels == "first"
    first, _, last = shape
    if first <= 4 or last <= 4:
        return first <= 4 < last
    return first < min(shape[1:])


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """Return pixels [B, H, W] or [B, H, W, C] as [B, C, H, W], a view."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
