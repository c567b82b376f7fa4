"""A trainer that is killed, or asked to stop, at a random moment."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import small

from rltrain.run import checkpoint

pytestmark = pytest.mark.faults
EVERY = 50
ALGOS = ["dqn", "ppo", "per_dqn", "a2c", "reinforce", "q_learning"]


def arguments(attempt: int) -> list[str]:
    algo = ALGOS[attempt % len(ALGOS)]
    table = algo == "q_learning"
    every = EVERY * (2000 if table else 1)
    args = [*small(algo, "taxi" if table else "cartpole"), "total_steps=1e9", f"checkpoint_every_steps={every}"]
    if algo == "per_dqn":  # a replay of 2 MB: most of the time is spent in saves
        args = [arg for arg in args if not arg.startswith("algo.replay_capacity")] + ["algo.replay_capacity=100000"]
    return [*args, "eval_every_steps=0", f"log_every_steps={every}"]


@pytest.mark.tries(24)
def test_kill_9_loses_at_most_one_interval_and_never_starts_again_at_0(attempt, start, command):
    process = start(*arguments(attempt))
    last = process.wait_for("checkpoints/last")
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 1.5)))
    if attempt % 2:
        process.wait_for("checkpoints/.partial-*")  # inside a save
    process.process.send_signal(signal.SIGKILL)
    process.end()
    run = last.parent.parent
    logged = [
        json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")
    ]
    step, _ = checkpoint.load(run)
    # A checkpoint is due every so many steps and made at the end of a rollout or batch, like a line of metrics.
    interval = max(np.diff([0, *logged]))
    assert step > 0
    assert step >= max(logged) - interval, "more than one interval is lost"
    resumed = command("resume", run, f"total_steps={step + 2 * interval}", "progress=false")
    assert resumed.code == 0, resumed.err
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "metrics have doubles or go back"
    assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".")], (
        "a half-written one stays"
    )


@pytest.mark.tries(12)
def test_a_signal_saves_and_leaves_within_10_s(attempt, start, command, status, patience):
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)[attempt % 4]
    process = start(*arguments(attempt), "eval_every_steps=100" if attempt % 2 else "eval_every_steps=0")
    run = process.wait_for("metrics.jsonl").parent
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 1.0)))
    sent = time.monotonic()
    process.process.send_signal(number)
    code, error = process.end()
    assert time.monotonic() - sent < 10 * patience(), error
    assert code == {signal.SIGINT: 130, signal.SIGHUP: 129}.get(number, 143), error
    assert status(run)["state"] == "stopped"
    step, _ = checkpoint.load(run)
    assert status(run)["step"] == step
    assert command("resume", run, f"total_steps={step + 100}", "progress=false").code == 0


@pytest.mark.tries(12)
def test_a_signal_in_a_long_evaluation_saves_and_leaves_within_10_s(
    attempt, start, command, status, patience, monkeypatch
):
    algo = ("dqn", "a3c", "ppo", "a2c")[attempt % 4]
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)[attempt % 3]
    here, final = str(Path(__file__).parent), attempt // 4 % 2 == 0
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    args = [*small(algo, "gym"), "env.id=slow:Slow-v0", "total_steps=128", "log_every_steps=1", "eval_episodes=5"]
    if final:
        Path("slow").touch()
    process = start(*args, "checkpoint_every_steps=0", f"eval_every_steps={0 if final else 64}")
    metrics = process.wait_for("metrics.jsonl")
    while not final and not read(metrics):  # the evaluation of the untrained agent is quick
        assert process.process.poll() is None
        time.sleep(0.001)
    Path("slow").touch()
    deadline = time.monotonic() + 60 * patience()
    while not any(line["step"] >= (128 if final else 64) for line in read(metrics)):
        assert process.process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(float(np.random.default_rng(attempt).uniform(0, 1.0)))
    sent = time.monotonic()
    process.process.send_signal(number)
    code, error = process.end()
    assert time.monotonic() - sent < 10 * patience(), error
    assert code == (130 if number == signal.SIGINT else 143), error
    run = metrics.parent
    step, state = checkpoint.load(run)
    assert status(run)["step"] == step == read(metrics)[-1]["step"]
    assert state["run"]["evaluation_due"] != final
    assert not any("eval/mean_reward" in line for line in read(metrics) if line["step"])
    Path("slow").unlink()
    assert command("resume", run, "progress=false", "env.id=slow:Slow-v0").code == 0
    evaluated = [line["step"] for line in read(metrics) if "eval/mean_reward" in line]
    assert step in evaluated[:2]
    assert evaluated[-1] == json.loads((run / "result.json").read_text())["steps"]


def read(metrics: Path) -> list[dict]:
    """The lines that are whole."""
    return [json.loads(line) for line in metrics.read_text().splitlines() if line.endswith("}")]


@pytest.mark.tries(4)
def test_a_ctrl_c_that_arrives_twice_saves(attempt, start, patience):
    """Bug: with uv or make, which pass on what the terminal has sent to all, Ctrl-C ended the run without a save."""
    process = start(*arguments(attempt))
    run = process.wait_for("checkpoints/last").parent.parent
    os.kill(process.process.pid, signal.SIGINT)
    time.sleep((0, 0.002, 0.03, 0.1)[attempt])
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.process.pid, signal.SIGINT)
    sent = time.monotonic()
    code, error = process.end()
    assert time.monotonic() - sent < 10 * patience(), error
    assert code == 130 and "all is saved" in error, error
    assert checkpoint.load(run)[0] == json.loads((run / "status.json").read_text())["step"]
