"""Airstriker, as the tests of console games play it."""

from contextlib import contextmanager

import numpy as np

from rltrain.config.environments import RetroConfig

NOOP, LEFT, RIGHT, FIRE = range(4)


def airstriker(**fields):
    return RetroConfig("x", **{"actions": ["NOOP", "LEFT", "RIGHT", "B"], "height": 56, "width": 80} | fields)


@contextmanager
def emulator(config):
    """One emulator in this process, and its (obs, next_obs)."""
    from rltrain.envs.retro.emulator import Emulator

    frames = np.zeros((2, 1, *config.frame_shape), np.uint8)
    one = Emulator(config, frames, 0, 1)
    one.reset(0)
    try:
        yield one, frames[:, 0]
    finally:
        one.close()
