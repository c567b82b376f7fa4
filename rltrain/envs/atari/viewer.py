"""Render an Atari game in its own colours and size, at 30 pictures per second."""

import functools
from typing import Any

import numpy as np

from rltrain.config.environments import AtariConfig
from rltrain.envs.atari.pool import vector_env
from rltrain.envs.seeding import env_seed
from rltrain.envs.viewer import Shown

_HEIGHT, _WIDTH = 210, 160
_FRAMES_PER_PICTURE = 2
"""A game may draw some sprites only in every second frame. The pixelwise maximum of two frames shows all of them."""


def action_names(config: AtariConfig) -> list[str]:
    """Return ALE's names of the game's actions."""
    return _names(vector_env(config, 1))


def _names(envs: Any) -> list[str]:
    return [action.name for action in envs.ale.get_action_set()]


class AtariViewer:
    """A game stepped one emulator frame at a time, with the settings of the pool, including sticky actions."""

    fps = 60 / _FRAMES_PER_PICTURE

    def __init__(self, config: AtariConfig) -> None:
        self._frame_skip = config.frame_skip
        picture = {"img_height": _HEIGHT, "img_width": _WIDTH, "grayscale": False, "maxpool": False}
        self._envs = vector_env(config, 1, frameskip=1, **picture)
        self._action_names = _names(self._envs)

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode with the seed of environment 0 of a pool. Return its first picture, [H, W, 3] uint8."""
        obs, _ = self._envs.reset(seed=np.array([env_seed(seed, 0)]))
        self._frames = [obs[0, 0].copy()]
        return self._frames[0]

    def step(self, action: Any) -> Shown:
        """Repeat the action for `frame_skip` frames. Return one picture for every two frames."""
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
        """Return the first picture of the next episode, which the vector environment has started already."""
        return self._frames[0]

    def action_name(self, action: Any) -> str:
        """Return ALE's name of an action."""
        return self._action_names[int(action)]

    def close(self) -> None:
        """End the emulator."""
        self._envs.close()
