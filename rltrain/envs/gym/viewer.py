"""Render a gymnasium environment with its own renderer, one picture for each agent step."""

import dataclasses
import os
from typing import Any

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.conversion import Conversion
from rltrain.envs.gym.make import make_env
from rltrain.envs.seeding import env_seed
from rltrain.envs.tabular.toy_text import ACTION_NAMES
from rltrain.envs.viewer import Shown, action_name
from rltrain.errors import EnvironmentFailure

_ACTION_NAMES = {
    **ACTION_NAMES,
    "AcrobotEnv": ("turn left", "let go", "turn right"),
    "CartPoleEnv": ("left", "right"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "MountainCarEnv": ("left", "nothing", "right"),
}
"""The names of actions, by the class of the environment. Other environments show their actions as numbers."""


class GymViewer:
    """A second copy of the environment, with `render_mode="rgb_array"`."""

    def __init__(self, config: GymConfig) -> None:
        # pygame renders the classic environments. It prints a greeting, and needs a (dummy) video driver.
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        plain = make_env(config)
        modes = plain.metadata.get("render_modes") or []
        plain.close()
        if "rgb_array" not in modes:
            what, fix = f"'{config.id}' draws no pictures", "use `rltrain eval`: it cannot be watched or filmed"
            raise EnvironmentFailure(what, "env.id", fix)
        self._env = make_env(dataclasses.replace(config, kwargs={**config.kwargs, "render_mode": "rgb_array"}))
        self.fps = float(self._env.metadata.get("render_fps") or 30)
        self._conversion = Conversion(self._env, config.id)
        self._action_names = _ACTION_NAMES.get(type(self._env.unwrapped).__name__, ())

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode with the seed of environment 0 of a pool. Return its first picture, [H, W, 3] uint8."""
        self._env.reset(seed=env_seed(seed, 0))
        return self._picture()

    def step(self, action: Any) -> Shown:
        """Take one agent step. Return one picture."""
        _, reward, terminated, truncated, _ = self._env.step(self._converted(action))
        return Shown([self._picture()], float(reward), bool(terminated or truncated))

    def restart(self) -> np.ndarray:
        """Start the next episode. Return its first picture, [H, W, 3] uint8."""
        self._env.reset()
        return self._picture()

    def action_name(self, action: Any) -> str:
        """Return the name of an action if it is known, else its numbers as the environment counts them."""
        return action_name(self._converted(action), self._action_names)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _converted(self, action: Any) -> Any:
        return self._conversion.actions(np.asarray(action)[None])[0]

    def _picture(self) -> np.ndarray:
        picture = np.asarray(self._env.render())
        if picture.ndim != 3 or picture.shape[2] != 3:
            what = f"the environment's picture has shape {picture.shape}, not [height, width, 3]"
            raise EnvironmentFailure(what, "env.id", "use `rltrain eval`: it cannot be watched or filmed")
        return np.ascontiguousarray(picture, np.uint8)
