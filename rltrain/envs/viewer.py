"""Render a game for a human viewer, with a twin of the game.

The agent plays a pool as in an evaluation. A twin plays the same game from the same seed with the same actions, but
large, in colour and at the emulator's own frame rate. So watching changes neither the agent's observations nor its
score. `Shown.reward`, `Shown.ended` and `Shown.frame` tell whether the twin still equals the scored game.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rltrain.envs.pool import Pool


class Shown(NamedTuple):
    """One agent step of the twin."""

    pictures: list[np.ndarray]
    """RGB pictures [H, W, 3] uint8 in order, `Viewer.fps` per second. The last one shows the state after the step."""
    reward: float
    """The sum of raw rewards of the step."""
    ended: bool
    """True if the episode has terminated or was truncated."""
    frame: np.ndarray | None = None
    """The frame of a pool after the step, [*frame_shape]; None if the twin has none, as one that is a larger game."""


class Viewer(Protocol):
    """One game that renders pictures. Its seeds are those of environment 0 of a pool."""

    fps: float
    """Pictures per second at the game's own speed."""

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode with environment 0's seed in `Pool.reset(seed)`. Return its picture, [H, W, 3] uint8."""
        ...

    def step(self, action: Any) -> Shown:
        """Take one agent step with the action of one environment."""
        ...

    def restart(self) -> np.ndarray:
        """Start the next episode after one has ended. Return its first picture, [H, W, 3] uint8."""
        ...

    def action_name(self, action: Any) -> str:
        """Return the name of an action, in a word or two."""
        ...

    def close(self) -> None:
        """End the twin."""
        ...


class PoolViewer:
    """A twin made of a pool with one environment, whose frames are large RGB pictures, [3, H, W].

    Each action is repeated for `num_steps` steps of the twin.
    """

    def __init__(self, twin: Pool, num_steps: int, fps: float, action_names: Sequence[str]) -> None:
        self.fps = fps
        self._twin, self._num_steps, self._action_names = twin, num_steps, action_names

    def reset(self, seed: int) -> np.ndarray:
        """Start an episode of the twin. Return its first picture, [H, W, 3] uint8."""
        self._next = self._twin.reset(seed)[0]
        return _channels_last(self._next)

    def step(self, action: Any) -> Shown:
        """Take one agent step. Return one picture for each step of the twin."""
        pictures, reward = [], 0.0
        for _ in range(self._num_steps):
            timestep = self._twin.step(np.array([action]))
            pictures.append(_channels_last(timestep.next_obs[0]))
            reward += float(timestep.reward[0])
            self._next = timestep.obs[0]
            if timestep.first[0]:
                return Shown(pictures, reward, True)
        return Shown(pictures, reward, False)

    def restart(self) -> np.ndarray:
        """Return the first picture of the next episode, which the pool has started already."""
        return _channels_last(self._next)

    def action_name(self, action: Any) -> str:
        """Return the name of an action."""
        return action_name(action, self._action_names)

    def close(self) -> None:
        """Close the pool."""
        self._twin.close()


def action_name(action: Any, names: Sequence[str]) -> str:
    """Return the name of a discrete action, if `names` contains it, else its numbers."""
    numbers = np.atleast_1d(action)
    if len(numbers) == 1 and numbers.dtype.kind in "iu" and 0 <= numbers[0] < len(names):
        return names[int(numbers[0])]
    return " ".join(f"{number:.3g}" for number in numbers)


def _channels_last(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(frame, 0, -1))
