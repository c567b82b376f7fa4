"""Environments that can say where they stand: what a checkpoint holds of them leads to the same future."""

import copy
import importlib
import os
import signal

import gymnasium
import numpy as np
import pytest
import yaml
from exact import differences, lines
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from small_runs import small

from rltrain.app.paths import CONFIGS
from rltrain.config.environments import GymConfig
from rltrain.envs import patience
from rltrain.envs.gym import kept
from rltrain.envs.gym.family import make_pool
from rltrain.envs.gym.make import make_env
from rltrain.envs.pool import AnotherGame
from rltrain.system import global_random

INEXACT = ("gymnasium.envs.box2d.",)
"""Whose state is a physics engine's."""


def bundled():
    """The environments of gymnasium, and our own of its kind, in configs/env; each with all that it can be told."""
    found = []
    for path in sorted((CONFIGS / "env").glob("*.yaml")):
        values = yaml.safe_load(path.read_text())
        if "gym_schema" in values["defaults"] and "id" in values:
            kwargs = values.get("kwargs", {})
            found.append(pytest.param(GymConfig(path.stem, id=values["id"], kwargs=kwargs), id=path.stem))
    more = {
        "CliffWalking-v1": {"is_slippery": True},
        "Taxi-v4": {"is_rainy": True, "fickle_passenger": True},
        "MountainCar-v0": {"goal_velocity": 0.01},
        "Pendulum-v1": {"g": 9.0},
    }
    return found + [
        pytest.param(GymConfig("x", id=name, kwargs=kwargs), id=f"{name}+") for name, kwargs in more.items()
    ]


def is_inexact(config):
    env = make_env(config)
    try:
        return type(env.unwrapped).__module__.startswith(INEXACT)
    finally:
        env.close()


def future(pool, actions):
    return [pool.step(action) for action in actions]


def test_all_of_toy_text_and_classic_control_that_can_be_trained_is_among_them():
    """Blackjack apart, whose observations no network here takes."""
    ids = {param.values[0].id for param in bundled()}
    modules = ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text")
    registered = {
        spec.id
        for spec in gymnasium.registry.values()
        if isinstance(spec.entry_point, str) and spec.entry_point.startswith(modules)
    }
    older = {"CartPole-v0", "FrozenLake8x8-v1"}  # the same classes
    assert registered - ids - older <= {"Blackjack-v1", "CliffWalkingSlippery-v1"}
    assert "rltrain.envs.maze:Maze-v0" in ids


@pytest.mark.parametrize("num_envs", [1, 5])
@pytest.mark.parametrize("config", bundled())
def test_what_it_saves_leads_to_the_same_future(config, num_envs):
    """Bugs: the maze, whose state had another name; a field of the state left out; the generator not restored."""
    if is_inexact(config):
        pool = make_pool(config, 1)
        pool.reset(0)
        assert pool.state_dict() is None, "said to be resumed exactly, and not compared here"
        pool.close()
        return
    config = GymConfig(config.name, id=config.id, kwargs=config.kwargs, max_episode_steps=37)
    pool, other, begun_anew = (make_pool(config, num_envs) for _ in range(3))
    pool.action_space.seed(1)
    actions = [np.stack([pool.action_space.sample() for _ in range(num_envs)]) for _ in range(150)]
    differs = False
    for lead in (0, 1, 5, 50):
        pool.reset(0), other.reset(99), begun_anew.reset(98)
        future(pool, actions[:lead])
        state = copy.deepcopy(pool.state_dict())
        assert state is not None, "it cannot be resumed exactly"
        other.load_state_dict(state)
        futures = [future(each, actions[lead:]) for each in (pool, other, begun_anew)]
        for one, two, control in zip(*futures, strict=True):
            for key in ("obs", "next_obs", "reward", "terminated", "truncated", "first"):
                assert np.array_equal(getattr(one, key), getattr(two, key)), key
                differs |= not np.array_equal(getattr(one, key), getattr(control, key))
            assert one.episodes == two.episodes
    assert differs, "the control"
    for each in (pool, other, begun_anew):
        each.close()


