"""Check that the pool and the viewer of a plugin's own environment family return what their protocols say."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rltrain.config import plugin_modules
from rltrain.envs.patience import is_stopping
from rltrain.envs.pool import Episode, Pool, TimeStep
from rltrain.envs.viewer import Shown, Viewer
from rltrain.errors import EnvironmentFailure
from rltrain.system import plain_json, restored

_FLAGS = ("terminated", "truncated", "first")
_METHODS = {"reset": "seed", "send": "action", "recv": "", "step": "action"}
_METHODS |= {"state_dict": "", "load_state_dict": "state", "close": ""}
_VIEWER_METHODS = {"reset": "seed", "step": "action", "restart": "", "action_name": "action", "close": ""}
"""The methods of a pool and of a viewer, with their arguments."""


class PoolBreach(EnvironmentFailure):
    """A family, its pool or its viewer returned something that its protocol excludes."""

    is_final = True


def check_spaces(found: Any, family: str) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return what a family's `spaces` returned, if these are two spaces that algorithms support. Raises PoolBreach."""
    is_pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(one, gymnasium.Space) for one in found)
    if not is_pair:
        raise _breach(family, f"spaces returned {_shown(found)}", "(observation space, action space) of gymnasium")
    frame, action = found
    if empty := [space for space in found if 0 in (space.shape or ())]:
        raise _breach(family, f"the space {empty[0]} has no numbers", "spaces with at least one")
    is_box = isinstance(frame, spaces.Box) and (
        (len(frame.shape) == 3 and frame.dtype == np.uint8) or (len(frame.shape) == 1 and frame.dtype == np.float32)
    )
    if not is_box and not (isinstance(frame, spaces.Discrete) and frame.start == 0):
        wanted = "a Box [channels, height, width] of uint8, a Box [K] of float32, or a Discrete that starts at 0"
        raise _breach(family, f"the observation space is {frame}", wanted)
    counts_from_0 = not np.any(getattr(action, "start", 0))
    is_vector = isinstance(action, spaces.Box) and len(action.shape) == 1 and action.dtype == np.float32
    is_choice = isinstance(action, spaces.Discrete | spaces.MultiDiscrete) and len(action.shape or ()) <= 1
    if not is_vector and not (is_choice and counts_from_0):
        wanted = "a Discrete or a MultiDiscrete [A] that starts at 0, or a Box [A] of float32"
        raise _breach(family, f"the action space is {action}", wanted)
    return frame, action


