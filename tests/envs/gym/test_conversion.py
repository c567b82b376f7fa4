"""What stands between an environment of gymnasium and the algorithms, for everybody who steps one."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from small_runs import small

from rltrain.algos.parts import table_view
from rltrain.config.environments import GymConfig
from rltrain.envs import registry
from rltrain.envs.gym import make
from rltrain.envs.gym.contract import Contract
from rltrain.envs.gym.conversion import Conversion, far_actions, out_of_reach
from rltrain.envs.spaces import in_words
from rltrain.envs.tabular.table import transition_table
from rltrain.errors import ConfigError

LEVER, STAIRS = (GymConfig(name, id=f"offsets:{name}-v0") for name in ("Lever", "Stairs"))
PLAIN = spaces.Box(-1, 1, (2,), np.float64)


@pytest.fixture(autouse=True)
def _offsets_importable(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


class Anything(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


def conversion(observation_space=PLAIN, action_space=PLAIN, **fields):
    return Conversion(Anything(observation_space, action_space), GymConfig("x", id="Anything-v0", **fields))


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


@pytest.mark.parametrize("space", [PLAIN, spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([3, 3])])
def test_an_environment_may_change_the_action_that_it_is_given(space):
    """Bug: an algorithm learned from the actions as the environment had changed them, in silence."""
    action = np.ones((1, 2), np.int64 if isinstance(space, spaces.MultiDiscrete) else np.float32)
    given = conversion(action_space=space).actions(action)
    given[0][:] = 0
    assert (action == 1).all()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ((9, 8), (1, 9, 8)),
        ((9, 8, 3), (3, 9, 8)),
        ((3, 9, 8), (3, 9, 8)),
        ((3, 3, 3), (3, 3, 3)),
        ((8, 84, 84), (8, 84, 84)),
        ((84, 84, 8), (8, 84, 84)),
        ((10, 10, 10), (10, 10, 10)),
    ],
)
def test_channels_come_first(theirs, ours):
    """Bugs: a picture with as many rows as channels left as it was; eight stacked frames taken for eight rows."""
    found = conversion(spaces.Box(0, 255, theirs, np.uint8))
    assert found.frame_space.shape == ours
    pixels = np.random.default_rng(0).integers(0, 256, (2, *theirs), np.uint8)
    frames = found.frames(pixels)
    assert frames.shape == (2, *ours) and frames.flags.c_contiguous
    if theirs in ((3, 9, 8), (8, 84, 84)):
        assert (frames == pixels).all()
    else:
        assert (frames == (pixels[:, None] if len(theirs) == 2 else pixels.transpose(0, 3, 1, 2))).all()


def test_a_key_says_where_the_channels_are():
    """Bug: no way out where the shape misleads."""
    assert conversion(spaces.Box(0, 255, (6, 6, 6), np.uint8), channels="first").frame_space.shape == (6, 6, 6)
    pixels = np.arange(6 * 6 * 6, dtype=np.uint8).reshape(1, 6, 6, 6)
    for channels, frames in (("first", pixels), ("last", pixels.transpose(0, 3, 1, 2)), (None, "last")):
        found = conversion(spaces.Box(0, 255, (6, 6, 6), np.uint8), channels=channels).frames(pixels)
        assert (found == (pixels.transpose(0, 3, 1, 2) if isinstance(frames, str) else frames)).all()
    found = conversion(spaces.Box(0, 255, (4, 9, 9), np.uint8), channels="last")
    assert found.frame_space.shape == (9, 4, 9)
    with pytest.raises(ConfigError, match=r"env\.channels"):
        GymConfig("x", id="y", channels="middle")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(0, 1, (5, 5), np.float32), "float32 grid or picture of 5x5.*FlattenObservation"),
        (spaces.Box(0, 1, (84, 84, 1), np.float32), "float32 grid or picture of 84x84x1.*uint8"),
        (spaces.Box(0, 1, (10, 10, 4), bool), "bool grid or picture"),
        (spaces.Box(0, 255, (2, 9, 9, 3), np.uint8), "uint8 grid or picture of 2x9x9x3.*FlattenObservation"),
        (spaces.Box(0, 1, (0,), np.float32), "without numbers"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "Dict.*FlattenObservation"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))), "Tuple.*FlattenObservation"),
    ],
)
def test_an_unsupported_observation_is_named_with_what_to_use(space, words):
    """Bug: "use Box" said about a Box."""
    with pytest.raises(ConfigError, match=words):
        conversion(space)


def test_actions_lie_in_the_space_and_have_its_dtype():
    """Bugs: 0.1 rounded up to a float32 above 0.1; float32 given where float64 is declared; int64 for MultiBinary."""
    for bound in (0.1, 0.7, 1 / 3, 1e-8, 1.0, np.inf):
        theirs = spaces.Box(-bound, bound, (2,), np.float64)
        found = conversion(action_space=theirs)
        for end in (found.action_space.low, found.action_space.high):
            given = found.actions(end[None])[0]
            assert given.dtype == np.float64 and theirs.contains(given)
            assert np.isclose(abs(given[0]), bound, rtol=1e-6)
    same = spaces.Box(np.float32(-0.1), np.float32(0.1), (1,), np.float32)
    assert conversion(action_space=same).action_space == same
    assert conversion(action_space=spaces.MultiBinary(3)).actions(np.array([[1, 0, 1]])).dtype == np.int8


@pytest.mark.parametrize("scaled", [None, True, False])
@pytest.mark.parametrize("width", [0.0, 1e-12])
def test_a_dimension_of_actions_that_holds_no_float32_gets_what_it_declares(width, scaled):
    """Bug: for a joint that is locked at 1/3 the bounds, rounded inward, crossed each other: a traceback."""
    theirs = spaces.Box(np.array([1 / 3, -0.1]), np.array([1 / 3 + width, 0.1]), dtype=np.float64)
    found = conversion(action_space=theirs, scale_actions=scaled)
    for end in (found.action_space.low, found.action_space.high):
        given = found.actions(end[None])[0]
        assert theirs.contains(given) and np.isclose(abs(given[1]), 0.1)


@pytest.mark.parametrize(
    ("low", "high", "is_far"),
    [
        (4, 6, True), (-1, 1, False), (-2, 2, False), (0, 1, False), (-0.4, 0.4, False), (-3, 3, False),
        (-1000, 1000, True), (0, 255, True), (-0.01, 0.01, True), (-np.inf, np.inf, False), (4, np.inf, False),
    ],
)  # fmt: skip
def test_actions_far_from_zero_are_scaled(low, high, is_far):
    """Bug: a policy that starts at 0 +- 1 and is clipped to 4 in every step of [4, 6]."""
    space = spaces.Box(low, high, (2,), np.float32)
    assert far_actions(space) == is_far
    assert (conversion(action_space=space, scale_actions=None).action_space != space) == is_far
    assert conversion(action_space=space).action_space == space, "the default of saved runs"
    scaled = conversion(action_space=space, scale_actions=True)
    given = scaled.actions(np.array([[-1, 0], [1, 0.5]], np.float32))
    if np.isfinite(high):
        assert np.allclose(given, [[low, (low + high) / 2], [high, low + 0.75 * (high - low)]])
        assert scaled.action_space.low.tolist() == [-1, -1] and scaled.action_space.high.tolist() == [1, 1]
        assert all(space.contains(row) for row in given)
    else:
        assert (given == [[-1, 0], [1, 0.5]]).all() and scaled.action_space == space


def test_scaled_actions_say_what_they_stand_for():
    """Bug: a run whose actions are scaled to [4, 6] is evaluated with [4, 600] without a word. The second pair differs
    where NumPy leaves out numbers."""
    wide = np.full(2_000, 6, np.float32)
    other = wide.copy()
    other[1_000] = 7
    for one, two in ((np.float32([6]), np.float32([600])), (wide, other)):
        first, second, again = (
            conversion(action_space=spaces.Box(np.full_like(high, 4), high), scale_actions=True)
            for high in (one, two, one)
        )
        words = [in_words(each.frame_space, each.action_space)[1] for each in (first, second, again)]
        assert words[0] == words[2] != words[1]
        assert first.action_space == again.action_space != second.action_space
    assert in_words(first.frame_space, spaces.Box(-1, 1, (1,), np.float32))[1] == "Box(-1.0, 1.0, (1,), float32)"


def test_each_dimension_is_scaled_by_itself():
    """Bugs: one scale for all; NaN from a bound that is infinite."""
    space = spaces.Box(np.array([4, -np.inf, 0], np.float32), np.array([6, 3, 0.5], np.float32), dtype=np.float32)
    found = conversion(action_space=space, scale_actions=None)
    assert found.action_space.low.tolist() == [-1, -np.inf, -1] and found.action_space.high.tolist() == [1, 3, 1]
    assert found.actions(np.array([[0.5, -7.0, 1.0]], np.float32)).tolist() == [[5.5, -7.0, 0.5]]


@pytest.mark.parametrize(
    ("low", "high", "is_out"),
    [(5, np.inf, True), (5, np.finfo(np.float32).max, True), (-np.inf, -2, True), (0, np.inf, False),
     (-np.inf, np.inf, False), (5, 11, False), (5, 5, False), (-np.inf, 3, False)],
)  # fmt: skip
def test_actions_that_no_new_policy_takes_and_nothing_scales_are_told(low, high, is_out, monkeypatch, capsys):
    """Bug: each action of [5, inf) was clipped to 5 for a whole training, without a word."""
    space = spaces.Box(low, high, (1,), np.float32)
    assert out_of_reach(space) is is_out
    assert not (is_out and far_actions(space)), "scaled to [5, 3e38], whose centre is 2e38"
    monkeypatch.setattr(make, "_facts", lambda config: make._Facts(space, None))
    make.settle(GymConfig("x", id="x"), space)
    assert ("shift them in the environment" in capsys.readouterr().err) is is_out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_the_largest_number_is_no_bound(dtype):
    """Bug: high - low is infinite, so every scaled action was the upper bound."""
    largest = np.finfo(dtype).max
    widest = spaces.Box(-largest, largest, (2,), dtype)
    assert not far_actions(widest)
    found = conversion(observation_space=widest, action_space=widest, scale_actions=True)
    assert found.actions(np.array([[0.5, -2]], np.float32)).tolist() == [[0.5, -2]]


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8, np.int8])
def test_whole_numbers_of_any_dtype_stay_whole(dtype):
    """Bugs: int64 + uint64 is a float64, so environments got the action 101.0; 100 + 100 is not an int8."""
    theirs, several = (
        spaces.Discrete(100, start=100, dtype=dtype), spaces.MultiDiscrete(np.full(2, 3, dtype), dtype, start=[1, 1])
    )  # fmt: skip
    found = conversion(observation_space=theirs, action_space=theirs)
    (action,) = found.actions(np.array([1]))
    assert (action, type(action)) == (101, int)
    assert found.frames(np.array([101])).dtype == np.int64 and found.counted_from == (100, 100)
    given = conversion(action_space=several).actions(np.array([[0, 2]]))
    assert given.tolist() == [[1, 3]] and given.dtype == dtype
    env = gymnasium.Env()
    env.observation_space, env.action_space = theirs, theirs
    assert Contract(env, "x").reset((dtype(100), {})) == 100


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


def test_a_table_is_shown_with_the_numbers_of_its_environment(tmp_path, capsys):
    """Bug: q_table.csv and the steps count from 0, so its action_1 is the environment's action 2."""
    table_view.write_csv(STAIRS, np.eye(5, 2), tmp_path / "q.csv")
    rows = [line.split(",") for line in (tmp_path / "q.csv").read_text().splitlines()]
    assert rows[0] == ["state", "action_7", "action_8"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5"] and rows[2] == ["2", "0.0", "1.0"]
    table_view.show_step(STAIRS, 3, {"state": 1, "action": 1}, np.eye(5, 2))
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "step 3: action_8 in 2" and [line.split()[0] for line in shown[2:]] == ["1", "2"]
