"""Environments in worker processes that are killed, hang, raise or keep doing so: gymnasium's and stable-retro's."""

import contextlib
import json
import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from rltrain.config.environments import GymConfig, RetroConfig
from rltrain.envs.gym.family import make_pool as make_gym_pool
from rltrain.envs.retro.family import make_pool as make_retro_pool
from rltrain.errors import EnvironmentFailure

pytestmark = pytest.mark.faults
NUM_ENVS, SHARE = 5, slice(2, 5)  # of the second of two workers


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("RLTRAIN_FAULT_TEST", str(os.getpid()))


def fragile(workers=2, max_restarts=10, step_timeout_s=60.0, **kwargs):
    config = GymConfig("x", id="fragile:Fragile-v0", kwargs=kwargs, workers=workers)
    config.max_restarts, config.step_timeout_s = max_restarts, step_timeout_s
    return make_gym_pool(config, NUM_ENVS)


def processes(trainer=None):
    """Workers, oldest first: in the order of their shares."""
    found = []
    for child in psutil.Process(trainer).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            if "spawn_main" in " ".join(child.cmdline()):
                found.append((child.create_time(), child))
    return [child for _, child in sorted(found, key=lambda pair: pair[0])]


def play(pool, num_steps, before=lambda t: None, between=lambda t: None):
    """Steps as (obs acted on, TimeStep, seconds waited)."""
    obs, taken = pool.reset(5), []
    for t in range(num_steps):
        before(t)
        pool.send(np.zeros(pool.num_envs, np.int64))
        between(t)
        sent = time.monotonic()
        step = pool.recv()
        taken.append((obs, step, time.monotonic() - sent))
        obs = step.obs
    return taken


def check(taken, broken, expected):
    """One gap, in the broken environments alone; returns its step."""
    others = np.setdiff1d(np.arange(NUM_ENVS), np.arange(NUM_ENVS)[broken])
    gaps = [t for t, (_, step, _) in enumerate(taken) if step.truncated.any()]
    assert len(gaps) == 1, "Fragile is never truncated by itself"
    length = np.zeros(NUM_ENVS, int)
    for t, ((obs, step, _), (_, same, _)) in enumerate(zip(taken, expected, strict=True)):
        for name in ("obs", "next_obs", "reward", "terminated", "truncated", "first"):
            assert (getattr(step, name)[others] == getattr(same, name)[others]).all(), f"{name} of a neighbour"
        ended = {episode.env_index: episode for episode in step.episodes}
        length += 1
        if t == gaps[0]:
            assert step.truncated[broken].all() and step.first[broken].all() and not step.terminated[broken].any()
            assert (step.next_obs[broken] == obs[broken]).all(), "the successor is not the last true observation"
            assert (step.reward[broken] == 0).all() and not set(range(NUM_ENVS)[broken]) & set(ended)
            assert (step.obs[broken, 1] == 0).all() and (step.obs[broken, 0] != obs[broken, 0]).all()
            length[broken] = 0
            length[list(ended)] = 0  # neighbours may end theirs in the same step
            continue
        assert (step.next_obs[:, 0] == obs[:, 0]).all() and (step.next_obs[:, 1] == obs[:, 1] + 1).all()
        assert sorted(ended) == np.flatnonzero(step.terminated).tolist()
        for i, episode in ended.items():
            assert episode.length_steps == episode.reward == length[i] == 6
            length[i] = 0
    return gaps[0]


@pytest.mark.tries(20)
def test_a_killed_worker_is_replaced_and_no_transition_crosses_the_gap(attempt):
    """Bugs: a step that fails for all; the successor taken from the next episode; the broken episodes in the
    statistics, or their rewards in the next ones'; a neighbour disturbed; the lost worker's episodes played again."""
    rng = np.random.default_rng(attempt)
    at, between, wait_s = int(rng.integers(1, 12)), bool(rng.integers(2)), float(rng.uniform(0, 0.002))
    pool = fragile()
    expected = play(pool, 24)
    victim = processes()[1]

    def kill(t, now):
        if t == at and now:
            time.sleep(wait_s)
            victim.kill()

    taken = play(pool, 24, lambda t: kill(t, not between), lambda t: kill(t, between))
    gap = check(taken, SHARE, expected)
    assert at <= gap <= at + 1 and pool.num_restarts == 1 and taken[gap][2] < 5 * SLOW
    first_episodes = {float(step.obs[2, 0]) for _, step, _ in expected}
    assert float(taken[gap][1].obs[2, 0]) not in first_episodes
    pool.close()
    assert not processes()


