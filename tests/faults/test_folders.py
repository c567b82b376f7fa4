"""Two runs in one folder, sweeps with a job that fails, disks that are full."""

import errno
import json
import os
import time

import numpy as np
import pytest
from small_runs import small

from rltrain import checkpoint, checkpoint_files

pytestmark = pytest.mark.faults


@pytest.mark.tries(10)
def test_of_two_runs_in_one_folder_one_goes_on_and_one_stops_with_code_8(attempt, start, command):
    first = start(*small("dqn", "cartpole"), "total_steps=1e9", "eval_every_steps=0", "checkpoint_every_steps=100")
    run = first.wait_for("checkpoints/last").parent.parent
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 0.3)))
    before = (run / "config.yaml").read_text()
    second = command("resume", run, "total_steps=2e9", "progress=false")
    assert second.code == 8, second.err
    assert "another process trains in this folder" in second.last_line
    assert first.process.poll() is None
    first.process.terminate()
    assert first.end()[0] == 143
    assert (run / "config.yaml").read_text() == before
    assert not list(run.glob("config.resume-*"))


@pytest.mark.tries(2)
def test_of_a_sweep_of_six_with_a_failing_job_five_finish_and_the_sixth_is_named(attempt, command):
    name = ["env.max_episode_steps", "algo.learning_rate"][attempt % 2]
    values = {"env.max_episode_steps": "10,11,12,0,14,15", "algo.learning_rate": "1e-3,2e-3,3e-3,-1,5e-3,6e-3"}[name]
    args = [*small("ppo", "cartpole"), "total_steps=128", "eval_every_steps=0"]
    outcome = command("-m", *args, f"{name}={values}")
    assert outcome.code == 1
    assert "5 of 6 jobs done, 1 failed" in outcome.err
    jobs = [path for sweep in (outcome.run_dir / "sweeps").iterdir() for path in sweep.iterdir() if path.is_dir()]
    states = [json.loads((job / "status.json").read_text())["state"] for job in jobs]
    assert sorted(states) == ["done"] * 5 + ["failed"]


@pytest.mark.tries(6)
def test_a_full_disk_ends_with_code_7_and_harms_no_older_checkpoint(attempt, command, monkeypatch):
    args = [*small("per_dqn", "cartpole"), "total_steps=600", "checkpoint_every_steps=150", "eval_every_steps=0"]
    calls, original = [0], checkpoint_files.sync
    fails_at = int(np.random.default_rng(attempt).integers(30, 90))

    def sync(path):
        calls[0] += 1
        if calls[0] >= fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path)

    monkeypatch.setattr(checkpoint_files, "sync", sync)
    outcome = command(*args)
    assert outcome.code == 7, outcome.err
    assert "bytes needed" in outcome.last_line
    assert "free" in outcome.last_line
    monkeypatch.undo()
    step, _ = checkpoint.load(outcome.folder)
    assert step >= 150
    assert not list((outcome.folder / "checkpoints").glob(".*-*"))
    assert outcome.json("status.json")["exit_code"] == 7
    resumed = command("resume", outcome.folder, "progress=false")
    assert resumed.code == 0, resumed.err
