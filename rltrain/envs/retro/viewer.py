"""Render a console game in colour, one picture for each action."""

import dataclasses

from rltrain.config.environments import RetroConfig
from rltrain.envs.retro.pool import RetroPool
from rltrain.envs.viewer import PoolViewer

_FRAMES_PER_S = 60


def make_viewer(config: RetroConfig) -> PoolViewer:
    """Start an emulator that renders the game. Raises what `make_pool` raises.

    It shows one picture per action, not per frame, because sticky actions and `new_best_only` depend on whole actions.
    """
    rendered = dataclasses.replace(config, gray=False, height=224, width=320, crop=[0, 0, 0, 0], stack_num=1)
    return PoolViewer(RetroPool(rendered, 1), 1, _FRAMES_PER_S / config.frame_skip, config.actions)
