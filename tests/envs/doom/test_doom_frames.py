"""What Doom's frames show: size, crop, colour, stacks, game variables. With the real engine."""

import numpy as np
import pytest
import vizdoom

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.scenario import make_pool, spaces
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.errors import ConfigError


def played(seed=0, num_steps=0, num_envs=1, **fields):
    """The frames of a reset and of `num_steps` steps with fixed actions, [T, B, *frame_shape]."""
    pool = make_pool(DoomConfig("x", **fields), num_envs)
    frames = [pool.reset(seed)]
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        frames.append(pool.step(rng.integers(pool.action_space.n, size=num_envs)).next_obs)
    pool.close()
    return np.stack(frames)


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize(("height", "width"), [(84, 84), (100, 120), (60, 80)])
def test_every_size_shows_the_whole_screen(height, width, gray):
    """Bugs: height and width swapped, channels last, a frame cut instead of scaled."""
    full = played(height=120, width=160, gray=gray)[0, 0].astype(float)
    scaled = played(height=height, width=width, gray=gray)[0, 0]
    assert scaled.shape == (1 if gray else 3, height, width) and scaled.dtype == np.uint8
    for rows, columns in ((slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4)), (slice(0, 4), slice(0, 4))):
        quarter = [slice(rows.start * n // 4, rows.stop * n // 4) for n in (height, 120)]
        across = [slice(columns.start * n // 4, columns.stop * n // 4) for n in (width, 160)]
        means = (scaled[:, quarter[0], across[0]].mean(axis=(1, 2)), full[:, quarter[1], across[1]].mean(axis=(1, 2)))
        assert np.abs(means[0] - means[1]).max() < 2


def test_crop_cuts_off_what_it_says_at_every_resolution():
    """Bugs: sides mixed up, crop after scaling, pixels that fit one resolution only."""
    crop = [0.25, 0.1, 0.05, 0.2]
    full = played(height=120, width=160)[0, 0]
    kept = played(height=78, width=120, crop=crop)[0, 0]
    assert (kept == full[:, 30:108, 8:128]).all()
    larger = played(height=78, width=120, crop=crop, render_resolution="RES_320X240")[0, 0]
    elsewhere = played(height=78, width=120, render_resolution="RES_320X240")[0, 0]
    # In blocks of 6 x 6 pixels, as the textures are drawn anew.
    blocks = [frame.reshape(13, 6, 20, 6).mean(axis=(1, 3)) for frame in (kept, larger, elsewhere)]
    difference, control = (np.abs(other - blocks[0]).mean() for other in blocks[1:])
    assert 2 * difference < control


def test_a_wrong_crop_is_refused():
    for crop in ([0.1], [0.5, 0.5, 0, 0], [0, 0, 0, 1.5], [-0.1, 0, 0, 0]):
        with pytest.raises(ConfigError, match=r"env\.crop"):
            spaces(DoomConfig("x", crop=crop))


def test_frame_skip_counts_tics():
    """Bug: an action that lasts another number of tics than was asked for."""
    for frame_skip in (1, 3):
        pool = make_pool(DoomConfig("x", scenario="take_cover", frame_skip=frame_skip), 1)
        pool.reset(0)
        assert pool.step(np.array([0])).reward.tolist() == [frame_skip]  # a reward of 1 a tic
        pool.close()


VARIABLES = ["HEALTH", "AMMO2", "ANGLE"]


def test_variables_are_the_engines_and_leave_the_picture_alone(monkeypatch):
    """Bugs: values of the frame before or of another engine, in another order, wrapped instead of clipped."""
    asked = []
    make = vizdoom.DoomGame

    class Spy:
        """Passes everything on, and writes down what the engine says after each frame."""

        def __init__(self):
            self.game = make()

        def __getattr__(self, name):
            return getattr(self.game, name)

        def get_state(self):
            state = self.game.get_state()
            asked.append([self.game.get_game_variable(getattr(vizdoom.GameVariable, name)) for name in VARIABLES])
            return state

    fields = {"scenario": "defend_the_center", "num_steps": 60}
    plain = played(**fields)
    monkeypatch.setattr(vizdoom, "DoomGame", Spy)
    both = played(game_variables=["health", "AMMO2", "ANGLE"], **fields)
    assert (both[:, :, :, :60] == plain).all()
    shown, wanted = both[:, 0, 0, 60, :3], np.array(asked)
    assert (shown == np.clip(np.rint(wanted[: len(shown)]), 0, 255)).all()
    assert len(set(wanted[:, 0])) >= 3 and len(set(wanted[:, 1])) >= 3, "the player was not hit or did not shoot"
    assert wanted[:, 2].max() > 255, "nothing was clipped"
    assert (both[:, 0, 0, 60, 3:] == 0).all()


def test_more_variables_than_a_row_holds_take_two():
    names = [f"AMMO{i}" for i in range(10)]
    config = DoomConfig("x", height=40, width=8, game_variables=names)
    frame_space, _ = spaces(config)
    assert isinstance(frame_space, PixelsAndVariables) and frame_space.shape == (1, 42, 8)
    frame = played(height=40, width=8, game_variables=names)[0, 0]
    assert frame[0, 40, 2] == 50 and (frame[0, 41, 2:] == 0).all()  # AMMO2: fifty bullets


def test_a_stack_carries_the_variables_history():
    """Bug: only the newest frame's health known."""
    frames = played(scenario="health_gathering", num_steps=30, game_variables=["HEALTH"], gray=False)
    health = frames[:, 0, 0, 60, 0].tolist()
    assert len(set(health)) > 2, "the acid did not hurt"
    config = DoomConfig("x", gray=False, game_variables=["HEALTH"])
    stack = FrameStack(1, spaces(config)[0], 4)
    stacked = stack.reset(frames[0])
    for frame in frames[1:]:
        stacked = stack.push(frame, np.array([False]))
    assert stacked[0, ::3, 60, 0].tolist() == health[-4:]


def test_an_unknown_variable_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"env\.game_variables; did you mean 'HEALTH'"):
        spaces(DoomConfig("x", game_variables=["HEALT"]))
