"""Twins: drawn large and in colour, and still the very game that is scored, for the real emulators."""

import functools
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rltrain.config.environments import AtariConfig, DoomConfig, GymConfig, RetroConfig
from rltrain.envs import registry
from rltrain.envs.doom import viewer as doom_viewer
from rltrain.errors import EnvironmentFailure

# Short episodes, so that several begin; what is random in a game must be random in the same way.
GAMES = {
    "doom": (DoomConfig("x"), 90, (480, 640, 3), 35),
    "doom, cropped, with variables": (
        DoomConfig("x", scenario="take_cover", frame_skip=12, crop=[0.2, 0, 0, 0.1], game_variables=["HEALTH"]),
        30,
        (480, 640, 3),
        35,
    ),
    "pong": (AtariConfig("x", game="pong", max_episode_frames=402), 250, (210, 160, 3), 30),
    "breakout, sticky": (AtariConfig("x", game="breakout", sticky_actions=0.25), 300, (210, 160, 3), 30),
    "odd skip": (AtariConfig("x", game="pong", frame_skip=3, max_episode_frames=402), 200, (210, 160, 3), 30),
    "airstriker, sticky": (
        RetroConfig("x", sticky_actions=0.25, max_episode_frames=400, actions=["NOOP", "LEFT", "RIGHT", "B"]),
        130,
        (224, 320, 3),
        15,
    ),
    "cartpole": (GymConfig("x", id="CartPole-v1"), 80, (400, 600, 3), 50),
    "slippery lake": (GymConfig("x", id="FrozenLake-v1"), 80, (256, 256, 3), 4),
    "pendulum": (GymConfig("x", id="Pendulum-v1", max_episode_steps=30), 70, (500, 500, 3), 30),
}


@functools.cache
def side_by_side(name, pool_seed, viewer_seed):
    """Random actions in a pool of one and in its twin; (time step, what was shown, the action's name) of each."""
    config, num_steps, _, _ = GAMES[name]
    pool, viewer = registry.make_pool(config, 1), registry.make_viewer(config)
    rng = np.random.default_rng(0)
    pool.action_space.seed(0)
    try:
        pool.reset(pool_seed)
        firsts, taken = [viewer.reset(viewer_seed)], []
        for _ in range(num_steps):
            action = pool.action_space.sample() if pool.action_space.shape else rng.integers(pool.action_space.n)
            timestep, shown = pool.step(np.array([action])), viewer.step(action)
            taken.append((timestep, shown, viewer.action_name(action)))
            if shown.ended:
                firsts.append(viewer.restart())
        return taken, firsts, viewer.fps
    finally:
        pool.close()
        viewer.close()


def in_step(taken):
    return [
        bool(timestep.first[0]) == shown.ended and np.isclose(timestep.reward[0], shown.reward)
        for timestep, shown, _ in taken
    ]


@pytest.mark.parametrize("name", GAMES)
def test_the_twin_gives_the_rewards_and_ends_that_are_scored_through_several_episodes(name):
    _, _, shape, fps = GAMES[name]
    taken, firsts, measured_fps = side_by_side(name, 3, 3)
    assert all(in_step(taken))
    assert len(firsts) >= 2, "no episode ended, so that little was compared"
    pictures = [picture for _, shown, _ in taken for picture in shown.pictures] + firsts
    assert {(picture.shape, str(picture.dtype)) for picture in pictures} == {(shape, "uint8")}
    assert measured_fps == fps
    assert any(not np.array_equal(picture, pictures[0]) for picture in pictures)


@pytest.mark.parametrize("name", ["breakout, sticky", "slippery lake"])
def test_a_twin_with_another_seed_is_found_out(name):
    """The control: what the test above compares does differ between games."""
    taken, _, _ = side_by_side(name, 3, 4)
    assert not all(in_step(taken))


def test_pictures_are_in_colour_and_as_many_as_the_game_shows_in_that_time():
    taken, _, _ = side_by_side("doom", 3, 3)
    picture = taken[5][1].pictures[-1].astype(int)
    assert np.abs(picture[:, :, 0] - picture[:, :, 2]).mean() > 5, "red equals blue: a gray picture"
    assert len(taken[5][1].pictures) == 4  # tics of one action
    taken, _, _ = side_by_side("odd skip", 3, 3)
    assert sum(len(shown.pictures) for _, shown, _ in taken[:40]) == 60  # 40 actions x 3 frames at half of 60 Hz


def test_the_picture_at_an_end_is_the_old_episodes_and_restart_shows_the_new_one():
    taken, firsts, _ = side_by_side("slippery lake", 3, 3)
    last = next(shown.pictures[-1] for _, shown, _ in taken if shown.ended)
    assert not np.array_equal(last, firsts[0])
    assert np.array_equal(firsts[1], firsts[0])  # every episode begins in the same corner


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("doom", {"MOVE_LEFT", "MOVE_RIGHT", "ATTACK"}),
        ("pong", {"NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"}),
        ("airstriker, sticky", {"NOOP", "LEFT", "RIGHT", "B"}),
        ("cartpole", {"left", "right"}),
        ("slippery lake", {"left", "down", "right", "up"}),
    ],
)
def test_actions_have_names(name, known):
    taken, _, _ = side_by_side(name, 3, 3)
    assert {action for _, _, action in taken} == known


def test_several_buttons_and_numbers_have_names_too():
    names = doom_viewer.action_names(DoomConfig("x", action_set="combinations"))
    assert names == ["nothing", "MOVE_LEFT", "MOVE_RIGHT", "ATTACK", "MOVE_LEFT+ATTACK", "MOVE_RIGHT+ATTACK"]
    taken, _, _ = side_by_side("pendulum", 3, 3)
    assert all(-2 <= float(action) <= 2 for _, _, action in taken)


def test_an_environment_without_pictures_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(EnvironmentFailure, match="draws no pictures"):
        registry.make_viewer(GymConfig("x", id="silent:Silent-v0"))


@pytest.mark.parametrize(
    ("drawn", "shown"),
    [
        (0.5, 128),
        (1.0, 255),
        (200.0, 200),
        (np.uint8(1), 1),
        (True, 255),
        (np.int64(255), 255),
        (0.0, 0),
        (1 + 2e-16, 255),
        (-1e-17, 0),
    ],
)
def test_pictures_of_other_numbers_are_shown_as_they_are_meant(drawn, shown, monkeypatch):
    """Bug: floats from 0 to 1, as matplotlib has them, made a black film without a word."""
    viewer = registry.make_viewer(GymConfig("cartpole", id="CartPole-v1"))
    try:
        picture = np.full((4, 6, 3), drawn)
        monkeypatch.setattr(viewer._env, "render", lambda: picture, raising=False)
        assert viewer._picture().dtype == np.uint8 and (viewer._picture() == shown).all()
        picture = picture.astype(np.float64) + 300
        with pytest.raises(EnvironmentFailure, match="not from 0 to 255"):
            viewer._picture()
    finally:
        viewer.close()


@pytest.mark.parametrize(("fps", "seen"), [(np.int64(5), 5.0), (np.float32(0.5), 0.5), (None, 30.0), ("5", 30.0)])
def test_the_rate_of_a_film_is_the_environments_own(fps, seen, monkeypatch):
    """Bug: a rate that is a NumPy number was taken for none, and the film was six times too fast."""
    monkeypatch.setitem(CartPoleEnv.metadata, "render_fps", fps)
    viewer = registry.make_viewer(GymConfig("x", id="CartPole-v1"))
    viewer.close()
    assert viewer.fps == seen