class CheckedPool:
    """A pool whose every result is checked: types, shapes and dtypes, states, flags, and the episodes that have ended.

    A check takes some microseconds. What is not finite passes: `Stepper` stops it with an error of its own. Arrays are
    copied, because a pool may fill the same ones in each step.
    """

    def __init__(self, pool: Pool, family: str, num_envs: int, stack_num: int | None = None) -> None:
        """stack_num: the frames of an observation in the settings of the family; None if these have none."""
        self._pool, self._family = pool, family
        missing = plugin_modules.missing(pool, _METHODS)
        missing += [name for name in ("num_envs", "stack_num", "num_restarts") if not hasattr(pool, name)]
        if missing:
            raise _breach(family, f"its pool has no {', '.join(missing)}", "what rltrain/envs/pool.py describes")
        if pool.num_envs != num_envs:
            raise _breach(family, f"make_pool made {pool.num_envs} environments", f"{num_envs}")
        if stack_num is not None and pool.stack_num != stack_num:
            raise _breach(family, f"the stack_num of its pool is {pool.stack_num}", f"env.stack_num={stack_num}")
        self.frame_space, self.action_space = check_spaces((pool.frame_space, pool.action_space), family)
        self.num_envs, self.stack_num = num_envs, pool.stack_num
        self._num_states = getattr(self.frame_space, "n", None)
        self._is_tried = False
        """True once the pool was asked for its state."""
        self._num_restarts = 0

    @property
    def num_restarts(self) -> int:
        """The number of replaced environments."""
        return self._pool.num_restarts

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape]. Raises PoolBreach."""
        obs = self._pool.reset(seed)
        self._check_obs(obs, "obs of reset")
        if not self._is_tried:
            self.state_dict()  # now, and not at the first checkpoint, with all that was trained until then
            self._is_tried = True
        self._num_restarts = self.num_restarts
        return obs.copy()

    def send(self, action: np.ndarray) -> None:
        """Start one step and return at once."""
        self._pool.send(action)

    def recv(self) -> TimeStep:
        """Wait for the step that `send` started and return its result. Raises PoolBreach."""
        return self._checked(self._pool.recv)

    def step(self, action: np.ndarray) -> TimeStep:
        """Take one step. Raises PoolBreach."""
        return self._checked(lambda: self._pool.step(action))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the exact state of the environments, or None. Raises PoolBreach for what no checkpoint can hold."""
        state = self._pool.state_dict()
        if state is not None and (wrong := _unsaveable(state, "")):
            wanted = "a dict with arrays and JSON values, or None if the state cannot be saved"
            raise _breach(self._family, f"state_dict returned {wrong}", wanted)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises PoolBreach if it is not there again."""
        self._pool.load_state_dict(state)
        if key := restored.forgotten(self.state_dict() or {}, lambda: self.state_dict() or {}, state):
            wanted = "what load_state_dict was given"
            raise _breach(self._family, f"after load_state_dict '{key}' of state_dict is another value", wanted)

    def close(self) -> None:
        """End all environments."""
        self._pool.close()

    def _checked(self, call: Callable[[], TimeStep]) -> TimeStep:
        step = call()
        if not isinstance(step, TimeStep):
            raise _breach(self._family, f"a step returned {_shown(step)}", "a TimeStep of rltrain.envs.pool")
        self._check_obs(step.obs, "obs")
        self._check_obs(step.next_obs, "next_obs")
        self._check_array(step.reward, "reward", (self.num_envs,), np.dtype(np.float32))
        for name in _FLAGS:
            self._check_array(getattr(step, name), name, (self.num_envs,), np.dtype(bool))
        if (step.terminated & step.truncated).any():
            raise _breach(self._family, "an episode is terminated and truncated at once", "one of the two at most")
        if (step.first & ~(step.terminated | step.truncated)).any():
            raise _breach(self._family, "an episode is reset without an end", "terminated or truncated with first")
        if (step.truncated & ~step.first).any():
            raise _breach(self._family, "an episode is truncated without first", "first where a reset followed")
        changed = (step.obs != step.next_obs).reshape(self.num_envs, -1).any(axis=1) & ~step.first
        if changed.any() and not np.isnan(step.obs[changed]).any():
            raise _breach(self._family, "obs differs from next_obs without first", "the same where no reset followed")
        episodes = [self._episode(episode) for episode in step.episodes]
        restarts, self._num_restarts = self._num_restarts, self.num_restarts
        missing = set(np.flatnonzero(step.first).tolist()) - {episode.env_index for episode in episodes}
        # The episode of an environment that was replaced, or hangs while the run stops, is not in the statistics.
        if missing and self._num_restarts == restarts and not is_stopping():
            raise _breach(self._family, f"environment {min(missing)} is reset without an Episode", "in episodes")
        copies = {name: getattr(step, name).copy() for name in ("obs", "next_obs", "reward", *_FLAGS)}
        return TimeStep(**copies, episodes=episodes)

    def _episode(self, episode: Any) -> Episode:
        """Return an Episode with Python's numbers, which metrics and checkpoints can hold."""
        index = getattr(episode, "env_index", None)
        if not (isinstance(episode, Episode) and isinstance(index, int | np.integer) and 0 <= index < self.num_envs):
            wanted = f"an Episode with env_index from 0 to {self.num_envs - 1}"
            raise _breach(self._family, f"episodes has {_shown(episode)}", wanted)
        try:
            reward, steps, frames = float(episode.reward), int(episode.length_steps), int(episode.length_frames)
        except (TypeError, ValueError, OverflowError):
            steps = 0
        if steps < 1:
            raise _breach(self._family, f"episodes has {episode}", "an Episode of numbers, with 1 step or more")
        return Episode(int(index), reward, steps, frames)

    def _check_obs(self, obs: Any, name: str) -> None:
        dtype = self.frame_space.dtype
        assert dtype is not None
        if self._num_states is not None and getattr(obs, "dtype", np.dtype(object)).kind in "iu":
            dtype = obs.dtype  # any whole numbers are states
        self._check_array(obs, name, (self.num_envs, *(self.frame_space.shape or ())), dtype)
        if self._num_states is not None and ((obs < 0) | (obs >= self._num_states)).any():
            raise _breach(self._family, f"{name} has a state outside of {self.frame_space}", "a state of that space")

    def _check_array(self, array: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
            raise _breach(self._family, f"{name} is {_shown(array)}", f"an array of shape {shape} and dtype {dtype}")


class CheckedViewer:
    """A viewer whose every result is checked."""

    def __init__(self, viewer: Viewer, family: str) -> None:
        self._viewer, self._family = viewer, family
        if missing := plugin_modules.missing(viewer, _VIEWER_METHODS):
            wanted = "what rltrain/envs/viewer.py describes"
            raise _breach(family, f"its viewer has no {', '.join(missing)}", wanted, "viewer")
        fps = getattr(viewer, "fps", None)
        if not (isinstance(fps, int | float | np.number) and 0 < fps < 1000):
            raise _breach(family, f"the fps of its viewer is {fps!r}", "a number from 0 to 1000", "viewer")
        self.fps = float(fps)

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode. Return its first picture, [H, W, 3] uint8. Raises PoolBreach."""
        return self._picture(self._viewer.reset(seed))

    def step(self, action: Any) -> Shown:
        """Take one agent step. Raises PoolBreach."""
        shown = self._viewer.step(action)
        wanted = (list | tuple, int | float | np.number, bool | np.bool_)
        if not (isinstance(shown, Shown) and all(map(isinstance, shown[:3], wanted))):
            found = f"Shown({', '.join(map(_shown, shown[:3]))})" if isinstance(shown, Shown) else _shown(shown)
            what = f"a step of its viewer returned {found}"
            raise _breach(self._family, what, "a Shown with a list of pictures, a number and a bool", "viewer")
        pictures = [self._picture(each) for each in shown.pictures]
        return Shown(pictures, float(shown.reward), bool(shown.ended))

    def restart(self) -> np.ndarray:
        """Start the next episode. Return its first picture, [H, W, 3] uint8. Raises PoolBreach."""
        return self._picture(self._viewer.restart())

    def action_name(self, action: Any) -> str:
        """Return the name of an action."""
        return str(self._viewer.action_name(action))

    def close(self) -> None:
        """End the twin."""
        self._viewer.close()

    def _picture(self, picture: Any) -> np.ndarray:
        is_array = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
        if not is_array or picture.shape[2] != 3 or 0 in picture.shape:
            wanted = "an array [height, width, 3] of uint8"
            raise _breach(self._family, f"a picture of its viewer is {_shown(picture)}", wanted, "viewer")
        return np.ascontiguousarray(picture)


def breach_of(family: str, function: str, answer: Any, kind: Any) -> PoolBreach:
    """Return the error of a function of a family that returned something else than `kind`, a type or words."""
    found = f"{answer!r:.100}" if isinstance(kind, str) else _shown(answer)
    wanted = getattr(kind, "__name__", str(kind))
    return _breach(family, f"{function} returned {found}", f"{wanted}", function)


def _breach(family: str, what: str, wanted: str, part: str = "pool") -> PoolBreach:
    return PoolBreach(f"environment family '{family}': {what}, but must be {wanted}", "plugins", f"correct its {part}")


def _unsaveable(value: Any, where: str) -> str:
    """Return what of a state is neither an array nor JSON, and where it is; empty if nothing is."""
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str) or "/" in key or "~" in key]:
            return f"the key {wrong[0]!r}{where}"
        return next(filter(None, (_unsaveable(each, f"{where}[{key!r}]") for key, each in value.items())), "")
    if isinstance(value, np.ndarray):
        return f"{_shown(value)} at {where}" if value.dtype.hasobject else ""
    if hasattr(value, "untyped_storage"):  # a tensor
        return ""
    try:
        plain_json.dumps(value)
    except (TypeError, ValueError):
        return f"{_shown(value)} at {where}"
    return "" if where else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
