"""The protocol of environment pools, and the results of their steps.

A pool steps `num_envs` copies of one environment in parallel. A step that ends an episode also resets the environment
(autoreset). Then `next_obs` is the true successor, the last frame of the old episode, and `obs` is the first frame of
the new episode.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np


@dataclass(frozen=True)
class Episode:
    """A finished episode of the game. A lost life does not end the episode."""

    env_index: int
    reward: float
    """The return: the sum of the raw, unclipped rewards."""
    length_steps: int
    """Length in agent steps."""
    length_frames: int
    """Length in emulator frames."""


@dataclass(frozen=True)
class TimeStep:
    """The result of one step of a pool with B environments. The caller may keep and change the arrays."""

    obs: np.ndarray
    """The newest frames, one of each environment, not stacked, [B, *frame_shape]. After a reset, the first frame."""
    next_obs: np.ndarray
    """The true successors of the actions, [B, *frame_shape]. They differ from obs only where an episode ended."""
    reward: np.ndarray
    """The rewards for training, [B], float32: the raw reward plus the environment's shaping, if it has one."""
    terminated: np.ndarray
    """True if the state after this step has value 0, [B], bool. A lost life sets it if the config says so."""
    truncated: np.ndarray
    """True if a time limit has ended the episode, [B], bool. The successor keeps its value. Excludes terminated."""
    first: np.ndarray
    """True if obs is the first observation after a reset, [B], bool. Frame stacks restart only here."""
    episodes: list[Episode] = field(default_factory=list)
    """The episodes that ended in this step."""


class AnotherGame(Exception):
    """A saved state is of other environments than those of the pool, such as those with another random map."""


class Pool(Protocol):
    """`num_envs` environments stepped in parallel."""

    num_envs: int
    frame_space: gymnasium.Space
    """The single frame of one environment: Box [C, H, W] uint8 for pixels, else Box float32 or Discrete."""
    action_space: gymnasium.Space
    """The action of one environment: Discrete or MultiDiscrete, both counted from 0, or Box float32."""
    stack_num: int
    """The number of frames in an observation of the policy."""

    @property
    def num_restarts(self) -> int:
        """The number of replacements of environments that died or hung. Their episodes are not in the statistics."""
        ...

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape].

        The seed of environment i is a function of (seed, i).
        """
        ...

    def send(self, action: np.ndarray) -> None:
        """Start one step and return at once.

        action: [B] int64 for Discrete, [B, K] int64 for MultiDiscrete of K choices, [B, A] float32 for Box.
        """
        ...

    def recv(self) -> TimeStep:
        """Wait for the step that `send` started and return its result."""
        ...

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Return the exact state of the environments as arrays and JSON values; None if they cannot save it."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises AnotherGame, and then has changed nothing."""
        ...

    def close(self) -> None:
        """End all environments and their processes. May be called more than once."""
        ...
