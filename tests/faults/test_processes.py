"""Several processes that learn together: one is lost or asked to stop, or the launcher is."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_runs import small

from rltrain.run import checkpoint

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SILENCE_S = 5
ENDLESS = ["total_steps=1e9", "eval_every_steps=0", "log_every_steps=64", "checkpoint_every_steps=1024"]
TWO = ["runtime=torchrun", "runtime.processes=2", f"runtime.silence_s={SILENCE_S}"]


@pytest.fixture
def group(start):
    """Start two processes that learn CartPole; returns the launcher, its processes by rank and the run folder."""

    def call(*args):
        launcher = start(*small("ppo", "cartpole"), *ENDLESS, *TWO, *args)
        run = launcher.wait_for("checkpoints/last").parent.parent
        return launcher, ranks(launcher), run

    return call


def ranks(launcher) -> dict[int, psutil.Process]:
    children = psutil.Process(launcher.process.pid).children()
    return {int(child.environ()["RANK"]): child for child in children}


def last_line(error: str) -> str:
    return error.strip().splitlines()[-1]


@pytest.mark.tries(20)
def test_a_killed_process_is_named_and_the_run_goes_on_from_its_last_checkpoint(attempt, group, status, patience):
    """Bugs: the others wait for half an hour; an exit code of torch's launcher; a checkpoint of half the group."""
    launcher, processes, run = group()
    rank = attempt % 2
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 1)))
    sent = time.monotonic()
    processes[rank].kill()
    code, error = launcher.end()
    assert code == 9, error
    assert time.monotonic() - sent < 10 * patience()
    assert last_line(error).startswith(f"rltrain: error: rank {rank} was killed by SIGKILL; process ")
    step, _ = checkpoint.load(run)
    logged = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert step >= max(logged) - 1024 - 64, "more than one interval is lost"
    assert status(run)["state"] == "failed" and status(run)["exit_code"] == 9


@pytest.mark.tries(3)
def test_a_stopped_process_is_found_by_its_silence(attempt, group, status, patience):
    """Bug: a stopped process keeps its connections, so the others wait for it without end."""
    launcher, processes, run = group()
    sent = time.monotonic()
    processes[attempt % 2].send_signal(signal.SIGSTOP)
    code, error = launcher.end()
    assert code == 9, error
    assert time.monotonic() - sent < (SILENCE_S + 5) * patience()
    assert last_line(error).startswith(f"rltrain: error: rank {attempt % 2} (process {processes[attempt % 2].pid} on ")
    assert "gave no sign of life for 5 s" in error
    assert status(run)["exit_code"] == 9


@pytest.mark.tries(12)
def test_a_signal_to_any_process_stops_all_at_one_step(attempt, group, start, status, patience, tmp_path):
    """Bugs: only one process stops; nothing can resume what it saved; a Ctrl-C that was passed on ends the run."""
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)[attempt % 4]
    launcher, processes, run = group()
    receiver = (processes[1], launcher.process, processes[0])[attempt % 3]
    sent = time.monotonic()
    receiver.send_signal(number)
    code, error = launcher.end()
    assert code == {signal.SIGINT: 130, signal.SIGHUP: 129}.get(number, 143), error
    assert time.monotonic() - sent < 10 * patience()
    assert f"rltrain resume {run.resolve().relative_to(tmp_path)}" in last_line(error)
    step, _ = checkpoint.load(run)
    assert status(run)["state"] == "stopped" and status(run)["step"] == step > 0
    code, error = start("resume", run, f"total_steps={step + 640}", "progress=false").end()
    assert code == 0, error


@pytest.mark.tries(3)
def test_processes_of_a_killed_launcher_save_and_end(attempt, group, status, patience):
    """Bug: orphans that train on, and hold the run folder's lock."""
    launcher, processes, run = group()
    launcher.process.kill()
    launcher.end()
    _, alive = psutil.wait_procs(processes.values(), timeout=10 * patience())
    assert not alive
    step, _ = checkpoint.load(run)
    assert status(run)["state"] == "stopped" and status(run)["step"] == step


@pytest.mark.tries(3)
def test_processes_end_whose_launcher_is_killed_while_they_start(attempt, start, patience):
    """Bug: they waited a quarter of an hour for the store of the launcher, as nothing told them of its end yet."""
    launcher = start(*small("ppo", "cartpole"), *ENDLESS, *TWO)
    processes = []
    while len(processes) < 2:
        processes = psutil.Process(launcher.process.pid).children()
        time.sleep(0.01)
    time.sleep(attempt / 2)
    launcher.process.kill()
    _, alive = psutil.wait_procs(processes, timeout=20 * patience())
    assert not alive


