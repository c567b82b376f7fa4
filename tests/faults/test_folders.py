"""Two runs in one folder, sweeps with a job that fails, disks that are full."""

import errno
import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import small

from rltrain.errors import DiskError
from rltrain.run import checkpoint, checkpoint_files
from rltrain.system import atomic

pytestmark = pytest.mark.faults


@pytest.mark.tries(10)
def test_of_two_runs_in_one_folder_one_goes_on_and_one_stops_with_code_8(attempt, start, command):
    first = start(*small("dqn", "cartpole"), "total_steps=1e9", "eval_every_steps=0", "checkpoint_every_steps=100")
    run = first.wait_for("checkpoints/last").parent.parent
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 0.3)))
    before = (run / "config.yaml").read_text()
    second = command("resume", run, "total_steps=2e9", "progress=false")
    assert second.code == 8, second.err
    assert "another process uses this folder" in second.last_line
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


@pytest.mark.tries(6)
def test_when_the_system_refuses_every_write_the_next_checkpoint_ends_it_with_code_7(attempt, start, command):
    algo = ("dqn", "ppo", "q_learning")[attempt % 3]
    table = algo == "q_learning"
    args = [*small(algo, "taxi" if table else "cartpole"), "total_steps=1e9", "log_every_steps=50"]
    process = start(*args, "eval_every_steps=0", f"checkpoint_every_steps={50_000 if table else 100}")
    last = process.wait_for("checkpoints/last")
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 0.5)))
    # Like a full disk for every file at once: the logs, status.json, the members of a checkpoint.
    hard = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    code, error = process.end()
    last_line = error.strip().splitlines()[-1]
    assert code == 7, error
    assert "bytes needed" in last_line and "free" in last_line
    assert error.count("rltrain: warning: a log could not be written") <= 1
    run = last.parent.parent
    step, _ = checkpoint.load(run)
    assert step > 0
    assert not list((run / "checkpoints").glob(".*-*"))
    resumed = command("resume", run, f"total_steps={step + 100}", "progress=false")
    assert resumed.code == 0, resumed.err


@pytest.fixture
def refuse(monkeypatch):
    """Let writes of one small file fail as on a full disk."""
    original = atomic.write_lines

    def arm(name):
        def write_lines(path, lines):
            if path.name == name:
                raise DiskError(f"{name} cannot be written: {os.strerror(errno.ENOSPC)}", str(path.parent), "")
            original(path, lines)

        monkeypatch.setattr(atomic, "write_lines", write_lines)

    return arm


def test_a_status_that_cannot_be_written_never_ends_a_training(command, refuse):
    refuse("status.json")
    outcome = command(*small("dqn", "cartpole"), "total_steps=300", "checkpoint_every_steps=100")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("could not be written") == 1, "told, and once"
    assert not (outcome.folder / "status.json").exists()
    assert outcome.json("result.json")["steps"] >= 300


def test_an_error_log_that_cannot_be_written_hides_no_error(command, refuse, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    refuse("error.log")
    args = [*small("dqn", "gym"), "env.id=sick:Sick-v0", "env.kwargs={what:reward,value:nan,at:77}"]
    outcome = command(*args, "total_steps=2000", "eval_every_steps=0")
    assert outcome.code == 5, outcome.err
    assert "the reward is not finite" in outcome.last_line


def test_a_result_that_cannot_be_written_is_code_7_and_a_resume_makes_it(command, refuse, monkeypatch):
    refuse("result.json")
    outcome = command(*small("dqn", "cartpole"), "total_steps=300", "checkpoint_every_steps=100")
    assert outcome.code == 7, outcome.err
    assert outcome.json("status.json")["exit_code"] == 7
    monkeypatch.undo()
    os.chdir(outcome.run_dir.parent)
    resumed = command("resume", outcome.folder, "progress=false")
    assert resumed.code == 0, resumed.err
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("eval/mean_reward" in line for line in lines if line["step"] == lines[-1]["step"]) == 1


def test_a_resume_on_a_full_disk_loses_no_line_of_the_logs(command, start, refuse):
    process = start(*small("dqn", "cartpole"), "total_steps=1e9", "checkpoint_every_steps=100", "log_every_steps=50")
    run = process.wait_for("checkpoints/last").parent.parent
    process.process.send_signal(signal.SIGKILL)
    process.end()
    before = (run / "metrics.jsonl").read_text()
    refuse("metrics.jsonl")
    outcome = command("resume", run, "progress=false")
    assert outcome.code == 7, outcome.err
    assert (run / "metrics.jsonl").read_text() == before
