"""Runs that must not differ in a bit: stopped and resumed against never stopped, and the same seed twice.

Every day tests/run/test_run.py and tests/run/test_resume.py check the same on one environment.
"""

import json
import signal
import zlib

import numpy as np
import pytest
from exact import differences, lines
from small_runs import TABULAR, small

from rltrain.config.algorithms import ALGOS

pytestmark = [pytest.mark.faults, pytest.mark.slow]
ENVS = {
    "table": ["taxi", "frozen_lake", "cliff_walking", "maze"],
    "values": ["cartpole", "frozen_lake", "taxi"],
    "policy": ["cartpole", "pendulum", "frozen_lake"],
}
POLICY = ("reinforce", "a2c", "a3c", "impala", "ppo")


def arguments(algo: str, attempt: int) -> list[str]:
    envs = ENVS["table" if algo in TABULAR else "policy" if algo in POLICY else "values"]
    env = "cartpole" if algo == "a3c" else envs[attempt % len(envs)]
    steps = 20_000 if algo in TABULAR else 700
    args = [*small(algo, env), f"total_steps={steps}", f"seed={attempt}", f"log_every_steps={steps // 7}"]
    if algo == "a3c":
        args += ["algo.num_workers=1"]
    return [*args, f"eval_every_steps={steps // 3}", f"checkpoint_every_steps={steps // 5}"]


@pytest.mark.parametrize("algo", sorted(set(ALGOS) - {"a3c"}))
@pytest.mark.tries(3)
def test_stopped_at_a_random_step_and_resumed_is_never_stopped(algo, attempt, command, stop_at, monkeypatch):
    """Which holds only if the same seed gives the same run twice."""
    args = arguments(algo, attempt)
    whole = command(*args).folder
    control = command(*args, f"seed={attempt + 100}").folder
    assert lines(whole) != lines(control)
    steps = json.loads((whole / "result.json").read_text())["steps"]
    rng = np.random.default_rng(zlib.crc32(f"{algo} {attempt}".encode()))
    stop_at(int(rng.integers(1, steps)), [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1][attempt % 3])
    stopped = command(*args)
    monkeypatch.undo()
    assert stopped.code in (130, 143), stopped.err
    part = stopped.folder
    assert whole != part
    resumed = command("resume", part, "progress=false")
    assert resumed.code == 0, resumed.err
    equal(whole, part)


@pytest.mark.tries(3)
def test_one_asynchronous_worker_gives_the_same_metrics_from_the_same_seed_and_others_from_another(attempt, command):
    args = arguments("a3c", attempt)
    one, other, control = (command(*args, *more).folder for more in ([], [], [f"seed={attempt + 100}"]))
    assert one != other
    equal(one, other)
    assert lines(one) != lines(control)


def equal(one, other):
    assert differences(one, other) == []
    assert lines(one) == lines(other)
    assert (one / "episodes.csv").read_text() == (other / "episodes.csv").read_text()
