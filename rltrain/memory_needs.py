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
_LARGE_BYTES = 1e9
"""A replay that takes seconds to save."""
_USABLE = 0.9
"""Part of the free memory that a suggestion fills: networks and emulators need some too."""


def check(config: Any, frame_space: gymnasium.Space) -> None:
    """Raise OutOfMemory, with the key that would mend it, where the replay or the rollout cannot fit."""
    algo, shape, dtype = config.algo, tuple(frame_space.shape or ()), frame_space.dtype
    assert dtype is not None
    if isinstance(algo, DQNConfig):
        each = _bytes_per_transition(algo, frame_space)
        if algo.replay_device == "device" and config.device not in ("auto", "cpu"):
            each -= math.prod(shape) * dtype.itemsize  # frames of the device, which is asked when they are made
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


def checkpoint_every_steps(config: Any, frame_space: gymnasium.Space) -> int:
    """A fifth of total_steps, or less where a replay of more than 1 GB would otherwise have changed too much.

    A signal is to be answered within 10 s, and then is written what the replay got since the last checkpoint but one.
    """
    steps, algo = max(1, config.total_steps // 5), config.algo
    if isinstance(algo, DQNConfig) and algo.replay_capacity * _bytes_per_transition(algo, frame_space) > _LARGE_BYTES:
        return min(steps, max(1, algo.replay_capacity // 8))
    return steps


def _bytes_per_transition(algo: DQNConfig, frame_space: gymnasium.Space) -> int:
    assert frame_space.dtype is not None
    frame = bytes_per_transition(tuple(frame_space.shape or ()), frame_space.dtype, (), np.int64)
    return frame + _TREE_BYTES * algo.prioritized