@pytest.mark.parametrize("algo", ["dqn", "a2c"])
def test_a_run_in_the_maze_that_was_stopped_is_the_one_that_never_stopped(algo, command, stop_at, monkeypatch):
    """Bug: docs promise it for toy text, and the resumed run began new episodes."""
    args = [*small(algo, "maze"), "total_steps=400", "log_every_steps=50", "eval_every_steps=200"]
    whole = command(*args).folder
    stop_at(101)  # in the middle of episodes
    stopped = command(*args)
    monkeypatch.undo()
    assert stopped.code == 143, stopped.err
    resumed = command("resume", stopped.folder, "progress=false")
    assert resumed.code == 0, resumed.err
    assert differences(whole, stopped.folder) == []
    assert lines(whole) == lines(stopped.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"length_steps": [-5, 3]}, "negative length"), ({"reward_sum": [np.inf, 1.0]}, "no finite return"),
     ({"length_steps": [3]}, "of 1 episodes, not 2"), ({"0": {"step": 5}}, "the saved environment has step, not")],
)  # fmt: skip
def test_a_state_that_no_environment_has_is_refused(change, words):
    """Bugs: an episode of -99,992 steps in episodes.csv; `gravity` and the method `step` set from a file."""
    pool = make_pool(GymConfig("cartpole", id="CartPole-v1"), 2)
    pool.reset(0)
    state = pool.state_dict()
    pool.load_state_dict(copy.deepcopy(state))
    with pytest.raises(ValueError, match=words):
        pool.load_state_dict(state | change)
    for wrong in ({"state": "text"}, {"state": np.zeros(3)}, {"steps_beyond_terminated": {"a": 1}}):
        with pytest.raises(ValueError, match="the saved environment has the"):
            pool.load_state_dict(state | {"0": state["0"] | wrong})
    lake = make_pool(GymConfig("lake", id="FrozenLake-v1"), 1)
    lake.reset(0)
    of_lake = lake.state_dict()
    lake.load_state_dict(copy.deepcopy(of_lake))
    with pytest.raises(ValueError, match="the saved environment has the s 16"):
        lake.load_state_dict(of_lake | {"0": of_lake["0"] | {"s": 16}})


def make_random(seeded=True, render_mode=None):
    env = CartPoleEnv()
    env.force_mag = float((np.random if seeded else np.random.default_rng()).uniform(3, 30))
    return env


gymnasium.register("RandomPole-v0", make_random, max_episode_steps=60)


@pytest.mark.parametrize("env", ["frozen_lake", "RandomPole-v0"])
def test_a_resumed_run_has_the_map_that_its_constructor_drew(env, command, stop_at, monkeypatch, request):
    """Bug: the agent went on in another random map; at its square of the old one, before that was told."""
    monkeypatch.syspath_prepend(request.path.parent)
    is_lake = env == "frozen_lake"
    named = [] if is_lake else [f"env.id=test_exact_state:{env}"]
    args = [*small("a2c", env if is_lake else "gym"), *named, *(["env.kwargs.map_name=null"] if is_lake else [])]
    args += ["total_steps=400", "eval_every_steps=0"]
    whole = command(*args).folder
    stop_at(101)
    stopped = command(*args)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(request.path.parent)
    assert stopped.code == 143, stopped.err
    resumed = command("resume", stopped.folder, *named, "progress=false")
    assert resumed.code == 0, resumed.err
    assert differences(whole, stopped.folder) == []


@pytest.mark.parametrize(
    ("algo", "keys"), [("a2c", []), ("a2c", ["env.workers=2"]), ("a3c", ["num_envs=2", "algo.num_workers=2"])]
)
def test_a_resumed_run_draws_in_its_constructors_what_it_drew_before(
    algo, keys, command, stop_at, monkeypatch, request
):
    """Bug: an agent that had learned its map went on in another one, without a word: from 9.9 of 10 to below 2."""
    monkeypatch.syspath_prepend(request.path.parent)
    named = ["env.id=drawn:Drawn-v0"]
    args = [*small(algo, "gym"), *named, "env.kwargs.by=global", "total_steps=200", "eval_every_steps=0", *keys]
    stop_at(100)
    stopped = command(*args)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(request.path.parent)
    assert stopped.code == 143, stopped.err

    def returns():
        return {line.split(",")[1] for line in (stopped.folder / "episodes.csv").read_text().splitlines()[1:]}

    before = returns()
    resumed = command("resume", stopped.folder, *named, "progress=false")
    assert resumed.code == 0, resumed.err
    num_envs = 2 if algo == "a3c" else 3
    assert before and len(returns()) <= num_envs  # a worker of A3C may have played no episode before


def test_a_worker_in_place_of_a_lost_one_has_the_same_maps(monkeypatch, request):
    monkeypatch.syspath_prepend(request.path.parent)
    pool = make_pool(GymConfig("x", id="drawn:Drawn-v0", kwargs={"by": "global"}, workers=1), 2)
    before = pool.reset(0)
    os.kill(pool._workers._processes[0].pid, signal.SIGKILL)
    after = pool.step(np.zeros(2, np.int64))
    pool.close()
    assert pool.num_restarts == 1 and after.first.all()
    assert (after.obs == before).all() and before[0] != before[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Running-observations", "another first observation"),
        ("Running-rewards", "another reward of the first action"),
        ("Level", "another first observation"), ("NoLevel", ""),
    ],
)  # fmt: skip
def test_what_is_kept_from_episode_to_episode_is_told_once(name, words, command, monkeypatch, request):
    """Bug: a policy that earns 20 in training is scored 15, as an evaluation has no mean yet; nothing was said."""
    monkeypatch.syspath_prepend(request.path.parent)
    monkeypatch.setattr(kept, "_looked_at", set())
    trained = command(*small("a2c", "gym"), f"env.id=drawn:{name}-v0", "total_steps=200", "eval_every_steps=100")
    assert trained.code == 0, trained.err
    assert trained.err.count("after some episodes environment") == bool(words)
    assert f"has {words} for the same seed" in trained.err or not words


