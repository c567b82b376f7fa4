"""What stands between an environment of gymnasium and the algorithms, for everybody who steps one."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from small_runs import small

from rltrain.config.environments import GymConfig
from rltrain.envs import registry
from rltrain.envs.gym.conversion import Conversion
from rltrain.envs.tabular.table import transition_table

LEVER, STAIRS = (GymConfig(name, id=f"offsets:{name}-v0") for name in ("Lever", "Stairs"))
PLAIN = spaces.Box(-1, 1, (2,), np.float64)


@pytest.fixture(autouse=True)
def _offsets_importable(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


class Anything(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


def conversion(observation_space=PLAIN, action_space=PLAIN):
    return Conversion(Anything(observation_space, action_space), "Anything-v0")


@pytest.mark.parametrize(
    ("theirs", "ours", "given", "frames"),
    [
        (spaces.Discrete(5), spaces.Discrete(5), [0, 4], [0, 4]),
        (spaces.Discrete(5, start=1), spaces.Discrete(5), [1, 5], [0, 4]),
        (spaces.Discrete(5, start=-7), spaces.Discrete(5), [-7, -3], [0, 4]),
        (PLAIN, spaces.Box(-1, 1, (2,), np.float32), [[0.5, 1.0]], [[0.5, 1.0]]),
    ],
)
def test_states_count_from_zero(theirs, ours, given, frames):
    found = conversion(theirs)
    assert found.frame_space == ours
    assert found.frames(np.array(given, ours.dtype)).tolist() == frames
    assert found.frames(np.array(given, ours.dtype)).dtype == ours.dtype


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [((9, 8), (1, 9, 8)), ((9, 8, 3), (3, 9, 8)), ((3, 9, 8), (3, 9, 8)), ((3, 3, 3), (3, 3, 3))],
)
def test_channels_come_first(theirs, ours):
    """Bug: a picture whose sides are as many as its channels left as it was."""
    found = conversion(spaces.Box(0, 255, theirs, np.uint8))
    assert found.frame_space.shape == ours
    pixels = np.random.default_rng(0).integers(0, 256, (2, *theirs), np.uint8)
    frames = found.frames(pixels)
    assert frames.shape == (2, *ours) and frames.flags.c_contiguous
    if theirs == (3, 9, 8):
        assert (frames == pixels).all()
    else:
        assert (frames == (pixels[:, None] if len(theirs) == 2 else pixels.transpose(0, 3, 1, 2))).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_pool_and_its_workers_count_from_zero(workers):
    config = GymConfig("stairs", id=STAIRS.id, workers=workers)
    pool = registry.make_pool(config, 3)
    assert pool.frame_space == spaces.Discrete(5) and pool.action_space == spaces.Discrete(2)
    assert registry.spaces(config) == (pool.frame_space, pool.action_space)
    assert pool.reset(0).tolist() == [0, 0, 0]
    step = pool.step(np.array([1, 0, 1]))
    assert step.obs.tolist() == step.next_obs.tolist() == [1, 0, 1]
    for _ in range(3):
        step = pool.step(np.array([1, 1, 0]))
    assert (step.obs.tolist(), step.reward.tolist()) == ([4, 3, 0], [1.0, 0.0, 0.0])
    pool.close()


def test_the_viewer_shows_the_game_that_the_pool_plays():
    """Bug: 0, 1, 2 given to an environment that counts -1, 0, 1."""
    pool, viewer = registry.make_pool(LEVER, 1), registry.make_viewer(LEVER)
    pool.reset(0), viewer.reset(0)
    for action in np.array([2, 0, 1, 2]):
        step, shown = pool.step(action[None]), viewer.step(action)
        assert shown.reward == step.reward[0] == action - 1
        assert shown.pictures[0][0, 0].tolist() == [100 * action, 0, 0]
        assert viewer.action_name(action) == str(action - 1), "as the environment counts"
    pool.close(), viewer.close()


def test_a_table_of_an_environment_that_counts_from_elsewhere():
    table = transition_table(STAIRS)
    assert table.next_state[:, :, 0].tolist() == [[0, 1], [0, 2], [1, 3], [2, 4], [3, 4]]
    assert table.reward[:, 1, 0].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("algo", ["q_learning", "dqn", "ppo"])
def test_an_environment_that_counts_states_from_one_trains_and_evaluates(algo, command):
    """Bug: a traceback of torch's one_hot, taken for a bug of rltrain."""
    args = [arg for arg in small(algo, "gym") if not arg.startswith("env=")]
    trained = command(*args, "env=gym", f"env.id={STAIRS.id}", "total_steps=3000", "eval_every_steps=0")
    assert trained.code == 0, trained.err
    evaluated = command("eval", "last", f"env.id={STAIRS.id}", "episodes=2")
    assert evaluated.code == 0, evaluated.err
    if algo == "q_learning":
        assert json.loads(evaluated.out.splitlines()[-1])["returns"] == [47.0, 47.0]  # 50 steps, three to come near


def test_an_environment_that_counts_actions_from_minus_one_can_be_filmed(command):
    args = [arg for arg in small("ppo", "gym") if not arg.startswith("env=")]
    trained = command(*args, "env=gym", f"env.id={LEVER.id}", "total_steps=128", "eval_every_steps=0")
    assert trained.code == 0, trained.err
    played = command("play", "last", f"env.id={LEVER.id}", "video=true")
    assert played.code == 0, played.err
    assert "warning" not in played.err