def test_processes_with_seeds_of_their_own_do_not_train(start, tmp_path):
    """Bug: no run repeated it, as config.yaml had the seed of one process alone."""
    code, error = start(*small("ppo", "cartpole"), *TWO, "seed=${now:%f}").end()
    assert code == 2 and "seed is" in last_line(error) and "rank 1" in last_line(error), error
    assert not list(tmp_path.glob("runs/**/config.yaml"))


@pytest.mark.tries(3)
def test_with_max_restarts_all_start_again_in_the_same_folder(attempt, group, status):
    """Bugs: a new folder after a restart; a stop by a signal that is taken for a failure and started again."""
    launcher, processes, run = group("runtime.max_restarts=1")
    before = checkpoint.load(run)[0]
    processes[attempt % 2].kill()
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / f"step_{before + 4096:09d}").exists():
        assert time.monotonic() < deadline and launcher.process.poll() is None
        time.sleep(0.1)
        newest = max(int(path.name[5:]) for path in (run / "checkpoints").glob("step_*"))
        if newest > before + 2048 and ranks(launcher).keys() == {0, 1} and ranks(launcher) != processes:
            break
    ranks(launcher)[1].send_signal(signal.SIGTERM)
    code, error = launcher.end()
    assert code == 143, error
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "metrics have doubles or go back"


@pytest.mark.tries(3)
def test_a_run_that_was_restarted_ends_well(attempt, start, status, tmp_path):
    """Bug: the reports of the lost processes, which are read although all is done."""
    steps = ["total_steps=12288", "eval_every_steps=0", "checkpoint_every_steps=2048", "runtime.max_restarts=2"]
    launcher = start(*small("ppo", "cartpole"), *steps, *TWO)
    run = launcher.wait_for("checkpoints/last").parent.parent
    ranks(launcher)[attempt % 2].kill()
    code, error = launcher.end()
    assert code == 0, error
    assert f"rltrain: warning: rank {attempt % 2} was killed by SIGKILL" in error and "restart 1 of 2" in error
    assert status(run)["state"] == "done" and json.loads((run / "result.json").read_text())["steps"] == 12288


def test_plain_torchrun_two_launchers_and_one_process_continue_one_run(start, tmp_path):
    """Bugs: a run that only rltrain's own launcher can start; two launchers that wait for each other on one machine."""
    args = [*small("ppo", "cartpole"), "eval_every_steps=0"]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "rltrain")
    plain = start(*args, "total_steps=1280", by=torchrun)
    code, error = plain.end()
    assert code == 0, error
    [run] = tmp_path.glob("runs/cartpole/ppo/*")
    code, error = start("resume", run, "total_steps=2560", by=torchrun).end()
    assert code == 0, error
    code, error = start("resume", run, "runtime=local", "total_steps=3840").end()
    assert code == 0, error
    with socket.create_server(("127.0.0.1", 0)) as free:
        meet = f"runtime.rendezvous=127.0.0.1:{free.getsockname()[1]}"
    two = ["runtime=torchrun", "runtime.processes=1", "runtime.nodes=2", meet]
    launchers = [start("resume", run, *two, "total_steps=5120") for _ in range(2)]
    assert [launcher.end()[0] for launcher in launchers] == [0, 0]
    assert json.loads((run / "result.json").read_text())["steps"] == 5120
    assert [path.name for path in run.parent.iterdir()] == [run.name]


@pytest.mark.tries(3)
def test_an_environment_that_hangs_in_one_process_is_replaced_while_the_other_waits(attempt, group):
    """Bug: a short time-out of collective calls kills a group whose pool would have mended itself."""
    launcher, processes, run = group("env.workers=1", "env.step_timeout_s=8")  # longer than SILENCE_S
    workers = [child for child in processes[1].children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 200
    while '"env/restarts": 1' not in (run / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline and launcher.process.poll() is None, launcher.end()
        time.sleep(0.2)
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.end()[0] == 143


@pytest.mark.tries(3)
def test_an_error_of_one_process_ends_all_with_its_code(attempt, start, tmp_path, monkeypatch, status):
    """Bug: the launcher's report of many lines, or code 9, in place of what is wrong."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    fails = f"env.kwargs={{how: raise, at: 500, once: {tmp_path / 'once'}}}"
    args = [arg for arg in small("ppo", "gym") if arg != "env=gym"]
    launcher = start(*args, "env=gym", "env.id=fragile:Fragile-v0", fails, *ENDLESS, *TWO)
    code, error = launcher.end()
    assert code == 4, error
    assert "environment 'fragile:Fragile-v0' raised" in last_line(error) and last_line(error).startswith("rltrain: er")
    [run] = tmp_path.glob("runs/*/ppo/*")
    assert status(run)["state"] == "failed" and status(run)["exit_code"] == 4