@pytest.mark.parametrize("how", ["raise", "memory", "hang"])
def test_an_environment_that_cannot_be_looked_at_is_left_alone(how, command, monkeypatch, request):
    """Bugs: code 6, or a run that hangs, because of the look at an environment that was played right."""
    monkeypatch.syspath_prepend(request.path.parent)
    monkeypatch.setattr(kept, "_looked_at", set())
    monkeypatch.setattr(kept, "_LONGEST_S", 0.3)
    keys = ["env.id=drawn:SeededOnce-v0", f"env.kwargs.how={how}", "total_steps=20", "eval_every_steps=0"]
    done = command(*small("a2c", "gym"), *keys)
    assert done.code == 0 and "warning" not in done.err, done.err
    assert kept._looked_at, "the control"


def test_nothing_is_looked_at_while_the_run_stops(monkeypatch, capsys):
    """Bug: "it keeps something between episodes", as an environment that failed by then observed zeros."""
    monkeypatch.setattr(kept, "_looked_at", set())
    config = GymConfig("x", id="CartPole-v1")
    pool = make_pool(config, 1)
    frame, action = pool.reset(0), np.zeros(1, np.int64)
    first = pool.step(action)
    monkeypatch.setattr(type(pool._inner[0].unwrapped), "reset", lambda self, **given: 1 // 0)
    for stops_before in (True, False):
        kept._looked_at.clear()
        answers = iter([stops_before, True])
        monkeypatch.setattr(patience, "_stopping", True)
        monkeypatch.setattr(kept, "is_stopping", lambda answers=answers: next(answers))
        kept.tell_if_kept(config, pool, 0, frame, action, first)
    assert "keeps something" not in capsys.readouterr().err


def test_what_the_first_constructor_draws_for_all_is_the_same_in_each_process(monkeypatch, request, command):
    """Bug: the first constructor, for a look at the spaces, was not seeded, so `eval` played another world."""
    monkeypatch.syspath_prepend(request.path.parent)
    scores = []
    for seed in (1, 2):
        drawn = importlib.import_module("drawn")
        monkeypatch.setattr(drawn.Kept, "kept", None)  # as in a process of its own
        global_random.seed(seed)
        run = command(*small("a2c", "gym"), "env.id=drawn:Kept-v0", "total_steps=20", "eval_every_steps=0")
        scores.append(run.json("result.json")["final"]["mean_reward"])
    assert scores[0] == scores[1] > 0


@pytest.mark.parametrize("algo", ["a2c", "dqn"])
def test_a_state_of_another_game_is_not_put_into_this_one(algo, command, stop_at, monkeypatch, request):
    """Bug: a pole with another force was called exact."""
    monkeypatch.syspath_prepend(request.path.parent)
    named = ["env.id=test_exact_state:RandomPole-v0"]
    args = [*small(algo, "gym"), *named, "env.kwargs.seeded=false", "total_steps=400", "eval_every_steps=0"]
    stop_at(101)
    stopped = command(*args)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(request.path.parent)
    assert stopped.code == 143, stopped.err
    resumed = command("resume", stopped.folder, *named, "progress=false")
    assert resumed.code == 0, resumed.err
    assert "as their constructor draws numbers, and begin new episodes" in resumed.err
    # Bug: the replay of an agent that has none was said to be exact.
    assert ("replay" in resumed.err) is (algo == "dqn"), resumed.err


@pytest.mark.parametrize("name", ["step", "_terminal"])
@pytest.mark.parametrize("of", [AcrobotEnv, None])
def test_replaced_methods_have_a_state_that_nothing_saves(of, name, monkeypatch):
    """Bug: a closure that counts steps counted from 0 again, and the resume was called exact."""
    pool = make_pool(GymConfig("x", id="Acrobot-v1"), 1)
    pool.reset(0)
    assert pool.state_dict() is not None, "the control"
    env = pool._inner[0]
    method = getattr(env, name)
    if of is None:
        setattr(env, name, lambda *given: method(*given))
    else:
        monkeypatch.setattr(of, name, lambda self, *given: method(*given))
    assert pool.state_dict() is None


def test_a_state_without_a_mark_of_its_game_is_of_an_older_checkpoint():
    """Bug: runs of earlier versions could not be resumed exactly."""
    pool = make_pool(GymConfig("cartpole", id="CartPole-v1"), 1)
    pool.reset(0)
    state = pool.state_dict()
    del state["0"]["game"]
    pool.load_state_dict(state)
    pool._envs[0].unwrapped.gravity = 3.0
    pool.load_state_dict(state)
    with pytest.raises(AnotherGame):
        pool.load_state_dict(state | {"0": state["0"] | {"game": "0"}})
