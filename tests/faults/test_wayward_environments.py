"""Environments that never work, never close, leave processes behind, or take the signals away."""

import contextlib
import dataclasses
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import psutil
import pytest

from rltrain.config.environments import GymConfig
from rltrain.envs import patience
from rltrain.envs.registry import make_pool
from rltrain.errors import EnvironmentFailure
from rltrain.run.run import Run

HERE = str(Path(__file__).parent)


class Restless(gymnasium.Env):
    """Does what `what` says, besides playing episodes of 10 steps."""

    action_space = gymnasium.spaces.Discrete(2)

    num_made = 0

    @property
    def observation_space(self):
        while self.what == "tells its space once" and Restless.num_made > 1:
            time.sleep(0.05)
        return gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, what="", note=None):
        self.what, self.t, self.note = what, 0, note
        Restless.num_made += 1
        while what == "is never made" or (what == "is made once" and Restless.num_made > 1):
            time.sleep(0.05)
        if what == "starts a process":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
            Path(note).write_text(str(child.pid))
        if what == "takes the signals":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if what == "has a solver with a time limit":
            signal.signal(signal.SIGALRM, lambda number, frame: rings())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.what == "takes them in C":
            faulthandler.register(signal.SIGTERM)
        if self.what == "has an alarm":
            signal.signal(signal.SIGALRM, lambda number, frame: rings())
            signal.alarm(1)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.what == "raises":
            raise RuntimeError("out of cheese")
        if self.what == "exits":
            os._exit(3)
        if self.what == "exits, then breaks":
            if Path(self.note).exists():
                return np.zeros(2, np.float32), 0.0, False, {}
            Path(self.note).touch()
            os._exit(3)
        self.t += 1
        if self.what == "has a solver with a time limit":
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with contextlib.suppress(RuntimeError):
                time.sleep(10)
        return np.zeros(2, np.float32), 0.0, self.t == 10, False, {}

    def close(self):
        while self.what == "does not close":
            time.sleep(0.05)


def rings():
    raise RuntimeError("the alarm rings")


gymnasium.register("Restless-v0", entry_point=Restless)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


def config(what, note=None, workers=1):
    return GymConfig(
        "x", id="test_wayward_environments:Restless-v0", kwargs={"what": what, "note": note}, workers=workers
    )


@pytest.mark.parametrize("what", ["raises", "exits"])
def test_one_that_fails_at_every_step_ends_before_its_budget_is_used_up(what):
    """Bug: a run of fewer steps than the budget ends well, with nothing but episodes that were cut."""
    pool = make_pool(config(what), 1)
    try:
        pool.reset(0)
        how = "raised RuntimeError" if what == "raises" else "ended with exit code 3"
        with pytest.raises(EnvironmentFailure, match=f"{how}.*in a row without a step"):
            for _ in range(5):
                pool.step(np.zeros(1, np.int64))
        assert pool.num_restarts == 3
    finally:
        pool.close()


def test_a_signal_handler_that_raises_between_two_steps_of_a_worker_is_told_in_one_line(capfd):
    """Bug: a traceback of the worker, and a warning that does not name what raised."""
    pool = make_pool(config("has an alarm"), 1)
    try:
        pool.reset(0)
        time.sleep(2)
        pool.step(np.zeros(1, np.int64))
        assert pool.num_restarts == 1
    finally:
        pool.close()
    err = capfd.readouterr().err
    assert "Traceback" not in err and "raised RuntimeError: the alarm rings" in err, err
    assert "test_wayward_environments.py" in err and "in rings" in err


@pytest.mark.parametrize("workers", [0, 1])
def test_the_handler_that_a_constructor_sets_for_its_alarms_stays(workers):
    """Bug: it was put back after the constructor, so a solver had no time limit, or its worker was killed."""
    before = signal.getsignal(signal.SIGALRM)
    pool = make_pool(config("has a solver with a time limit", workers=workers), 1)
    try:
        pool.reset(0)
        start_s = time.monotonic()
        pool.step(np.zeros(1, np.int64))
        assert time.monotonic() - start_s < 5
        assert pool.num_restarts == 0
    finally:
        pool.close()
        signal.signal(signal.SIGALRM, before)


def test_a_replaced_worker_is_held_to_the_contract_too(tmp_path):
    """Bug: only the first environments are checked."""
    pool = make_pool(config("exits, then breaks", str(tmp_path / "note")), 1)
    try:
        pool.reset(0)
        pool.step(np.zeros(1, np.int64))
        with pytest.raises(EnvironmentFailure, match="step returned 4 values"):
            pool.step(np.zeros(1, np.int64))
        assert pool.num_restarts == 1
    finally:
        pool.close()


def test_one_that_is_never_made_ends_after_a_time(monkeypatch):
    """Bug: a constructor that hangs holds up the start for ever. An alarm of the caller's goes on."""
    monkeypatch.setattr("rltrain.envs.gym.make.MAKING_S", 0.3)
    never = dataclasses.replace(config("is never made", workers=0), step_timeout_s=0.2)
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.alarm(60)
    try:
        with pytest.raises(EnvironmentFailure, match=r"was not made in 0.3 s.*env.step_timeout_s=0.9"):
            make_pool(never, 1)
        assert 50 < signal.alarm(0) < 61
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("what", ["is made once", "tells its space once"])
def test_a_signal_ends_a_run_whose_environment_is_never_made(what, command, monkeypatch):
    """Bug: the stop waits for the constructor, or for a space, and only `kill -9` ends the run."""
    monkeypatch.setattr(patience, "STOPPING_S", 0.2)
    Restless.num_made = 0
    original = Run.write_status  # the handlers stand when the run's first status is written

    def write_status(self, state, reason="", exit_code=None):
        original(self, state, reason, exit_code)
        if state == "running":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    monkeypatch.setattr(Run, "write_status", write_status)
    done = command(
        *("algo=dqn", "env=gym", "env.id=test_wayward_environments:Restless-v0", "total_steps=3000", "num_envs=1"),
        *(f"++env.kwargs.what='{what}'", "progress=false"),
    )
    assert done.code == 143, done.err
    assert "stopped by SIGTERM; nothing was kept" in done.last_line


def test_what_an_environment_started_does_not_outlive_its_worker(tmp_path):
    """Bug: a server of the environment goes on after the training."""
    pool = make_pool(config("starts a process", str(tmp_path / "pid")), 1)
    pool.reset(0)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    pool.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_does_not_close_is_left_after_a_time(monkeypatch, capsys):
    """Bug: a training of one process is done, and never ends."""
    monkeypatch.setattr("rltrain.envs.gym.guard.CLOSING_S", 0.3)
    pool = make_pool(config("does not close", workers=0), 1)
    pool.close()
    assert "does not close" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["takes the signals", "takes them in C"])
def test_one_that_takes_the_signals_does_not_take_the_stop(what, command, stop_at):
    """Bug: SIGTERM is ignored, or ends the run without saving, because an environment set a handler of its own."""
    stop_at(400)
    done = command(
        *("algo=dqn", "env=gym", "env.id=test_wayward_environments:Restless-v0", "total_steps=3000", "num_envs=1"),
        *(f"++env.kwargs.what='{what}'", "algo.learning_starts=2000", "progress=false", "eval_every_steps=0"),
    )
    faulthandler.unregister(signal.SIGTERM)
    assert done.code == 143, done.err
    assert "all is saved" in done.last_line
