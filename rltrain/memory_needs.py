"""What a run will hold in memory, estimated before anything of it is taken."""

import math
from typing import Any

import gymnasium
import numpy as np

from rltrain.algos.dqn_config import DQNConfig
from rltrain.host_memory import free_bytes, require
from rltrain.memory.replay import bytes_per_transition

_TREE_BYTES = 2 * 8 * 2
"""A prioritized slot's two leaves and its share of the nodes above them, float64."""
_USABLE = 0.9
"""Part of the free memory that a suggestion fills: networks and emulators need some too."""


def check(config: Any, frame_space: gymnasium.Space) -> None:
    """Raise OutOfMemory, with the key that would mend it, where the replay or the rollout cannot fit."""
    algo, shape, dtype = config.algo, tuple(frame_space.shape or ()), frame_space.dtype
    assert dtype is not None
    if isinstance(algo, DQNConfig):
        each = bytes_per_transition(shape, dtype, (), np.int64) + _TREE_BYTES * algo.prioritized
        require(
            algo.replay_capacity * each,
            f"a replay of {algo.replay_capacity:,} frames",
            "algo.replay_capacity",
            f"use algo.replay_capacity={int(_USABLE * free_bytes() / each)}",
        )
    elif hasattr(algo, "num_steps"):
        obs_bytes = math.prod(shape) * np.dtype(dtype).itemsize * config.env.stack_num
        samples = algo.num_steps * algo.num_envs
        require(
            samples * obs_bytes,
            f"a rollout of {samples:,} observations",
            "algo.num_steps, num_envs",
            f"use algo.num_steps={max(1, int(_USABLE * free_bytes() / obs_bytes / algo.num_envs))}",
        )
