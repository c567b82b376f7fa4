"""Environments that never work, never close, leave processes behind, or take the signals away."""

import os
import signal
import subprocess
import sys
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

HERE = str(Path(__file__).parent)


class Restless(gymnasium.Env):
    """Does what `what` says, besides playing episodes of 10 steps."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, what="", note=None):
        self.what, self.t = what, 0
        if what == "starts a process":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
            Path(note).write_text(str(child.pid))
        if what == "takes the signals":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self.what == "raises":
            raise RuntimeError("out of cheese")
        if self.what == "exits":
            os._exit(3)
        self.t += 1
        return np.zeros(2, np.float32), 0.0, self.t == 10, False, {}

    def close(self):
        while self.what == "does not close":
            time.sleep(0.05)


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
    before = signal.signal(signal.SIGALRM, patience.interrupt)
    try:
        pool = make_pool(config("does not close", workers=0), 1)
        pool.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "does not close" in capsys.readouterr().err


def test_one_that_takes_the_signals_does_not_take_the_stop(command, stop_at):
    """Bug: SIGTERM is ignored, or ends the run without saving, because an environment set a handler of its own."""
    stop_at(400)
    done = command(
        *("algo=dqn", "env=gym", "env.id=test_wayward_environments:Restless-v0", "total_steps=3000", "num_envs=1"),
        *("++env.kwargs.what='takes the signals'", "algo.learning_starts=2000", "progress=false", "eval_every_steps=0"),
    )
    assert done.code == 143, done.err
    assert "all is saved" in done.last_line
