"""A console game in colour, one picture an action."""

import dataclasses

from rltrain.config.environments import RetroConfig
from rltrain.envs.retro.pool import RetroPool
from rltrain.envs.viewer import PoolViewer

_FRAMES_PER_S = 60


def make_viewer(config: RetroConfig) -> PoolViewer:
    """A second emulator beside the one that is played. Raises what `make_pool` raises.

    Whole actions are shown and not single frames: sticky actions and a reward for new bests go by actions.
    """
    drawn = dataclasses.replace(config, gray=False, height=224, width=320, crop=[0, 0, 0, 0], stack_num=1)
    return PoolViewer(RetroPool(drawn, 1), 1, _FRAMES_PER_S / config.frame_skip, config.actions)
