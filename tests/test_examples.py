"""The example scripts do what they say, with stand-ins for the commands of a cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import small

from rltrain.run import checkpoint

SLURM = Path(__file__).parent.parent / "examples" / "slurm.sh"


@pytest.fixture
def job(tmp_path):
    """Start the Slurm script as the batch system would; `scontrol` notes what it is asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'),
        ("rltrain", f'#!/bin/sh\nexec {sys.executable} -c "from rltrain.cli import main; main()" "$@"\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    started = []

    def start(*argv):
        started.append(subprocess.Popen(["bash", str(SLURM), *argv], cwd=tmp_path, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_slurm_job_saves_requeues_itself_and_goes_on(job, tmp_path):
    argv = [*small("dqn", "cartpole"), "total_steps=1e9", "eval_every_steps=0", "log_every_steps=100"]

    def steps_after(process, so_far):
        deadline = time.monotonic() + 90
        while True:
            lines = [line for path in tmp_path.rglob("metrics.jsonl") for line in path.read_text().splitlines()]
            if len(lines) > so_far:
                process.send_signal(signal.SIGUSR1)
                assert process.wait(30) == 143
                run = (tmp_path / "runs/slurm/7/latest").resolve()
                return checkpoint.load(run)[0], len(lines)
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    first, so_far = steps_after(job(*argv), 0)
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    second, _ = steps_after(job(*argv), so_far + 1)
    assert second > first > 0
    assert len(list((tmp_path / "runs/slurm/7").rglob("config.yaml"))) == 1, "the second job began a run of its own"
