"""A trainer that is suspended and goes on, and one that is asked to stop while an environment hangs."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from small_runs import small

from rltrain.run import checkpoint

pytestmark = pytest.mark.faults
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


DOOM = """
    from rltrain.config.environments import DoomConfig
    from rltrain.envs.doom.scenario import make_pool
    pool = make_pool(DoomConfig("x", scenario="take_cover", step_timeout_s=4.0), 2)
"""
WORKERS = """
    from rltrain.config.environments import GymConfig
    from rltrain.envs.gym.family import make_pool
    pool = make_pool(GymConfig("x", id="stuck:Stuck-v0", kwargs={"step_s": 0.6}, workers=2, step_timeout_s=4.0), 2)
"""
LOOP = """
    import sys
    import numpy as np
    pool.reset(0)
    print("ready", flush=True)
    while pool.num_restarts == 0:
        pool.step(np.zeros(2, int))
    print("replaced", flush=True)
    pool.close()
"""


@pytest.mark.tries(6)
@pytest.mark.parametrize("kind", ["doom", "workers"])
def test_environments_of_a_suspended_trainer_are_not_taken_for_hung(attempt, kind, tmp_path, patience):
    """Bug: the time in which all of them stood still is counted as an environment's."""
    code = textwrap.dedent(DOOM if kind == "doom" else WORKERS) + textwrap.dedent(LOOP)
    environment = os.environ | {"TMPDIR": str(tmp_path), "RLTRAIN_FAULT_TEST": str(os.getpid())}
    trainer = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert trainer.stdout.readline() == "ready\n"
        everyone = [psutil.Process(trainer.pid), *psutil.Process(trainer.pid).children(recursive=True)]
        for process in everyone[1:]:
            process.suspend()
        time.sleep(0.3)  # by now the trainer waits for them
        everyone[0].suspend()
        time.sleep(5)
        everyone[0].resume()
        time.sleep(1)  # within which it looks at its environments, which were suspended with it and still are
        for process in everyone[1:]:
            process.resume()
        time.sleep(1)
        if kind == "doom":
            engines = [process for process in everyone if process.name() == "vizdoom"]
            assert len(engines) == 2 and all(process.is_running() for process in engines)
            engines[0].suspend()
        else:
            (tmp_path / "stuck").touch()
        # The control: one that hangs while the trainer runs is still found.
        assert trainer.stdout.readline() == "replaced\n"
    finally:
        (tmp_path / "stuck").unlink(missing_ok=True)
        trainer.kill()
        trainer.communicate()


OWN = ["env=gym", "env.id=stuck:Stuck-v0"]
CASES = [
    ("dqn", ["env=doom", "num_envs=2", "algo.learning_starts=1e9"]),
    ("ppo", [*OWN, "env.workers=2", "num_envs=4"]),
    ("dqn", OWN),
    ("reinforce", OWN),
    ("dqn", [*OWN, "eval_every_steps=1", "eval_episodes=40"]),
    ("a3c", OWN),
]


@pytest.mark.tries(6)
def test_a_signal_while_an_environment_hangs_saves_and_leaves_within_10_s(attempt, start, command, status, patience):
    """Bug: the answer comes when the environment's time-out is over, or never where it has none."""
    algo, settings = CASES[attempt % len(CASES)]
    number = (signal.SIGTERM, signal.SIGINT)[attempt // len(CASES) % 2]
    args = [arg for arg in small(algo, "cartpole") if not arg.startswith("env=")]
    process = start(
        *args, "total_steps=1e9", "log_every_steps=20", "checkpoint_every_steps=0", "eval_every_steps=0", *settings
    )
    run = process.wait_for("metrics.jsonl").parent
    if "env=doom" in settings:
        engines = [child for child in psutil.Process(process.process.pid).children(recursive=True)]
        next(child for child in engines if child.name() == "vizdoom").suspend()
    Path("stuck").touch()
    time.sleep(1.5)
    sent = time.monotonic()
    process.process.send_signal(number)
    code, error = process.end()
    assert time.monotonic() - sent < 10 * patience(), error
    assert code == (130 if number == signal.SIGINT else 143), error
    step, _ = checkpoint.load(run)
    assert status(run)["state"] == "stopped" and status(run)["step"] == step
    Path("stuck").unlink()
    resumed = command(
        "resume", run, f"total_steps={step + 200}", "progress=false", *settings[1:2] * (OWN[0] in settings)
    )
    assert resumed.code == 0, resumed.err
