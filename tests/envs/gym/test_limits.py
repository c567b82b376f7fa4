"""Time limits: the environment's own stay, and episodes that must end do."""

import dataclasses
import json

import numpy as np
import pytest
from small_runs import small

from rltrain.config.environments import DoomConfig, GymConfig
from rltrain.envs import ending, registry
from rltrain.system import notices


@pytest.fixture(autouse=True)
def _importable(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


def episode(config):
    pool = registry.make_pool(config, 1)
    pool.reset(0)
    for _ in range(60):
        step = pool.step(np.zeros(1, np.int64))
        if step.first[0]:
            assert step.truncated[0] and not step.terminated[0]
            break
    pool.close()
    return [(each.length_steps, each.reward) for each in step.episodes]


@pytest.mark.parametrize(
    ("name", "given", "ends"),
    [
        ("Inner", None, [(5, 5.0)]), ("Inner", 3, [(3, 3.0)]), ("Inner", 50, [(5, 5.0)]), ("Factory", None, [(5, 5.0)]),
        ("Outer", None, [(7, 7.0)]), ("Outer", 30, [(30, 30.0)]), ("Paid", None, [(5, 15.0)]),
        ("Twice", None, [(7, 7.0)]),
        ("Endless", None, []), ("Endless", 4, [(4, 4.0)]), ("Continuing", 8, [(8, 8.0)]), ("Around", 8, [(8, 8.0)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("workers", [0])
def test_only_the_limit_that_gymnasium_adds_is_replaced(name, given, ends, workers):
    """Bugs: 200 steps where the factory says 50; a subclass of TimeLimit taken off with what it does."""
    assert episode(GymConfig("x", id=f"limits:{name}-v0", max_episode_steps=given, workers=workers)) == ends


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("Inner", 50, "has a time limit of 5 steps inside, and its episodes"), ("Inner", 3, ""),
        ("Skipping", 15, "has a time limit of 20 steps inside that the agent reaches in 5,"), ("Skipping", 3, ""),
        ("Skipping", 5, ""), ("Skipping", 50, "has a time limit of 20 steps inside, and its episodes"),
        ("SkippingAround", 8, "of 8 steps inside that the agent reaches in 2,"),
        ("Counting", 50, "itself truncated an episode after 6 steps, so env.max_episode_steps=50 is not reached"),
        ("Counting", 6, ""), ("Counting", 3, ""),
    ],
)  # fmt: skip
def test_a_limit_that_cuts_shorter_than_the_one_that_was_given_is_told_once(name, given, words, capsys):
    """Bugs: config.yaml says 50 steps, and episodes of 5 are trained and scored without a word; the same where a frame
    skip is around the limit, whose number is then larger."""
    for _ in range(2):
        episode(GymConfig("x", id=f"limits:{name}-v0", max_episode_steps=given))
    err = capsys.readouterr().err
    assert err.count("warning") == bool(words) and words in err


def test_a_limit_that_was_typed_is_told_from_one_that_was_given(capsys):
    """Bug: 10,000 steps, typed, were taken for those that an evaluation gives, and nothing was said."""
    episode(GymConfig("x", id="limits:Counting-v0", max_episode_steps=registry.NO_END_STEPS))
    assert "so env.max_episode_steps=10000 is not reached" in capsys.readouterr().err
    notices._told.clear()
    episode(registry.bounded(GymConfig("x", id="limits:Counting-v0")))
    assert "is not reached" not in capsys.readouterr().err


def test_cuts_of_many_lengths_are_told_once(capsys):
    """Bug: one line for each length of an episode that ends out of bounds."""
    pool = registry.make_pool(GymConfig("x", id="limits:Leaving-v0", max_episode_steps=400), 2)
    pool.reset(0)
    lengths = {each.length_steps for _ in range(100) for each in pool.step(np.zeros(2, np.int64)).episodes}
    pool.close()
    assert len(lengths) > 3 and capsys.readouterr().err.count("itself truncated") == 1


def test_environments_that_differ_in_their_limits_keep_them():
    """Bug: the limit of the first environment was that of all."""
    pool = registry.make_pool(GymConfig("x", id="limits:Varied-v0"), 2)
    pool.reset(0)
    lengths = [episode.length_steps for _ in range(10) for episode in pool.step(np.zeros(2, np.int64)).episodes]
    pool.close()
    assert sorted(lengths) == [5, 5, 9] or sorted(lengths) == [5, 9], lengths


@pytest.mark.parametrize(("name", "limit"), [("Endless", 9), ("Inner", None), ("Outer", None), ("Factory", None)])
def test_what_has_no_end_gets_one_and_says_so_once(name, limit, capsys):
    """Bug: an evaluation that goes on for ever without a word."""
    config = GymConfig("x", id=f"limits:{name}-v0")
    for _ in range(2):
        assert registry.bounded(config, 9) == dataclasses.replace(config, max_episode_steps=limit)
    assert capsys.readouterr().err.count("env.max_episode_steps") == (limit is not None)
    assert registry.bounded(dataclasses.replace(config, max_episode_steps=3), 9).max_episode_steps == 3


def test_a_doom_file_without_a_timeout_gets_a_limit(tmp_path, capsys):
    """Bug: an evaluation of a .cfg without `episode_timeout` that never ends."""
    from rltrain.envs.doom.game import make_game
    from rltrain.envs.doom.setup import read_setup

    config = DoomConfig("x")
    text = read_setup(config).cfg.read_text()
    assert registry.bounded(config) == config, "basic.cfg has one"
    cfg = tmp_path / "endless.cfg"
    cfg.write_text("\n".join(line for line in text.splitlines() if "episode_timeout" not in line))
    endless = DoomConfig("x", cfg=str(cfg))
    assert registry.bounded(endless, 9).max_episode_steps == 9 and "env.max_episode_steps" in capsys.readouterr().err
    for of, tics in ((config, 300), (endless, None), (dataclasses.replace(endless, max_episode_steps=9), 36)):
        game, end_tic = make_game(of, read_setup(of), tmp_path / "supervisor")
        assert end_tic == (None if tics is None else game.get_episode_start_time() + tics)
    short = dataclasses.replace(config, max_episode_steps=5)
    game, end_tic = make_game(short, read_setup(short), tmp_path / "supervisor")
    assert end_tic == game.get_episode_start_time() + 20, "the smaller of the two"


@pytest.mark.parametrize("algo", ["ppo", "reinforce"])
def test_a_run_without_end_ends(algo, command, monkeypatch):
    """Bugs: the first evaluation, or REINFORCE's first batch, goes on for ever; `eval` and `play` with other limits."""
    monkeypatch.setattr(registry, "NO_END_STEPS", 25)
    monkeypatch.setattr(registry.bounded, "__defaults__", (25,))
    args = [*small(algo, "gym"), "env.id=limits:Endless-v0", "total_steps=256", "eval_every_steps=128"]
    trained = command(*args)
    assert trained.code == 0, trained.err
    # Bug: "has no time limit". The environment may end its episodes by itself, and only its registration is known.
    told = "'limits:Endless-v0' is registered without a time limit (max_episode_steps): evaluations, `play` and"
    assert trained.err.count(f"{told} REINFORCE cut an episode that has not ended by itself after 25 steps") == 1
    assert trained.json("result.json")["final"]["mean_reward"] == 25
    evaluated = command("eval", "last", "env.id=limits:Endless-v0", "episodes=2")
    assert json.loads(evaluated.out.splitlines()[-1])["lengths"] == [25, 25]
    if algo == "ppo":
        assert len((trained.folder / "episodes.csv").read_text().splitlines()) == 1, "training itself has no limit"
        assert "score 25 in 25 steps" in command("play", "last", "env.id=limits:Endless-v0", "video=true").out


@pytest.mark.parametrize("algo", ["ppo", "reinforce"])
def test_a_limit_that_a_wrapper_hides_is_no_end(algo, command, monkeypatch):
    """Bug: the first evaluation, REINFORCE's first batch or `play` goes on for ever."""
    monkeypatch.setattr(registry, "NO_END_STEPS", 25)
    args = [*small(algo, "gym"), "env.id=limits:Continuing-v0", "total_steps=128", "eval_every_steps=0"]
    trained = command(*args)
    assert trained.code == 0, trained.err
    assert trained.err.count("had no end after 25 steps and was cut") == 1
    assert trained.json("result.json")["final"]["mean_reward"] == 25
    if algo == "ppo":
        assert "score 25 in 25 steps" in command("play", "last", "env.id=limits:Continuing-v0", "video=true").out


def test_what_follows_on_a_cut_is_counted_from_there():
    """Bugs: an episode that is counted twice; one that ends at its limit is cut as well."""

    def reached(steps):
        pool = ending.EndingPool(registry.make_pool(GymConfig("x", id="limits:Outer-v0"), 2), steps, "x")
        pool.reset(0)
        taken = [pool.step(np.zeros(2, np.int64)) for _ in range(14)]
        pool.close()
        assert all(((step.terminated | step.truncated) == step.first).all() for step in taken)
        return [(each.length_steps, each.reward) for step in taken for each in step.episodes if each.env_index]

    assert reached(7) == [(7, 7.0), (7, 7.0)]
    assert reached(3) == [(3, 3.0), (3, 3.0), (1, 1.0)] * 2


@pytest.mark.parametrize("reward", ["nan", "inf"])
def test_a_score_that_is_no_number_is_never_done_and_never_best(reward, command):
    """Bug: code 0 and Infinity as `best` where only an evaluation goes far enough to meet it."""
    args = [*small("ppo", "gym"), "env.id=limits:Endless-v0", f"env.kwargs={{reward:{reward},at:30}}"]
    args += [
        "env.max_episode_steps=40",
        "num_envs=4",
        "algo.num_steps=16",
        "total_steps=64",
        "checkpoint_every_steps=0",
    ]
    outcome = command(*args)
    assert outcome.code == 5 and "the reward is not finite" in outcome.last_line
    assert not (outcome.folder / "result.json").exists()
    assert not (outcome.folder / "checkpoints" / "best").exists()
    ok = command(*args, "eval_every_steps=0", "final_eval_episodes=1", "env.max_episode_steps=20", "name=short")
    assert ok.code == 0, ok.err


def test_an_environment_that_changed_since_is_code_3_with_both_spaces(command, monkeypatch, request):
    """Bug: a traceback of torch, or another game scored with the old policy."""
    monkeypatch.syspath_prepend(str(request.path.parents[1]))
    import counter
    from gymnasium import spaces

    env = "env.id=counter:Counter-v0"
    trained = command(*small("ppo", "gym"), env, "total_steps=64", "eval_every_steps=0")
    assert trained.code == 0, trained.err

    class Changed(counter.Counter):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Discrete(3)

    original = counter.gymnasium.registry["Counter-v0"].entry_point
    monkeypatch.setattr(counter.gymnasium.registry["Counter-v0"], "entry_point", Changed)
    for words in (["eval"], ["play", "video=true"], ["export", "format=torchscript"], ["resume", "total_steps=128"]):
        outcome = command(words[0], "last", *words[1:], env)
        assert outcome.code == 3, outcome.err
        assert "actions Discrete(2), now it has" in outcome.last_line and "Discrete(3)" in outcome.last_line
    monkeypatch.setattr(counter.gymnasium.registry["Counter-v0"], "entry_point", original)
    assert command("eval", "last", env, "episodes=1").code == 0
