"""Frame stacks for acting. Replay buffers build their stacks from single frames instead."""

import gymnasium
import numpy as np
from gymnasium import spaces


class FrameStack:
    """The last `stack_num` frames of each of B environments, oldest first. Frames before an episode's first are 0.

    Box [C, H, W] gives [B, stack_num*C, H, W], Box [D] gives [B, stack_num*D] and Discrete gives [B] int64.
    Raises ValueError for Discrete observations with a stack_num above 1: they cannot be stacked.
    """

    def __init__(self, num_envs: int, frame_space: gymnasium.Space, stack_num: int) -> None:
        shape: tuple[int, ...]
        if isinstance(frame_space, spaces.Discrete):
            if stack_num > 1:
                raise ValueError("discrete observations cannot be stacked")
            shape, dtype = (num_envs,), np.dtype(np.int64)
        elif isinstance(frame_space, spaces.Box):
            channels, *rest = frame_space.shape
            shape, dtype = (num_envs, stack_num * channels, *rest), frame_space.dtype
        else:
            raise ValueError(f"frames of {frame_space} cannot be stacked")
        self.stack_num = stack_num
        self._channels = shape[1] // stack_num if len(shape) > 1 else 0
        self._stack = np.zeros(shape, dtype)

    def reset(self, frame: np.ndarray) -> np.ndarray:
        """Start an episode in every environment with `frame` [B, *frame_shape]. Return a copy of the stacks."""
        return self.push(frame, np.ones(len(frame), bool))

    def push(self, frame: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Add `frame` [B, *frame_shape]. Return a copy of the stacks.

        first: true for environments whose frame is the first of an episode, [B], bool.
        """
        stack = self.peek(frame)
        if self.stack_num == 1:
            return stack
        stack[first, : -self._channels] = 0
        self._stack = stack
        return stack.copy()

    def restore(self, stack: np.ndarray) -> None:
        """Restore stacks that `push` returned, [B, *obs_shape]."""
        self._stack = stack.copy()

    def peek(self, frame: np.ndarray) -> np.ndarray:
        """Return the stacks as if `frame` [B, *frame_shape] were added, without adding it."""
        stack = np.empty_like(self._stack)
        if self.stack_num == 1:
            stack[...] = frame
        else:
            stack[:, : -self._channels] = self._stack[:, self._channels :]
            stack[:, -self._channels :] = frame
        return stack
