"""The protocol that every environment pool keeps, and what it hands to an algorithm.

A pool steps `num_envs` copies of one environment in parallel. Autoreset is solved here, once: a step that ends an
episode resets that environment at once, `next_obs` stays the true successor (the last frame of the old episode) and
`obs` is what the policy sees next (the first frame of the new one).
"""

from dataclasses import dataclass, field
from typing import Protocol

import gymnasium
import numpy as np


@dataclass(frozen=True)
class Episode:
    """One finished episode of the game itself (a lost life does not finish one)."""

    env_index: int
    reward: float
    """Sum of the raw, unclipped rewards."""
    length_steps: int
    """Agent decisions."""
    length_frames: int
    """Emulator frames."""


@dataclass(frozen=True)
class TimeStep:
    """What one step of a pool returns; B is the number of environments. The arrays belong to the receiver."""

    obs: np.ndarray
    """What the policy sees next, single frames, [B, *frame_shape]: after a reset, the first of the new episode."""
    next_obs: np.ndarray
    """The true successor of the action, [B, *frame_shape]; differs from obs only where an episode ended."""
    reward: np.ndarray
    """Raw reward, [B], float32."""
    terminated: np.ndarray
    """No value beyond this step, [B], bool. A lost life sets it where the environment was asked to treat it so."""
    truncated: np.ndarray
    """Cut by a time limit: the successor still has a value, [B], bool. Never set together with terminated."""
    first: np.ndarray
    """obs is the first observation after a reset, [B], bool. Stacks of frames restart here and nowhere else."""
    episodes: list[Episode] = field(default_factory=list)
    """The episodes that finished in this step."""


class Pool(Protocol):
    """`num_envs` environments stepped in parallel."""

    num_envs: int
    frame_space: gymnasium.Space
    """One environment's single-frame observation: Box [C, H, W] uint8 for pixels, Box float32 or Discrete otherwise."""
    action_space: gymnasium.Space
    """One environment's action."""
    stack_num: int
    """How many frames the policy is to see at once."""

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; environment i is seeded from (seed, i). Returns obs [B, *frame_shape]."""
        ...

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] int64 (discrete) or [B, A] float32 (continuous); returns at once."""
        ...

    def recv(self) -> TimeStep:
        """Wait for the step that `send` started."""
        ...

    def step(self, action: np.ndarray) -> TimeStep:
        """`send`, then `recv`."""
        ...

    def close(self) -> None:
        """End every environment, with its processes. May be called twice."""
        ...
