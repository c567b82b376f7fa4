"""A job of a sweep leaves no memory behind for the next one, which runs in the same process."""

from pathlib import Path

import pytest
from small_runs import small

from rltrain.algos.dqn import DQN
from rltrain.app import sweep

pytestmark = pytest.mark.faults


@pytest.fixture
def sweep_of_three(command, tmp_path, monkeypatch):
    """(replays, networks) in memory whenever a job of a sweep made an environment, in order."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def call(fails):
        notes = tmp_path / "notes"
        args = [*small("dqn", "gym"), "env.id=remembering:Remembering-v0", "total_steps=200", "eval_every_steps=0"]
        args += [f"env.kwargs={{notes:{notes},fails:{fails}}}", "num_envs=1"]
        outcome = command("-m", *args, "seed=0,1,2")
        return outcome, [tuple(map(int, line.split())) for line in notes.read_text().splitlines()]

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
    per_job = len(alive) // 3  # the environment whose spaces are asked, that of the pool, and of evaluations
    assert per_job * 3 == len(alive) and per_job >= 2
    assert {alive[job * per_job] for job in range(3)} == {(0, 0)}, alive


def test_the_control_sees_what_an_error_keeps(sweep_of_three, monkeypatch):
    kept, record = [], sweep.record_failure
    monkeypatch.setattr(sweep, "record_failure", lambda folder, error: (kept.append(error), record(folder, error)))
    monkeypatch.setattr(sweep, "let_go", lambda error: None)
    _, alive = sweep_of_three(True)
    assert alive[-1] == (2, 4), "each job has a replay and two networks"
