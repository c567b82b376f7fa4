"""A run that was stopped and resumed against the same run that never stopped: not one bit may differ."""

import json
import os
import signal
import zlib

import numpy as np
import pytest
import torch

from rltrain import checkpoint
from rltrain.config import ALGOS
from rltrain.run import Run

SMALL = {
    "q_learning": [],
    "sarsa": [],
    "monte_carlo": [],
    "dqn": ["algo.learning_starts=64", "algo.replay_capacity=300", "algo.prioritized=true", "algo.n_step=3"],
    "pqn": ["algo.num_steps=16", "batch_size=32"],
    "reinforce": ["algo.batch_size=60", "algo.baseline=true"],
    "a2c": [],
    "ppo": ["algo.num_steps=16", "batch_size=32"],
}
TOY = {"q_learning", "sarsa", "monte_carlo"}
EXACT = sorted(name for name in ALGOS if name in SMALL)


def flat(state, prefix=""):
    """Every leaf of a checkpoint by its path."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor | np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bytes(np.asarray(a)) == bytes(np.asarray(b))
    return json.dumps(a) == json.dumps(b)


def differences(one, other) -> list[str]:
    """Paths at which two runs' last checkpoints differ, times aside."""
    a, b = (dict(flat(checkpoint.read(checkpoint.find(run)))) for run in (one, other))
    paths = (a.keys() | b.keys()) - {"run/train_time_s", "run/wall_time_s"}
    return sorted(path for path in paths if path not in a or path not in b or not same(a[path], b[path]))


def lines(run) -> list[dict]:
    """metrics.jsonl without what depends on the clock and the machine."""
    clocks = {"time_s", "time/fps", "time/env_fraction", "time/learn_fraction", "memory/rss_mb"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in clocks} for row in rows]


@pytest.fixture
def stop_at(monkeypatch):
    """Send this process a signal as soon as the run has done so many steps."""

    def arm(step, number=signal.SIGTERM):
        original = Run.advance

        def advance(self, num_steps, episodes):
            original(self, num_steps, episodes)
            if self.step - num_steps < step <= self.step:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Run, "advance", advance)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("algo", EXACT)
@pytest.mark.parametrize("env", ["frozen_lake", "cartpole", "pendulum"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(algo, env, command, stop_at, monkeypatch):
    if (env != "frozen_lake" and algo in TOY) or (env == "pendulum" and algo in ("dqn", "pqn")):
        pytest.skip("does not fit")
    steps = 40_000 if algo in TOY else 700
    args = [f"algo={algo}", f"env={env}", f"total_steps={steps}", "device=cpu", "progress=false", *SMALL[algo]]
    args += [
        f"eval_every_steps={steps // 3}",
        "eval_episodes=1",
        "final_eval_episodes=1",
        f"log_every_steps={steps // 7}",
    ]
    if algo not in TOY:
        args.append("num_envs=4" if algo in ("ppo", "pqn") else "num_envs=3")
    whole = command(*args)
    assert whole.code == 0, whole.err
    whole = whole.folder
    rng = np.random.default_rng(zlib.crc32(f"{algo} {env}".encode()))
    with monkeypatch.context():
        stop_at(int(rng.integers(steps // 5, steps * 4 // 5)))
        stopped = command(*args)
    assert stopped.code == 143, stopped.err
    monkeypatch.undo()
    part = stopped.folder
    assert json.loads((part / "status.json").read_text())["state"] == "stopped"
    resumed = command("resume", part, "progress=false")
    assert resumed.code == 0, resumed.err
    assert differences(whole, part) == []
    assert lines(whole) == lines(part)
    whole_episodes, part_episodes = ((run / "episodes.csv").read_text() for run in (whole, part))
    assert whole_episodes == part_episodes
