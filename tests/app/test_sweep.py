"""Sweeps beside each other, and what is left of jobs that were killed."""

import json
import os
from pathlib import Path

from small_runs import QUICK

from rltrain.app import hydra_app, sweep

JOBS = ["-m", "algo=q_learning", "env=maze", "seed=0,1", "total_steps=300", *QUICK]


def job(folder: Path, state: str | None, mean: float | None = None, reason: str = "") -> None:
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "status.json").write_text(json.dumps({"state": state, "reason": reason}))
    if mean is not None:
        (folder / "result.json").write_text(json.dumps({"final": {"mean_reward": mean, "std_reward": 0.0}}))


def test_jobs_that_were_killed_are_named_and_the_others_ranked(tmp_path, capfd):
    """Bug: a job without a status, or with half of one, ends the sweep's table with a traceback."""
    job(tmp_path / "00", "done", 1.0)
    job(tmp_path / "01", None)
    job(tmp_path / "02", "done", 2.0)
    job(tmp_path / "03", "running")
    job(tmp_path / "04", "failed", reason="out of memory")
    job(tmp_path / "05", "done")
    (tmp_path / "05" / "result.json").write_text('{"final": ')
    assert sweep.report(tmp_path) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["02", "00"]
    assert [line.split("failed: ")[1] for line in lines[3:7]] == [
        "01: it ended without giving a reason",
        "03: it ended without giving a reason",
        "04: out of memory",
        "05: it ended without giving a reason",
    ]
    assert lines[-1] == "2 of 6 jobs done, 4 failed"


def test_another_sweep_that_starts_meanwhile_is_left_alone(command, monkeypatch):
    """Bugs: its multirun.yaml removed by a sweep that was refused; its folder reported as one's own."""
    other = Path("runs/sweeps/20000101-000000-000000")

    def start_other(*args):
        other.mkdir(parents=True, exist_ok=True)
        (other / "multirun.yaml").touch()
        return original(*args)

    original = hydra_app.normalise
    monkeypatch.setattr(hydra_app, "normalise", start_other)
    refused = command(*JOBS[:3], "seed=0,x")
    assert refused.code == 2, refused.err
    assert (other / "multirun.yaml").is_file() and os.listdir("runs/sweeps") == [other.name]
    done = command(*JOBS)
    assert done.code == 0 and "2 of 2 jobs done" in done.err, done.err
