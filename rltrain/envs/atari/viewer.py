"""An Atari game in its own colours and size, at 30 pictures a second."""

import functools
from typing import Any

import numpy as np

from rltrain.config.environments import AtariConfig
from rltrain.envs.atari.pool import vector_env
from rltrain.envs.seeding import env_seed
from rltrain.envs.viewer import Shown

_HEIGHT, _WIDTH = 210, 160
_FRAMES_PER_PICTURE = 2
"""Sprites that share hardware are drawn in turns; the brighter of two frames shows them all, as a slow screen did."""


class AtariViewer:
    """The game stepped one emulator frame at a time, with the settings of the pool, sticky actions included."""

    fps = 60 / _FRAMES_PER_PICTURE

    def __init__(self, config: AtariConfig) -> None:
        self._frame_skip = config.frame_skip
        picture = {"img_height": _HEIGHT, "img_width": _WIDTH, "grayscale": False, "maxpool": False}
        self._envs = vector_env(config, 1, frameskip=1, **picture)
        self._action_names = [action.name for action in self._envs.ale.get_action_set()]

    def reset(self, seed: int) -> np.ndarray:
        """Seeded as environment 0 of a pool."""
        obs, _ = self._envs.reset(seed=np.array([env_seed(seed, 0)]))
        self._frames = [obs[0, 0].copy()]
        return self._frames[0]

    def step(self, action: Any) -> Shown:
        """Hold the action for `frame_skip` frames."""
        pictures, reward, ended = [], 0.0, False
        for _ in range(self._frame_skip):
            obs, frame_reward, terminated, truncated, status = self._envs.step(np.array([action], np.int64))
            reward += float(frame_reward[0])
            ended = bool(terminated[0] or truncated[0])
            self._frames.append((status["final_obs"] if ended else obs)[0, 0].copy())
            if len(self._frames) >= _FRAMES_PER_PICTURE:
                pictures.append(functools.reduce(np.maximum, self._frames))
                self._frames = []
            if ended:
                self._frames = [obs[0, 0].copy()]
                break
        return Shown(pictures, reward, ended)

    def restart(self) -> np.ndarray:
        """The vector environment has begun the next episode by itself."""
        return self._frames[0]

    def action_name(self, action: Any) -> str:
        """ALE's name."""
        return self._action_names[int(action)]

    def close(self) -> None:
        """End the emulator."""
        self._envs.close()