SLOW = 4
"""How much longer than alone things may take here, where others use the cores too."""


@pytest.mark.tries(6)
def test_a_worker_that_hangs_is_replaced_after_the_time_out_and_its_children_end_too(attempt, tmp_path, capfd):
    expected = play(pool := fragile(), 20)
    pool.close()
    once = tmp_path / "once"
    if attempt % 2:  # the process stands still
        pool = fragile(step_timeout_s=1.0)
        pool.reset(0)  # the processes are there
        victim = processes()[1]
        taken = play(pool, 20, lambda t: t == attempt and victim.suspend())
        broken = SHARE
    else:  # its environment sleeps, and has started a process
        pool = fragile(step_timeout_s=1.0, how="hang", at=3 + attempt, once=str(once))
        taken = play(pool, 20)
        assert not psutil.pid_exists(int(once.read_text()))
        broken = slice(0, 2) if taken[2 + attempt][1].truncated[0] else SHARE
    gap = check(taken, broken, expected)
    assert taken[gap][2] > 0.9 and pool.num_restarts == 1
    assert "did not answer for 1 s" in capfd.readouterr().err
    pool.close()
    # That nothing is left, the sleeping child included, is seen by the fixture around every fault test.


@pytest.mark.tries(6)
@pytest.mark.parametrize("how", ["raise", "raise in reset", "exit"])
def test_an_environment_that_raises_in_a_worker_is_replaced(attempt, how, tmp_path, capfd):
    expected = play(pool := fragile(), 20)
    pool.close()
    pool = fragile(how=how, at=2 + attempt, once=str(tmp_path / "once"))
    taken = play(pool, 20)
    broken = slice(0, 2) if any(step.truncated[0] for _, step, _ in taken) else SHARE
    check(taken, broken, expected)
    assert pool.num_restarts == 1
    words = "ended with exit code 7" if how == "exit" else "raised ValueError: the simulator lost its licence"
    assert words in capfd.readouterr().err
    pool.close()


@pytest.mark.parametrize("max_restarts", [0, 2])
def test_one_that_always_fails_ends_with_code_4_and_its_own_traceback(max_restarts):
    pool = fragile(workers=1, max_restarts=max_restarts, how="raise", at=2)
    pool.reset(0)
    with pytest.raises(EnvironmentFailure, match=rf"licence .*, and {max_restarts} workers .*max_restarts") as caught:
        for _ in range(2 * (max_restarts + 1)):
            pool.step(np.zeros(NUM_ENVS, int))
    assert pool.num_restarts == max_restarts
    assert "fragile.py" in caught.value.__cause__.__notes__[0]
    pool.close()
    assert not processes()


def test_a_lost_worker_is_replaced_at_a_reset_and_begins_the_same_episodes():
    pool = fragile()
    obs = pool.reset(5)
    processes()[0].kill()
    assert (pool.reset(5) == obs).all() and pool.num_restarts == 1
    pool.close()


def test_a_worker_that_cannot_make_its_environment_is_not_started_again():
    """Bug: a missing package is looked for ten times. The first environment is made in the trainer, so it is gone by
    the time that the workers ask."""
    from rltrain.envs.workers.pool import Workers

    workers = Workers(GymConfig, [("x",)], "env.workers", 60.0, 10)  # a configuration without an id cannot be made
    workers.call("reset", [(0,)])
    with pytest.raises(Exception, match="no environment given") as caught:
        workers.answers()
    assert caught.value.exit_code == 2 and workers.restarts.total == 0
    workers.close()


def test_a_close_ends_workers_that_hang(tmp_path):
    pool = fragile(how="hang", at=1)
    pool.reset(0)
    pool.send(np.zeros(NUM_ENVS, np.int64))
    time.sleep(1)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5 + 2 * SLOW
    assert not processes()


def airstriker(**fields):
    pytest.importorskip("stable_retro")
    return make_retro_pool(RetroConfig("x", noop_max=0, **fields), 2)


