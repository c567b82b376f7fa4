"""Sweeps on a Ray cluster: a node or an actor is lost, a job is killed, the sweep is asked to stop or is killed."""

import importlib.util
import json
import os
import shlex
import signal
import time
from pathlib import Path

import psutil
import pytest
from exact import differences
from small_runs import small

from rltrain.run import checkpoint
from rltrain.run import folder as run_folder

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray"),
]
RAY = ["hydra/launcher=rltrain_ray", "hydra.launcher.cpus_per_job=1"]
JOB = [*small("ppo", "cartpole"), "eval_every_steps=0", "checkpoint_every_steps=1024"]


@pytest.fixture
def cluster(monkeypatch, request):
    """A cluster of two nodes on this machine, with room for two jobs each. Returns it, its address, and the second
    node."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # not 15, which a busy machine hardly runs
    monkeypatch.setenv("RLTRAIN_FAULT_TEST", str(os.getpid()))  # jobs are processes of the nodes
    started, node = request.getfixturevalue("two_nodes")  # now: its processes inherit the variables
    return started, f"hydra.launcher.address={started.address}", node


def sweep(num_jobs: int, *args: str) -> list[str]:
    return ["-m", *JOB, f"seed=range({num_jobs})", *RAY, *args]


def at_work(tmp_path: Path) -> list[Path]:
    """The folders of the jobs that have a checkpoint and are in use."""
    found = [path.parent.parent for path in tmp_path.glob("runs/sweeps/*/*/checkpoints/last")]
    return [folder for folder in found if run_folder.is_locked(folder)]


def until(process, found, timeout_s: float = 300) -> None:
    """Wait until `found` returns true."""
    end_s = time.monotonic() + timeout_s
    while not found():
        assert process.process.poll() is None, process.end()
        assert time.monotonic() < end_s
        time.sleep(0.05)


def named(word: str) -> list[psutil.Process]:
    """The processes of this test with a word in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            ours = process.environ().get("RLTRAIN_FAULT_TEST") == str(os.getpid())
        except psutil.Error:
            continue
        if ours and word in " ".join(process.info["cmdline"] or []) and process.info["status"] != "zombie":
            found.append(process)
    return found


def test_six_jobs_on_two_nodes_of_which_one_is_lost_have_the_results_of_plain_runs(
    cluster, start, tmp_path, monkeypatch
):
    """Bugs: the jobs of a lost node are lost, or begin anew beside their old processes, or go on from elsewhere."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    network, address, node = cluster
    steps = "total_steps=24576"
    process = start(*sweep(6, address, steps))
    until(process, lambda: len(at_work(tmp_path)) == 4)
    network.remove_node(node, allow_graceful=False)
    code, error = process.end(1200)
    assert code == 0, error
    assert "6 of 6 jobs done, 0 failed" in error
    tried_again = [line for line in error.splitlines() if line.endswith("it is tried again (1 of 3)")]
    assert len(tried_again) >= 2, error
    logs = [path.read_text() for path in tmp_path.glob("runs/sweeps/*/*.log")]
    assert sum("resumed at step" in log for log in logs) >= 2, logs
    for seed in range(6):
        code, error = start(*JOB, f"seed={seed}", steps, f"run_dir=plain/{seed}").end(600)
        assert code == 0, error
        (one,), (other,) = tmp_path.glob(f"runs/sweeps/*/*_seed-{seed}"), tmp_path.glob(f"plain/{seed}/*/*/*-s{seed}")
        assert differences(one, other) == []
        results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
        assert results[0]["final"] == results[1]["final"] and results[0]["steps"] == results[1]["steps"] == 24576


@pytest.mark.tries(2)
def test_a_sweep_that_is_stopped_goes_on_with_the_command_that_it_printed(
    attempt, cluster, start, tmp_path, status, patience
):
    """Bugs: jobs on the nodes go on after the sweep has ended, or die without saving; the printed command runs the
    rest here in place of the cluster; a job is begun anew."""
    number = (signal.SIGTERM, signal.SIGINT)[attempt % 2]
    _, address, _ = cluster
    process = start(*sweep(6, address, "total_steps=24576"))
    until(process, lambda: len(at_work(tmp_path)) == 4)
    sent_s = time.monotonic()
    process.process.send_signal(number)
    code, error = process.end()
    assert code == 128 + number, error
    assert time.monotonic() - sent_s < 20 * patience()
    assert not named("side_by_side") and not named("keeper.hold")
    assert "0 of 6 jobs done, 0 failed, 4 stopped, 2 not begun" in error
    saved = {}
    for folder in (path.parent for path in tmp_path.glob("runs/sweeps/*/*/config.yaml")):
        saved[folder], _ = checkpoint.load(folder)
        assert status(folder)["state"] == "stopped" and status(folder)["step"] == saved[folder] > 0
    words = shlex.split(error.strip().splitlines()[-1].partition("resume with: rltrain ")[2])
    assert words[0] == "resume" and address in words
    process = start(*words)
    until(process, lambda: len(at_work(tmp_path)) == 4)
    assert len(named("keeper.hold")) == 4, "they are not on the cluster"
    process.process.send_signal(number)
    assert process.end()[0] == 128 + number
    assert all(checkpoint.load(folder)[0] >= step for folder, step in saved.items())
    (place,) = tmp_path.glob("runs/sweeps/*")
    code, error = start("resume", place).end(600)  # without the cluster: on this machine
    assert code == 0, error
    assert "6 of 6 jobs done, 0 failed" in error
    assert len(list(place.glob("*_seed-*/result.json"))) == 6


def test_jobs_of_a_killed_sweep_save_and_end(cluster, start, tmp_path, status, patience):
    """Bug: Ray kills the jobs of an actor that has lost its owner, so that they save nothing; or they go on."""
    _, address, _ = cluster
    process = start(*sweep(2, address, "total_steps=1e9"))
    until(process, lambda: len(at_work(tmp_path)) == 2)
    folders = at_work(tmp_path)
    process.process.kill()
    process.end()
    end_s = time.monotonic() + 30 * patience()
    while any(map(run_folder.is_locked, folders)) or named("side_by_side"):
        assert time.monotonic() < end_s, "jobs are left"
        time.sleep(0.1)
    for folder in folders:
        assert status(folder)["state"] == "stopped" and status(folder)["step"] == checkpoint.load(folder)[0] > 0


def test_killed_jobs_and_lost_actors_fail_alone(start, tmp_path, status):
    """Bugs: a job that kills itself is tried again for ever; one lost actor ends the sweep; Ray is left behind."""
    process = start(*sweep(2, "total_steps=1e9", "hydra.launcher.max_restarts=1"))
    until(process, lambda: len(at_work(tmp_path)) == 2)
    first, second = sorted(at_work(tmp_path))
    os.kill(status(first)["pid"], signal.SIGKILL)
    until(process, lambda: status(first)["state"] == "failed")
    for _ in range(2):
        until(process, lambda: at_work(tmp_path) == [second])
        (actor,) = named("ray::Keeper")
        actor.kill()
        until(process, lambda: not run_folder.is_locked(second))
    code, error = process.end()
    assert code == 1, error
    assert f"failed: {first.name}: RuntimeError: killed by SIGKILL" in error
    assert f"{second.name}: its actor is lost: " in error and "it is tried again (1 of 1)" in error
    assert ", in try 2; hydra.launcher.max_restarts; " in error
    assert "0 of 2 jobs done, 2 failed; continue with: rltrain resume " in error
    assert status(second)["step"] == checkpoint.load(second)[0] > 0, "it has saved before it ended"
