"""The pool of a plugin's own family of environments is held to the protocol of pools."""

import json
import sys
import time
from dataclasses import astuple, dataclass, replace

import gymnasium
import numpy as np
import pytest

from rltrain import plugins
from rltrain.envs import registry
from rltrain.envs.checked import PoolBreach
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.viewer import Shown
from rltrain.errors import ConfigError, EnvironmentFailure

B = 2
HOW = {"change": lambda step: step}
"""What the pool below does to its time steps, and to itself."""


@dataclass
class OwnConfig:
    name: str = "own"
    family: str = "own"
    stack_num: int = 1


class OwnPool:
    """Five states, and reward 1."""

    num_envs, stack_num, num_restarts = B, 1, 0
    frame_space, action_space = gymnasium.spaces.Discrete(5), gymnasium.spaces.Discrete(2)
    closed = False

    def reset(self, seed):
        return HOW.get("obs", np.zeros(B, np.int64))

    def send(self, action):
        pass

    def recv(self):
        no = np.zeros(B, bool)
        state = np.ones(B, np.int64)
        return HOW["change"](TimeStep(state, state.copy(), np.ones(B, np.float32), no, no.copy(), no.copy()))

    def step(self, action):
        self.send(action)
        return self.recv()

    def state_dict(self):
        return None

    def load_state_dict(self, state):
        raise AssertionError

    def close(self):
        OwnPool.closed = True


def spaces(config):
    return HOW.get("spaces", (OwnPool.frame_space, OwnPool.action_space))


class OwnViewer:
    fps = 10

    def reset(self, seed):
        return HOW.get("picture", np.zeros((4, 5, 3), np.uint8))

    restart = close = lambda self: self.reset(0)

    def step(self, action):
        return HOW.get("shown", Shown([self.reset(0)], np.float32(1), np.bool_(True)))

    def action_name(self, action):
        return "wait"


def make_pool(config, num_envs):
    pool = OwnPool()
    for name, value in HOW.get("pool", {}).items():
        setattr(pool, name, value)
    return pool


@pytest.fixture
def play(monkeypatch):
    """Play a step with a pool that differs in one way."""
    plugins.register_environment_family("own", __name__, OwnConfig)

    def call(**how):
        for key, value in how.items():
            monkeypatch.setitem(HOW, key, value)
        registry.spaces(OwnConfig())
        pool = registry.make_pool(OwnConfig(), B)
        pool.reset(0)
        return [pool.step(np.zeros(B, np.int64)) for _ in range(2)]

    return call


def test_a_pool_that_keeps_the_protocol_is_let_alone(play):
    yes = np.array([True, False])
    steps = play(change=lambda step: replace(step, terminated=yes, first=yes, episodes=[Episode(0, 1.0, 1, 1)]))
    assert [step.episodes[0].length_steps for step in steps] == [1, 1]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (
            "obs",
            np.ones((B, 1), np.int64),
            r"obs is an array of shape \(2, 1\) and dtype int64",
        ),
        ("next_obs", np.ones(B), "dtype float64"),
        ("next_obs", np.full(B, 5), r"next_obs has a state outside of Discrete\(5\)"),
        ("obs", np.full(B, 2), "obs differs from next_obs without first"),
        ("reward", np.ones(B), "reward is an array .* float64"),
        ("reward", [1.0, 1.0], "reward is a list"),
        ("terminated", np.ones(B), "terminated"),
        ("truncated", np.ones(B, bool), "truncated without first"),
        ("first", np.ones(B, bool), "reset without an end"),
        ("episodes", [Episode(B, 1.0, 1, 1)], "env_index from 0 to 1"),
        ("episodes", [Episode(0, None, 1, 1)], r"episodes has Episode\(env_index=0, reward=None"),
        ("episodes", [Episode(0, np.ones(2), 1, 1)], "an Episode of numbers"),
        ("episodes", [Episode(0, 1.0, 0, 0)], "with 1 step or more"),
        ("episodes", [(0, 1.0)], "episodes has a tuple"),
    ],
)
def test_a_step_that_breaks_it_is_code_4(play, field, value, words):
    """Bug: a plugin's pool whose rewards have another shape is broadcast in the loss, in silence."""
    with pytest.raises(PoolBreach, match=f"family 'own': .*{words}") as caught:
        play(change=lambda step: replace(step, **{field: value}))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"spaces": (OwnPool.frame_space, 2)}, "spaces returned a tuple"),
        ({"spaces": (gymnasium.spaces.Discrete(5, start=1), OwnPool.action_space)}, "starts at 0"),
        ({"spaces": (gymnasium.spaces.Box(0, 1, (2, 2)), OwnPool.action_space)}, "observation space is Box"),
        ({"spaces": (OwnPool.frame_space, gymnasium.spaces.Discrete(2, start=1))}, "action space is Discrete"),
        ({"spaces": (OwnPool.frame_space, gymnasium.spaces.MultiDiscrete([]))}, "no numbers"),
        ({"pool": {"num_envs": 3}}, "make_pool made 3 environments, but must be 2"),
        ({"pool": {"stack_num": 4}}, "the stack_num of its pool is 4, but must be env.stack_num=1"),
        ({"pool": {"state_dict": lambda: {"rng": np.random.default_rng(0)}}}, r"a Generator at \['rng'\]"),
        ({"pool": {"state_dict": lambda: {"x": {1: 2}}}}, r"the key 1\['x'\]"),
        ({"pool": {"state_dict": lambda: {"x": np.array([None])}}}, "dtype object"),
        ({"pool": {"state_dict": lambda: [1]}}, "state_dict returned a list"),
        ({"pool": {"recv": None}}, "its pool has no recv"),
        ({"pool": {"step": lambda: None}}, r"its pool has no step\(action\)"),
        ({"obs": np.zeros(B, np.float32)}, "obs of reset is an array"),
        ({"change": lambda step: None}, "a step returned a NoneType"),
    ],
)
def test_a_family_that_breaks_it_is_code_4_and_its_pool_is_closed(play, monkeypatch, how, words):
    """Bug: the error comes from inside torch, and engines of the pool are left."""
    monkeypatch.setattr(OwnPool, "closed", False)
    with pytest.raises(PoolBreach, match=f"family 'own': .*{words}"):
        play(**how)
    assert OwnPool.closed == ("pool" in how and "state_dict" not in how["pool"]), "a run closes a pool that was made"


