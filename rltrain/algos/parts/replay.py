"""Make a replay buffer from an algorithm's settings."""

import functools
import math

import gymnasium
import numpy as np
import torch

from rltrain.buffers.device_frames import DeviceFrames
from rltrain.buffers.frames import HostFrames
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.buffers.replay import Replay
from rltrain.config.algorithms import DQNConfig
from rltrain.nn import device as devices


def make_replay(
    config: DQNConfig,
    spaces: tuple[gymnasium.Space, gymnasium.Space],
    stack_num: int,
    generator: np.random.Generator,
    device: torch.device,
) -> Replay | PrioritizedReplay:
    """Return a uniform or prioritized replay buffer that stores single frames.

    spaces: of single frames and of actions. The frames are on the device if `replay_device` and the free memory of the
    device allow it. Raises OutOfMemory.
    """
    frame_space, action_space = spaces
    shape, dtype = tuple(frame_space.shape or ()), frame_space.dtype
    assert dtype is not None
    num_bytes = config.replay_capacity * math.prod(shape) * dtype.itemsize
    on_device = devices.takes_replay(config.replay_device, device, num_bytes)
    replay = Replay(
        config.replay_capacity,
        config.num_envs,
        shape,
        dtype,
        (),
        np.int64,
        stack_num,
        config.n_step,
        config.gamma,
        generator,
        functools.partial(DeviceFrames, device=device) if on_device else HostFrames,
        getattr(action_space, "n", None),
        getattr(frame_space, "n", None),
    )
    return (
        PrioritizedReplay(replay, config.priority_alpha, config.priority_beta_start) if config.prioritized else replay
    )
