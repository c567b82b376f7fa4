"""One emulator of console games, in this process."""

from pathlib import Path

import numpy as np
import pytest
from console import FIRE, LEFT, NOOP, RIGHT, airstriker, emulator

from rltrain.envs.retro.pool import spaces

stable_retro = pytest.importorskip("stable_retro")

CONFIGS = Path(__file__).parents[3] / "configs" / "env"
SONIC = "SonicTheHedgehog-Genesis-v0"


def whole(**fields):
    """The emulator's picture as it is."""
    return airstriker(**{"height": 224, "width": 320, "gray": False, "noop_max": 0} | fields)


def shown(config, actions):
    """The first frame and the one after each action."""
    with emulator(config) as (one, frames):
        pictures = [frames[0].copy()]
        for action in actions:
            one.step(action if isinstance(action, list) else [action])
            pictures.append(frames[1].copy())
    return np.stack(pictures)


@pytest.mark.parametrize("gray", [True, False])
def test_frames_are_the_picture_scaled_down(gray):
    """Bugs: channels last, red and blue swapped, rows and columns swapped, the wrong side cut off."""
    config = airstriker(gray=gray, height=50, width=40, crop=[10, 14, 0, 160], noop_max=0)
    assert spaces(config)[0].shape == (1 if gray else 3, 50, 40)
    with emulator(config) as (one, frames):
        for _ in range(60):
            one.step([FIRE])
        picture = one.render()[10:-14, :-160].astype(float)
        if gray:
            picture = picture @ [0.299, 0.587, 0.114]
        small = picture.reshape(50, 4, 40, 4, -1).mean((1, 3))
        assert np.abs(np.moveaxis(small, -1, 0) - frames[1]).max() <= 1
        assert frames[1].max() > 50


def test_actions_press_their_buttons():
    """Bugs: an action list out of order; several choices at once that do something else than the combinations."""
    single = {action: shown(whole(), [action, NOOP] * 25) for action in (NOOP, LEFT, RIGHT, FIRE)}
    columns = {action: np.nonzero(frames[-1, :, 190:].max((0, 1)) > 100)[0].mean() for action, frames in single.items()}
    assert columns[LEFT] < columns[NOOP] - 40 and columns[RIGHT] > columns[NOOP] + 40
    with emulator(airstriker()) as (one, _):  # a shot needs a button that is let go again
        assert sum(one.step([action]).reward for action in [FIRE, NOOP] * 60) > 0
        one.reset(0)
        assert sum(one.step([action]).reward for action in [NOOP, NOOP] * 60) == 0
    buttons = whole(actions=[], action_set="buttons")
    assert spaces(buttons)[1].nvec.tolist() == [3, 3, 14]
    assert (shown(buttons, [[0, 2, 0], [0, 0, 0]] * 25) == single[RIGHT]).all()
    both = shown(whole(actions=["NOOP", "RIGHT+B"]), [1, 0] * 25)
    assert (shown(buttons, [[0, 2, 2], [0, 0, 0]] * 25) == both).all() and (both != single[RIGHT]).any()


def test_a_sticky_action_comes_one_frame_late():
    """Bugs: an action that is repeated for ever; the one of the episode before held."""
    plain = shown(whole(frame_skip=1), [NOOP, RIGHT, RIGHT, FIRE, LEFT, LEFT])
    late = shown(whole(frame_skip=1, sticky_actions=1.0), [RIGHT, RIGHT, FIRE, LEFT, LEFT, NOOP])
    assert (plain == late).all()
    assert (late != shown(whole(frame_skip=1), [RIGHT, RIGHT, FIRE, LEFT, LEFT, NOOP])).any()
    again = shown(whole(frame_skip=1, sticky_actions=1.0, max_episode_frames=4), [RIGHT] * 8)
    assert (again[5:] == again[1:5]).all()


def test_the_frame_limit_is_kept_to_the_frame():
    """Bugs: a last action that plays frames beyond the limit; a limit that is noticed one action late."""
    with emulator(whole(max_episode_frames=10)) as (one, frames):
        outcomes = [one.step([RIGHT]) for _ in range(3)]
        last = frames[1].copy()
    assert [(outcome.num_frames, outcome.truncated) for outcome in outcomes] == [(4, False), (4, False), (2, True)]
    assert (last == shown(whole(frame_skip=1), [RIGHT] * 10)[-1]).all()


def test_max_pool_shows_the_brighter_of_the_last_two_frames():
    actions = [RIGHT] * 12
    single = shown(whole(frame_skip=1), np.repeat(actions, 3).tolist())[1:].reshape(12, 3, 3, 224, 320)
    pooled = shown(whole(frame_skip=3, max_pool=True), actions)[1:]
    assert (pooled == single[:, 1:].max(1)).all() and (pooled != single[:, 2]).any()
    assert (shown(whole(frame_skip=3), actions)[1:] == single[:, 2]).all()