def test_numbers_of_numpy_become_pythons(play):
    """Bug: the first line of metrics or checkpoint ended with "float32 is not JSON serializable; a bug in rltrain"."""
    episode = Episode(np.int64(0), np.float32(1), np.int64(2), np.array(4))
    yes = np.array([True, False])
    step, _ = play(change=lambda step: replace(step, truncated=yes, first=yes, episodes=[episode]))
    assert json.dumps(astuple(step.episodes[0])) == "[0, 1.0, 2, 4]"


def test_an_end_without_an_episode_is_code_4_unless_the_environment_was_replaced(play):
    """Bug: an evaluation waits for ever for episodes that a pool does not list."""
    yes = np.array([False, True])
    ends = {"change": lambda step: replace(step, terminated=yes, first=yes)}
    with pytest.raises(PoolBreach, match="environment 1 is reset without an Episode"):
        play(**ends)

    class Replacing(OwnPool):
        def recv(self):
            self.num_restarts += 1
            return super().recv()

    play(**ends, pool={"__class__": Replacing})


def test_a_pool_may_fill_the_same_array_each_time(play):
    """Bug: the replay held the second frame of every episode in the place of its first."""
    state, reward = np.zeros(B, np.int64), np.zeros(B, np.float32)

    def change(step):
        state[:] += 1
        reward[:] += 1
        return replace(step, obs=state, next_obs=state, reward=reward)

    first, second = play(obs=state, change=change)
    assert (first.obs[0], first.next_obs[0], first.reward[0], second.obs[0], second.reward[0]) == (1, 1, 1, 2, 2)


def test_a_family_without_a_viewer_draws_no_pictures(play):
    """Bug: `play`, which the last lines of a run print, ended as a bug of rltrain."""
    play()
    with pytest.raises(EnvironmentFailure, match="family 'own' draws no pictures; env; use `rltrain eval`"):
        registry.make_viewer(OwnConfig())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, ""),
        (
            {"picture": np.zeros((4, 5, 3))},
            "a picture of its viewer is an array of shape .* float64, but must be",
        ),
        ({"picture": np.zeros((4, 5), np.uint8)}, r"a picture of its viewer is an array of shape \(4, 5\)"),
        ({"picture": None}, "a picture of its viewer is a NoneType"),
        ({"shown": (1, 2, 3)}, "a step of its viewer returned a tuple, but must be a Shown"),
        ({"shown": Shown([], "1", False)}, r"returned Shown\(a list, a str, a bool\)"),
        ({"fps": None}, "the fps of its viewer is None"),
        ({"restart": 3}, "its viewer has no restart, but must be .*; plugins; correct its viewer"),
    ],
)
def test_a_viewer_that_breaks_the_protocol_is_code_4(play, monkeypatch, how, words):
    """Bug: an error from inside OpenCV or the film's encoder, as a bug of rltrain."""
    play()
    monkeypatch.setattr(sys.modules[__name__], "make_viewer", lambda config: OwnViewer(), raising=False)
    for key, value in how.items():
        monkeypatch.setitem(HOW, key, value)
        if hasattr(OwnViewer, key):
            monkeypatch.setattr(OwnViewer, key, value)

    def watched():
        viewer = registry.make_viewer(OwnConfig())
        assert viewer.step(0).ended is True and viewer.action_name(0) == "wait"
        return viewer.reset(0).shape, viewer.restart().shape, viewer.fps

    if not words:
        assert watched() == ((4, 5, 3), (4, 5, 3), 10.0)
        return
    with pytest.raises(PoolBreach, match=f"family 'own': .*{words}") as caught:
        watched()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("settle", lambda: registry.settle(OwnConfig(), OwnPool.action_space)),
        ("missing_limit", lambda: registry.bounded(OwnConfig())),
        ("known_limit", lambda: registry.make_ending_pool(OwnConfig(), B)),
        ("action_names", lambda: registry.action_names(OwnConfig())),
        ("counted_from", lambda: registry.counted_from(OwnConfig())),
    ],
)  # fmt: skip
def test_a_function_of_a_family_that_returns_another_type_is_code_4(play, monkeypatch, function, call):
    play()
    monkeypatch.setattr(sys.modules[__name__], function, lambda *given: 1j, raising=False)
    with pytest.raises(PoolBreach, match=f"family 'own': {function} returned a complex, but must be .*; plugins; "):
        call()


