"""Watching a game: a twin of it, drawn for people.

The agent plays a pool as in evaluation. Beside it runs a twin: the same game from the same seed with the same actions,
but large, in colour and at the emulator's own frame rate. So neither what the agent sees nor its score depends on being
watched, and `Shown.reward` and `Shown.ended` tell whether the twin is still the game that is scored.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rltrain.envs.pool import Pool


class Shown(NamedTuple):
    """One agent step of the twin."""

    pictures: list[np.ndarray]
    """[H, W, 3] uint8, red, green, blue; in order, `Viewer.fps` of them a second; the last one shows where it led."""
    reward: float
    """Sum of raw rewards over the step."""
    ended: bool
    """The episode ended, by itself or by its time limit."""


class Viewer(Protocol):
    """One game with a picture; its seeds are those of a pool's environment 0."""

    fps: float
    """Pictures a second at which the game runs at its own speed."""

    def reset(self, seed: int) -> np.ndarray:
        """Start as `Pool.reset(seed)` does; the first picture, [H, W, 3] uint8."""
        ...

    def step(self, action: Any) -> Shown:
        """Take one agent step with one environment's action."""
        ...

    def restart(self) -> np.ndarray:
        """After a step that ended an episode: the first picture of the next one, [H, W, 3] uint8."""
        ...

    def action_name(self, action: Any) -> str:
        """What the action does, in a word or two."""
        ...

    def close(self) -> None:
        """End the twin."""
        ...


class PoolViewer:
    """A twin made of a pool of one whose frames are large and in colour, [3, H, W], `fps` of them a second.

    An action of the game is held for `num_steps` steps of the twin.
    """

    def __init__(self, twin: Pool, num_steps: int, fps: float, action_names: Sequence[str]) -> None:
        self.fps = fps
        self._twin, self._num_steps, self._action_names = twin, num_steps, action_names

    def reset(self, seed: int) -> np.ndarray:
        """Start the twin; its first picture."""
        self._next = self._twin.reset(seed)[0]
        return _channels_last(self._next)

    def step(self, action: Any) -> Shown:
        """One picture for each step of the twin."""
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
        """The pool has begun the next episode by itself."""
        return _channels_last(self._next)

    def action_name(self, action: Any) -> str:
        """From the family's list."""
        return action_name(action, self._action_names)

    def close(self) -> None:
        """Close the pool."""
        self._twin.close()


def action_name(action: Any, names: Sequence[str]) -> str:
    """A discrete action's name where there is one, else its numbers."""
    numbers = np.atleast_1d(action)
    if len(numbers) == 1 and numbers.dtype.kind in "iu" and 0 <= numbers[0] < len(names):
        return names[int(numbers[0])]
    return " ".join(f"{number:.3g}" for number in numbers)


def _channels_last(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(frame, 0, -1))
