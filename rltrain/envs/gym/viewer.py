"""Render a gymnasium environment with its own renderer, one picture for each agent step."""

import contextlib
import dataclasses
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym import guard
from rltrain.envs.gym.contract import Contract
from rltrain.envs.gym.conversion import Conversion
from rltrain.envs.gym.make import make_env, opened, seed_generators
from rltrain.envs.patience import interruptible
from rltrain.envs.seeding import env_seed
from rltrain.envs.spaces import in_words
from rltrain.envs.tabular.toy_text import ACTION_NAMES, known_class
from rltrain.envs.viewer import Shown, action_name
from rltrain.errors import ConfigError, EnvironmentFailure
from rltrain.system import global_random

_ROUNDING = 1e-3
"""How far numbers of a picture may lie outside of 0 to 1."""

_ACTION_NAMES = {
    **ACTION_NAMES,
    "AcrobotEnv": ("turn left", "let go", "turn right"),
    "CartPoleEnv": ("left", "right"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "MountainCarEnv": ("left", "nothing", "right"),
}
"""The names of actions, by the class of the environment (`known_class`). Others show their actions as numbers."""


_FIX = "use `rltrain eval`: it cannot be watched or filmed"


def action_names(config: GymConfig) -> tuple[str, ...]:
    """Return the names of the environment's actions, or () if they are not known."""
    with opened(config) as env:
        return _ACTION_NAMES.get(known_class(env), ())


class GymViewer:
    """A second copy of the environment, with `render_mode="rgb_array"`."""

    def __init__(self, config: GymConfig) -> None:
        # pygame renders the classic environments. It prints a greeting, and needs a (dummy) video driver.
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        self._id = config.id
        seed = random.getrandbits(63)  # as in the pool
        with opened(config) as plain, self._environment():
            modes = plain.metadata.get("render_modes") or []
            plain_spaces = in_words(plain.observation_space, plain.action_space)
        if "rgb_array" not in modes:
            raise EnvironmentFailure(f"'{config.id}' draws no pictures", "env.id", _FIX)
        # The scored game reads the same global generators, so the twin has its own.
        self._random = global_random.Separate()
        global_random.seed(env_seed(seed, 0))
        try:
            self._env = make_env(dataclasses.replace(config, kwargs={**config.kwargs, "render_mode": "rgb_array"}))
        except ConfigError as error:  # the configuration is right without render_mode
            raise EnvironmentFailure(error.what, "env.id", _FIX) from error
        with self._environment():
            fps = self._env.metadata.get("render_fps") or 30
            is_rate = isinstance(fps, int | float | np.number) and 0 < fps < 1000
            self.fps = float(fps) if is_rate else 30.0
            self._contract = Contract(self._env, config.id)
            drawn_spaces = in_words(self._env.observation_space, self._env.action_space)
        if drawn_spaces != plain_spaces:
            self.close()
            drawn, plain_words = (f"observations {obs} and actions {act}" for obs, act in (drawn_spaces, plain_spaces))
            what = f"'{config.id}' has {drawn} when it draws, but {plain_words} otherwise"
            raise EnvironmentFailure(what, "env.id", _FIX)
        self._conversion = Conversion(self._env, config)
        self._action_names = _ACTION_NAMES.get(known_class(self._env), ())

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode with the seed of environment 0 of a pool. Return its first picture, [H, W, 3] uint8."""
        number = env_seed(seed, 0)
        with self._environment(), self._random:
            global_random.seed(number)  # as in the pool
            seed_generators(self._env, number)
            self._contract.reset(self._env.reset(seed=number))
        return self._picture()

    def step(self, action: Any) -> Shown:
        """Take one agent step. Return one picture."""
        with self._environment(), self._random:
            obs, reward, terminated, truncated = self._contract.step(self._env.step(self._converted(action)))
            frame = self._conversion.frames(np.array(obs)[None])[0]
        return Shown([self._picture()], reward, terminated or truncated, frame)

    def restart(self) -> np.ndarray:
        """Start the next episode. Return its first picture, [H, W, 3] uint8."""
        with self._environment(), self._random:
            self._contract.reset(self._env.reset())
        return self._picture()

    def action_name(self, action: Any) -> str:
        """Return the name of an action if it is known, else its numbers as the environment counts them."""
        return action_name(self._converted(action), self._action_names)

    def close(self) -> None:
        """Close the environment."""
        guard.close(self._env, self._id)

    def _converted(self, action: Any) -> Any:
        return self._conversion.actions(np.asarray(action)[None])[0]

    def _picture(self) -> np.ndarray:
        with self._environment(), self._random:
            picture = np.asarray(self._env.render())
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.kind not in "biuf" or 0 in picture.shape:
            what = f"the picture of '{self._id}' has shape {picture.shape} and dtype {picture.dtype}"
            raise EnvironmentFailure(f"{what}, not [height, width, 3] of uint8", "env.id", _FIX)
        # From 0 to 1, as matplotlib has them; sums of parts have rounding errors.
        if picture.dtype.kind in "bf" and picture.min() >= -_ROUNDING and picture.max() <= 1 + _ROUNDING:
            picture = np.rint(np.clip(picture.astype(np.float64), 0, 1) * 255)
        if picture.dtype != np.uint8 and not (picture.min() >= 0 and picture.max() <= 255):
            what = f"the picture of '{self._id}' has numbers from {picture.min()} to {picture.max()}"
            raise EnvironmentFailure(f"{what}, not from 0 to 255", "env.id", _FIX)
        return np.ascontiguousarray(picture, np.uint8)

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """Run the environment's code. Raises StandsStill if it hangs after a signal."""
        with guard.environment_code(self._id), interruptible():
            yield