@pytest.mark.parametrize(
    ("function", "answer", "call"),
    [
        ("counted_from", (0,), lambda: registry.counted_from(OwnConfig())),
        ("counted_from", (0, 1, 2), lambda: registry.counted_from(OwnConfig())),
        ("counted_from", (0, [0, "1"]), lambda: registry.counted_from(OwnConfig())),
        ("known_limit", float("nan"), lambda: registry.make_ending_pool(OwnConfig(), B)),
        ("known_limit", float("inf"), lambda: registry.make_ending_pool(OwnConfig(), B)),
    ],
)  # fmt: skip
def test_a_function_of_a_family_that_returns_no_fitting_value_is_code_4(play, monkeypatch, function, answer, call):
    """Bug: a ValueError as a bug of rltrain; an evaluation without an end."""
    play()
    monkeypatch.setattr(sys.modules[__name__], function, lambda *given: answer, raising=False)
    with pytest.raises(PoolBreach, match=f"family 'own': {function} returned .*, but must be .* number"):
        call()


def test_the_first_state_and_action_of_a_family_may_be_numbers_of_numpy(play, monkeypatch):
    play()
    first = (np.int64(1), [np.int64(2), 0])
    monkeypatch.setattr(sys.modules[__name__], "counted_from", lambda config: first, raising=False)
    assert json.dumps(registry.counted_from(OwnConfig())) == "[1, [2, 0]]"


def test_a_family_without_a_limit_needs_no_key_for_one(play, monkeypatch, capsys):
    """Bug: a TypeError as a bug of rltrain, as the settings have no max_episode_steps."""
    play()
    monkeypatch.setattr(sys.modules[__name__], "missing_limit", lambda config: "own has no limit", raising=False)
    assert registry.bounded(OwnConfig(), registry.TABLE_STEPS) == OwnConfig()
    told = capsys.readouterr().err
    assert told.startswith("rltrain: own has no limit: ") and told.endswith(" after 10,000 steps\n")


def test_choices_on_a_board_are_refused(play):
    """Bug: a TypeError as a bug of rltrain."""
    board = gymnasium.spaces.MultiDiscrete(np.full((2, 2), 3))
    with pytest.raises(PoolBreach, match=r"the action space is MultiDiscrete.* MultiDiscrete \[A\]"):
        play(spaces=(OwnPool.frame_space, board))


def test_a_pool_that_does_not_restore_its_state_is_named(play):
    """Bug: a resumed run went on in other episodes and called them exact."""
    play(pool={"state_dict": lambda: {"t": 1}, "load_state_dict": lambda state: None})
    pool = registry.make_pool(OwnConfig(), B)
    pool.load_state_dict({"t": 1})
    with pytest.raises(PoolBreach, match="after load_state_dict 't' of state_dict is another value, but must be what"):
        pool.load_state_dict({"t": 2})


def test_the_state_of_a_pool_may_hold_a_clock(play):
    """Bug: "after load_state_dict 't' of state_dict is another value", for time that had gone on."""
    play(pool={"state_dict": lambda: {"t": time.perf_counter()}, "load_state_dict": lambda state: None})
    registry.make_pool(OwnConfig(), B).load_state_dict({"t": 5.0})


def test_a_function_of_a_family_with_other_arguments_is_code_2(play, monkeypatch):
    """Bug: a TypeError as a bug of rltrain, as no line of the family's own had run."""
    play()
    monkeypatch.setattr(sys.modules[__name__], "action_names", lambda: ["wait"], raising=False)
    with pytest.raises(ConfigError, match=r"has another action_names than action_names\(config\), which is called; "):
        registry.action_names(OwnConfig())


def test_a_family_without_a_module_or_without_functions_is_code_2(play, monkeypatch):
    """Bug: an AttributeError, as a bug of rltrain."""
    play()
    monkeypatch.delattr(sys.modules[__name__], "spaces")
    with pytest.raises(ConfigError, match="of the environment family 'own' has no spaces; plugins; write spaces and "):
        registry.spaces(OwnConfig())
    monkeypatch.setitem(registry.MODULES, "own", "nowhere_at_all")
    with pytest.raises(ConfigError, match="the module 'nowhere_at_all' of the environment family 'own' does not exist"):
        registry.spaces(OwnConfig())
