"""Observation spaces that gymnasium does not have."""

import math

import gymnasium
import numpy as np
from gymnasium import spaces


class PixelsAndVariables(spaces.Box):
    """A picture and, in extra rows below it, variables: one uint8 array [C, height + rows, width].

    One array a frame, so that replay, rollouts and frame stacks need not know. The variables stand in channel 0, from
    the left, row by row; what remains of the rows is 0. Each is a whole number from 0 to 255.
    """

    def __init__(self, channels: int, height: int, width: int, num_variables: int) -> None:
        super().__init__(0, 255, (channels, height + math.ceil(num_variables / width), width), np.uint8)
        self.height = height
        """Height of the picture alone."""
        self.num_variables = num_variables

    def write(self, frame: np.ndarray, variables: np.ndarray) -> None:
        """Write `variables` [num_variables] below the picture of `frame`, rounded and clipped to 0..255."""
        rows = frame[:, self.height :]
        rows[...] = 0
        rows[0].flat[: self.num_variables] = np.clip(np.rint(variables), 0, 255)


def pixel_shape(frame_space: gymnasium.Space) -> tuple[int, ...]:
    """One frame's shape as a network's convolutions see it: without rows of variables."""
    shape = tuple(frame_space.shape or ())
    if isinstance(frame_space, PixelsAndVariables):
        return (shape[0], frame_space.height, shape[2])
    return shape
