"""Play whole episodes of one environment on a screen."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from rltrain.config.run import RunConfig
from rltrain.envs import registry
from rltrain.envs.patience import StandsStill
from rltrain.envs.pool import Episode
from rltrain.envs.spaces import check_made_for, pixel_shape
from rltrain.envs.stepper import Stepper
from rltrain.run.evaluation import Agent, ending_env, evaluated, policy_of
from rltrain.system import global_random, signals
from rltrain.watching.canvas import compose
from rltrain.watching.screens import Closed, Screen

_HOLD_S = 1.0
"""Seconds for which the last picture of an episode stays."""


def watch(
    config: RunConfig,
    agent: Agent,
    episodes: int,
    seed: int,
    greedy: bool,
    make_screen: Callable[[float], Screen],
    stopping: Callable[[], bool] = lambda: False,
    made_for: list[str] | None = None,
) -> tuple[list[Episode], bool]:
    """Play episodes one after another. Returns the completed episodes, and True if the pictures show the scored game.

    The viewer plays a second copy of the game with the same seed and actions. The pictures show the scored game if
    both copies give the same rewards, observations and episode ends; one with unseeded random numbers may differ.
    The first episode is the first of `play_episodes` with the same seed. make_screen: returns a screen for a number of
    pictures per second. Closing the window ends the play, and so does `stopping` when it returns True, or a viewer that
    hangs after a signal. made_for: as of `play_episodes`. Raises errors of the environment, the viewer and the screen.
    """
    generator = np.random.default_rng([seed, 1])
    played: list[Episode] = []
    is_true = True
    env = ending_env(config)

    def made(make: Callable[..., Any], *arguments: Any) -> Any:
        global_random.seed(seed)  # constructors may read them, as in an evaluation
        return closing(make(env, *arguments))

    with (
        made(registry.make_ending_pool, 1) as pool,
        made(registry.make_viewer) as viewer,
        closing(make_screen(viewer.fps)) as screen,
        evaluated(agent),
    ):
        check_made_for(pool, made_for)
        shape = pixel_shape(pool.frame_space)
        stepper = Stepper(pool, seed)
        act = policy_of(config, agent, pool, greedy, generator)
        score, step, doing = 0.0, 0, ""

        def show(picture: np.ndarray) -> None:
            part = f"   episode {len(played) + 1} of {episodes}" if episodes > 1 else ""
            frames = seen[:, : shape[1]] if len(shape) == 3 else None
            caption = f"score {score:.5g}   step {step}{doing}{part}"
            screen.show(compose(picture, frames, shape[0] if shape else 0, caption))

        try:
            picture = viewer.reset(seed)
            signals.keep_process()
            while len(played) < episodes and not stopping():
                seen = stepper.obs[0]  # shown next to all pictures of the action that was chosen from it
                if step == 0:
                    show(picture)
                action = act(stepper.obs)
                timestep, _ = stepper.step(action)
                shown = viewer.step(action[0])
                is_true &= shown.ended == bool(timestep.first[0]) and bool(np.isclose(shown.reward, timestep.reward[0]))
                if shown.frame is not None:
                    frame = timestep.next_obs[0]
                    is_true &= np.shape(shown.frame) == frame.shape and np.allclose(shown.frame, frame, equal_nan=True)
                score, step = score + float(timestep.reward[0]), step + 1
                doing = f"   {viewer.action_name(action[0])}"
                for picture in shown.pictures:
                    show(picture)
                if timestep.first[0]:
                    for _ in range(round(_HOLD_S * viewer.fps)):
                        show(picture)
                    played += timestep.episodes
                    picture, score, step, doing = viewer.restart(), 0.0, 0, ""
        except (Closed, StandsStill):
            pass
    return played, is_true