@pytest.mark.tries(12)
@pytest.mark.parametrize("how", ["kill", "hang"])
def test_a_lost_emulator_is_replaced_and_its_neighbour_plays_on(attempt, how):
    """Bugs: half a frame, written as it died, as the successor; the frame of the next episode in its place."""
    rng = np.random.default_rng(attempt)
    at, wait_s = int(rng.integers(2, 12)), float(rng.uniform(0, 0.01))
    pool = airstriker(step_timeout_s=1.0 if how == "hang" else 30.0)
    expected = play(pool, 16)
    victim = processes()[0]

    def lose(t):
        if t == at:
            time.sleep(wait_s)
            (victim.kill if how == "kill" else victim.suspend)()

    taken = play(pool, 16, between=lose)
    gaps = [t for t, (_, step, _) in enumerate(taken) if step.truncated.any()]
    assert len(gaps) == 1 and at <= gaps[0] <= at + 1 and pool.num_restarts == 1
    for t, ((obs, step, _), (_, same, _)) in enumerate(zip(taken, expected, strict=True)):
        assert (step.next_obs[1] == same.next_obs[1]).all() and not step.truncated[1]
        if t == gaps[0]:
            assert step.truncated[0] and step.first[0] and not step.terminated[0] and step.reward[0] == 0
            assert (step.next_obs[0] == obs[0]).all() and not step.episodes
            assert (step.obs[0] == expected[0][0][0]).all(), "not the first frame of an episode"
        elif t > gaps[0]:  # without a random start, every episode of this game goes the same way
            assert (step.next_obs[0] == expected[t - gaps[0] - 1][1].next_obs[0]).all()
    pool.close()
    assert not processes()


def test_emulators_that_keep_dying_end_with_code_4():
    pool = airstriker(max_restarts=1)
    pool.reset(0)
    with pytest.raises(EnvironmentFailure, match="SIGKILL, and 1 workers were replaced") as caught:
        for _ in range(3):
            processes()[0].kill()
            pool.step(np.zeros(2, int))
    assert caught.value.exit_code == 4
    pool.close()
    assert not processes()


def test_a_run_goes_on_after_a_kill_and_ends_with_code_4_when_they_go_on(start, status):
    arguments = ["algo=ppo", "env=cartpole", "device=cpu", "progress=false", "num_envs=4", "total_steps=1e9"]
    arguments += ["env.workers=2", "env.max_restarts=1", "eval_every_steps=0", "log_every_steps=128"]
    process = start(*arguments)
    metrics = process.wait_for("metrics.jsonl")
    first = processes(process.process.pid)
    first[0].kill()
    while len(set(processes(process.process.pid)) - set(first)) < 1:
        time.sleep(0.05)
    lines = len(metrics.read_text().splitlines())
    while len(metrics.read_text().splitlines()) < lines + 3:
        time.sleep(0.05)
    first[1].kill()
    code, error = process.end()
    assert code == 4, error
    assert "1 workers were replaced" in error.strip().splitlines()[-1] and "(1 of 1)" in error
    assert status(metrics.parent)["exit_code"] == 4
    assert json.loads(metrics.read_text().splitlines()[-1])["env/restarts"] == 1


def test_environments_that_an_evaluation_lost_are_counted(command, tmp_path):
    """Bug: a score of which nobody can see that environments were replaced on the way."""
    arguments = ["algo=ppo", "env=gym", "env.id=fragile:Fragile-v0", "env.workers=1", "device=cpu", "progress=false"]
    arguments += ["num_envs=4", "algo.num_steps=16", "batch_size=32", "total_steps=64", "final_eval_episodes=64"]
    # 16 steps of each environment in training, 48 in the evaluation.
    arguments += ["eval_every_steps=0", "env.kwargs.how=raise", "env.kwargs.at=40", f"env.kwargs.once={tmp_path}/once"]
    outcome = command(*arguments)
    assert outcome.code == 0 and "is replaced (1 of" in outcome.err, outcome.err
    *training, evaluation = map(json.loads, (outcome.folder / "metrics.jsonl").read_text().splitlines())
    assert evaluation["eval/env_restarts"] == 1 and evaluation["step"] == 64
    assert not any(tag in line for line in training for tag in ("env/restarts", "eval/env_restarts"))
