"""Observation spaces that gymnasium does not have."""

import hashlib
import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rltrain.envs.pool import Pool
from rltrain.errors import EnvironmentFailure


class PixelsAndVariables(spaces.Box):
    """A picture with game variables in extra rows below it: one array [C, height + rows, width] uint8.

    Because a frame is one array, replay buffers, rollouts and frame stacks need no special case. The variables are in
    channel 0, from the left, row by row; the rest of the rows is 0. Each variable is a whole number from 0 to 255.
    """

    def __init__(self, channels: int, height: int, width: int, num_variables: int) -> None:
        super().__init__(0, 255, (channels, height + math.ceil(num_variables / width), width), np.uint8)
        self.height = height
        """The height of the picture, without the rows of variables."""
        self.num_variables = num_variables

    def write(self, frame: np.ndarray, variables: np.ndarray) -> None:
        """Write `variables` [num_variables] below the picture of `frame`, rounded and clipped to 0..255."""
        rows = frame[:, self.height :]
        rows[...] = 0
        rows[0].flat[: self.num_variables] = np.clip(np.rint(variables), 0, 255)


class ScaledActions(spaces.Box):
    """Actions [A] float32 that stand for others: from -1 to 1 in each dimension that is scaled."""

    def __init__(self, low: np.ndarray, high: np.ndarray, theirs: gymnasium.Space) -> None:
        """theirs: the environment's own actions."""
        super().__init__(low, high, dtype=np.float32)
        self.theirs = theirs

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, ScaledActions) and self.theirs == other.theirs

    def __repr__(self) -> str:
        return f"{_box_in_words(self)} for {_in_words(self.theirs)}"


def in_words(frame_space: gymnasium.Space, action_space: gymnasium.Space) -> list[str]:
    """Return what an agent depends on: [observation, action]. The bounds of observations do not matter to it."""
    if isinstance(frame_space, spaces.Box):
        return [f"{frame_space.dtype} of shape {list(frame_space.shape)}", _in_words(action_space)]
    return [_in_words(frame_space), _in_words(action_space)]


def check_made_for(pool: Pool, made_for: list[str] | None) -> None:
    """Raise EnvironmentFailure if a pool has other spaces than those that the agent was made for, if they are known."""
    found = in_words(pool.frame_space, pool.action_space)
    if made_for is not None and found != made_for:
        now, then = (f"observations {obs} and actions {action}" for obs, action in (found, made_for))
        what = f"a new environment has {now}, but the agent was made for {then}"
        raise EnvironmentFailure(what, "env", "give all environments of one configuration the same spaces")


_PRINTED: dict[str, Any] = {
    "precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False, "nanstr": "nan",
    "infstr": "inf", "formatter": None, "sign": "-", "floatmode": "maxprec", "legacy": False,
}  # fmt: skip
"""NumPy's default print options. An environment may change them, between a training and its evaluation too."""


def _in_words(space: gymnasium.Space) -> str:
    """Return a space as text, with a hash of its arrays if NumPy leaves out numbers of theirs ("...")."""
    with np.printoptions(**_PRINTED):
        words = _box_in_words(space) if type(space) is spaces.Box else str(space)
    if "..." in words:
        arrays = [getattr(space, name, None) for name in ("low", "high", "nvec", "start")]
        numbers = b"".join(array.tobytes() for array in arrays if isinstance(array, np.ndarray))
        words += f" {hashlib.sha256(numbers).hexdigest()[:16]}"
    return words


def _box_in_words(space: spaces.Box) -> str:
    """Return what `Box.__repr__` does, which keeps its first text for good, whatever the print options were then."""
    low, high = (str(end.min() if end.size and end.min() == end.max() else end) for end in (space.low, space.high))
    return f"Box({low}, {high}, {space.shape}, {space.dtype})"


def pixel_shape(frame_space: gymnasium.Space) -> tuple[int, ...]:
    """Return the shape of one frame without the rows of game variables."""
    shape = tuple(frame_space.shape or ())
    if isinstance(frame_space, PixelsAndVariables):
        return (shape[0], frame_space.height, shape[2])
    return shape
