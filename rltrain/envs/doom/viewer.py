"""Render a Doom game in colour at 640 x 480, one picture for each tic."""

import dataclasses

import vizdoom

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.scenario import make_pool
from rltrain.envs.doom.setup import read_setup
from rltrain.envs.viewer import PoolViewer

TICS_PER_S = 35.0
"""The speed of the game's clock."""


def make_viewer(config: DoomConfig) -> PoolViewer:
    """Start an engine that renders the game. Raises what `make_pool` raises."""
    rendered = dataclasses.replace(
        config,
        frame_skip=1,
        max_episode_steps=config.max_episode_steps and config.max_episode_steps * config.frame_skip,
        stack_num=1,
        gray=False,
        render_resolution="RES_640X480",
        height=480,
        width=640,
        crop=[0.0, 0.0, 0.0, 0.0],
        game_variables=[],
        shaping={},
    )
    return PoolViewer(make_pool(rendered, 1), config.frame_skip, TICS_PER_S, action_names(config))


def action_names(config: DoomConfig) -> list[str]:
    """Return a name for each action: its buttons joined by "+", or "nothing"."""
    setup = read_setup(config)
    game = vizdoom.DoomGame()
    game.load_config(str(setup.cfg))
    buttons = [button.name for button in game.get_available_buttons()]
    return [
        "+".join(button for button, pressed in zip(buttons, action, strict=True) if pressed) or "nothing"
        for action in setup.actions
    ]
