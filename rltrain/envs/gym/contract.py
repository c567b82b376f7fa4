"""Check that a gymnasium environment returns what it declared. What is accepted in silence would train on nonsense.

The types, the shape and the dtype are checked in every step, in some 0.3 us. Whether the numbers lie in the space is
checked at every reset, in the first FIRST_STEPS steps and in every SAMPLED-th later one; a discrete state always.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rltrain.errors import EnvironmentFailure
from rltrain.system import notices

FIRST_STEPS = 100
SAMPLED = 64
"""A power of two."""

_EXACT = 2.0**24
"""Whole numbers up to here are exact in float32."""


class ContractBreach(EnvironmentFailure):
    """An environment returned something that it did not declare."""

    is_final = True


class Contract:
    """The contract of one environment. Each method checks a result and returns its parts, in the types of gymnasium.

    An observation becomes an array of the declared shape or, for Discrete, an int. Raises ContractBreach. Numbers that
    are not finite pass: `Stepper` and `play_episodes` stop them with an error of their own.
    """

    def __init__(self, env: gymnasium.Env, env_id: str) -> None:
        self._id = env_id
        self._is_own = type(env.unwrapped).__module__.startswith("gymnasium.")
        self._space = space = env.observation_space
        self._is_state = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):  # kept, because the environment can change its space
            self._states, self._declared = range(int(space.start), int(space.start) + int(space.n)), str(space)
        self._shape, self._dtype = space.shape, space.dtype
        self._env, self._actions, self._actions_declared = env, _numbers(env.action_space), str(env.action_space)
        self._num_steps = 0
        if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) > 1 and space.high.max() < 32:
            what = f"has pictures of {space}; networks divide pixels by 255 and learn slowly from numbers this small:"
            self._tell("dark pictures", f"{what} multiply them in the environment, so that they go up to 255")

    def reset(self, result: Any) -> Any:
        """Return the observation of a result of `reset`, after which the actions must be those that were declared."""
        if _numbers(self._env.action_space) != self._actions:
            what = f"has another action_space after a reset: {self._env.action_space}, not {self._actions_declared}"
            fix = "set self.action_space in the environment's constructor, and leave it"
            raise ContractBreach(f"environment '{self._id}' {what}", "env.id", fix)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise self._breach("reset", _shown(result), "(observation, info)")
        obs, info = result
        if not isinstance(info, Mapping):
            raise self._breach("reset", f"an info of type {type(info).__name__}", "(observation, info), info a dict")
        return self._observation(obs, "reset", in_space=True)

    def step(self, result: Any) -> tuple[Any, float, bool, bool]:
        """Return observation, reward, terminated and truncated of a result of `step`."""
        try:
            obs, reward, terminated, truncated, info = result
        except (TypeError, ValueError) as error:
            wanted = "(observation, reward, terminated, truncated, info)"
            raise self._breach("step", _shown(result), wanted) from error
        self._num_steps = count = self._num_steps + 1
        in_space = count <= FIRST_STEPS or not count & SAMPLED - 1
        if in_space and not isinstance(info, Mapping):
            raise self._breach("step", f"an info of type {type(info).__name__}", "a dict")
        # An exact match is the rule. Only what differs is looked at by the slower methods.
        if in_space or type(obs) is not np.ndarray or obs.dtype is not self._dtype or obs.shape != self._shape:
            obs = self._observation(obs, "step", in_space)
        if type(reward) is not float:
            reward = self._reward(reward)
        if type(terminated) is not bool:
            terminated = self._flag(terminated, "terminated")
        if type(truncated) is not bool:
            truncated = self._flag(truncated, "truncated")
        return obs, reward, terminated, truncated

    def _observation(self, obs: Any, method: str, in_space: bool) -> Any:
        if self._is_state:
            return self._state(obs, method)
        try:
            array = np.asarray(obs)
        except Exception as error:  # a list of lists of several lengths, an object that does not convert
            raise self._breach(method, f"an observation that is no array ({error})", str(self._space)) from error
        if np.ma.is_masked(obs):  # NumPy would hand on the numbers below the mask
            raise self._breach(method, "a masked array with masked numbers", "numbers only: obs.filled(0)")
        if array.dtype.kind not in "biuf":
            raise self._breach(method, f"an observation of type {_type(obs)}", str(self._space))
        if array.shape != self._shape:
            raise self._breach(method, f"an observation of shape {array.shape}", f"shape {self._shape}")
        if array.dtype != self._dtype:
            self._check_dtype(array, method)
        if in_space:
            self._look_at_bounds(array)
            if array.itemsize >= 4 and array.dtype != np.float32:
                self._tell_of_rounding(array)
        return array

    def _check_dtype(self, array: np.ndarray, method: str) -> None:
        """Raise ContractBreach if the numbers change when they are stored in the declared dtype."""
        declared: Any = self._dtype
        if declared.kind == "f":
            return  # rounding is harmless
        numbers = array.astype(np.float64)
        low, high = (0, 1) if declared.kind == "b" else (np.iinfo(declared).min, np.iinfo(declared).max)
        wrong = ~((numbers == np.rint(numbers)) & (numbers >= low) & (numbers <= high))
        if wrong.any():
            what = f"an observation of {array.dtype} with the number {array[wrong][0]}"
            raise self._breach(method, what, f"{declared}: whole numbers from {low} to {high}")

    def _look_at_bounds(self, array: np.ndarray) -> None:
        """Warn once about numbers outside of the declared bounds. Nothing here depends on them, and many are sloppy."""
        space: Any = self._space
        array = array.astype(self._dtype, copy=False)  # 0.1 of float64 is not above 0.1 of float32
        outside = (array < space.low) | (array > space.high)
        if outside.any() and not self._is_own:
            where = tuple(np.argwhere(outside)[0].tolist())
            what = f"returned {array[where]} at index {list(where)} of an observation, outside of [{space.low[where]}, "
            self._tell("bounds", f"{what}{space.high[where]}]; rltrain trains on it as it is")

    def _tell_of_rounding(self, array: np.ndarray) -> None:
        """Warn once about numbers that float32, which networks compute in, cannot tell apart, such as time stamps."""
        sizes = np.abs(array.astype(np.float64))
        largest = np.float32(sizes.max())
        if largest > _EXACT and np.isfinite(largest) and np.any(array.astype(np.float32) != array):
            what = f"returned {array.flat[sizes.argmax()]} in an observation; networks compute in float32, where"
            next_ = f"the next number is {np.spacing(largest):g} away"
            self._tell("rounding", f"{what} {next_}: subtract a start, or scale it")

    def _state(self, obs: Any, method: str) -> int:
        wrong_type = not isinstance(obs, int | np.integer)
        if isinstance(obs, np.ndarray):
            wrong_type = obs.shape != () or obs.dtype.kind not in "iu"
        if wrong_type:
            raise self._breach(method, f"the state {_shown(obs)}", f"a whole number of {self._declared}")
        state = int(obs)
        if state not in self._states:
            wanted = f"{self._declared}: {self._states.start} to {self._states.stop - 1}"
            raise self._breach(method, f"the state {state}", wanted)
        return state

    def _reward(self, reward: Any) -> float:
        is_number = isinstance(reward, int | float | np.bool_ | np.integer | np.floating)
        if not is_number and getattr(reward, "shape", None) == () and not isinstance(reward, str):
            is_number = np.asarray(reward).dtype.kind in "biuf"  # a 0-dimensional array or tensor
        try:
            if is_number:
                return float(reward)
        except (TypeError, ValueError, OverflowError):
            pass
        raise self._breach("step", f"the reward {_shown(reward)}", "one number, such as float(reward)")

    def _flag(self, value: Any, name: str) -> bool:
        is_flag = isinstance(value, np.bool_ | int) and value in (0, 1)
        if not is_flag and getattr(value, "shape", None) == ():
            is_flag = bool(np.asarray(value) == 0) or bool(np.asarray(value) == 1)
        if not is_flag:
            raise self._breach("step", f"{name}={_shown(value)}", "true or false")
        return bool(value)

    def _tell(self, subject: str, text: str) -> None:
        notices.warn_once(f"environment '{self._id}' {text}", about=f"{self._id} {subject}")

    def _breach(self, method: str, returned: str, wanted: str) -> ContractBreach:
        what = f"environment '{self._id}': {method} returned {returned}, but must return {wanted}"
        return ContractBreach(what, "env.id", "correct the environment: gymnasium.utils.env_checker.check_env helps")


def _numbers(space: gymnasium.Space) -> tuple[Any, ...]:
    """Return what tells a space of actions from others: 1 us, where comparing two Boxes takes 50 us."""
    values = [getattr(space, name, None) for name in ("n", "start", "nvec", "low", "high")]
    return (type(space), *(value.tobytes() if isinstance(value, np.ndarray) else value for value in values))


def _type(value: Any) -> str:
    return f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _shown(value: Any) -> str:
    """Return a value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple | list):
        return f"{len(value)} values" if len(value) != 1 else "1 value"
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return repr(value)
    text = " ".join(str(value).split())
    return f"{text if len(text) <= 40 else text[:37] + '...'} of type {type(value).__name__}"
