"""The protocol that every environment pool keeps, and what it hands to an algorithm.

A pool steps `num_envs` copies of one environment in parallel. Autoreset is solved here, once: a step that ends an
episode resets that environment at once, `next_obs` stays the true successor (the last frame of the old episode) and
`obs` is what the policy sees next (the first frame of the new one).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

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
    """What is learned from, [B], float32: the raw reward, and the labelled shaping of an environment that has one."""
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
    """One environment's action: Discrete, MultiDiscrete (several choices at once) or Box float32; counted from 0."""
    stack_num: int
    """How many frames the policy is to see at once."""

    @property
    def num_restarts(self) -> int:
        """Environments that died or hung and were replaced: their episodes are cut, and are in no statistics."""
        ...

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; environment i is seeded from (seed, i). Returns obs [B, *frame_shape]."""
        ...

    def send(self, action: np.ndarray) -> None:
        """Start one step; returns at once.

        action: [B] int64 for Discrete, [B, K] int64 for MultiDiscrete of K choices, [B, A] float32 for Box.
        """
        ...

    def recv(self) -> TimeStep:
        """Wait for the step that `send` started."""
        ...

    def step(self, action: np.ndarray) -> TimeStep:
        """`send`, then `recv`."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Arrays and JSON values from which the environments go on exactly; None where they cannot tell."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...

    def close(self) -> None:
        """End every environment, with its processes. May be called twice."""
        ...
