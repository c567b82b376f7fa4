"""A job of a sweep leaves no memory behind for the next one, which runs in the same process."""

import gc
from pathlib import Path

import numpy as np
import pytest
from remembering import in_memory
from small_runs import small

from rltrain.algos.dqn import DQN
from rltrain.app import sweep

pytestmark = pytest.mark.faults


@pytest.fixture
def sweep_of_three(command, tmp_path, monkeypatch):
    """(seed, replays, networks) whenever a job of a sweep made an environment, in order: those that the job's process
    had in memory beyond what earlier tests left."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert command(*small("dqn", "cartpole"), "total_steps=200").code == 0  # frees what a run of an earlier test left

    def call(fails):
        notes = tmp_path / "notes"
        args = [*small("dqn", "gym"), "env.id=remembering:Remembering-v0", "total_steps=200", "eval_every_steps=0"]
        args += [f"env.kwargs={{notes:{notes},fails:{fails}}}", "num_envs=1"]
        gc.unfreeze()
        gc.collect()
        before = np.array([0, in_memory("Replay"), in_memory("QNetwork")])
        outcome = command("-m", *args, "seed=0,1,2")
        lines = [np.array(line.split(), int) - before for line in notes.read_text().splitlines()]
        return outcome, [tuple(line.tolist()) for line in lines if line[0] >= 0]

    return call


def raise_a_bug(*args):
    raise RuntimeError("a bug")


@pytest.mark.tries(2)
@pytest.mark.parametrize("how", ["not a number", "a bug", "done"])
def test_a_job_leaves_no_replay_behind(attempt, how, sweep_of_three, monkeypatch):
    if how == "a bug":
        monkeypatch.setattr(DQN, "update", raise_a_bug)
    outcome, alive = sweep_of_three(how == "not a number")
    assert outcome.code == (how != "done"), outcome.err
    # The first environment of each job: its spaces are asked, or it is the pool's.
    first = [next(line for line in alive if line[0] == seed) for seed in range(3)]
    assert first == [(0, 0, 0), (1, 0, 0), (2, 0, 0)], alive


def test_the_control_sees_what_an_error_keeps(sweep_of_three, monkeypatch):
    kept, record = [], sweep.record_failure
    monkeypatch.setattr(sweep, "record_failure", lambda folder, error: (kept.append(error), record(folder, error)))
    monkeypatch.setattr(sweep, "let_go", lambda error: None)
    _, alive = sweep_of_three(True)
    assert alive[-1] == (2, 2, 4), "each job has a replay and two networks"
