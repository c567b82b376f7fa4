"""NaN and infinity: stopped before the optimizer steps, named, with the last good checkpoint untouched."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small

from rltrain.run import checkpoint

pytestmark = pytest.mark.faults
ALGOS = ["dqn", "a2c", "ppo", "reinforce"]
CASES = [("reward", "nan", 77), ("reward", "inf", 70), ("observation", "nan", 78), ("observation", "-inf", 80)]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def finite(state) -> bool:
    """Whether every tensor of a nested state is finite."""
    if isinstance(state, dict):
        return all(finite(value) for value in state.values())
    return not isinstance(state, torch.Tensor) or bool(state.isfinite().all())


@pytest.mark.tries(8)
def test_a_sick_environment_is_named_and_nothing_is_learned_from_it(attempt, command):
    what, value, at = CASES[attempt % len(CASES)]
    algo = ALGOS[attempt // 2 % len(ALGOS)]
    args = [*small(algo, "gym"), "env.id=sick:Sick-v0", f"env.kwargs={{what:{what},value:{value},at:{at}}}"]
    outcome = command(*args, "total_steps=2000", "checkpoint_every_steps=60", "eval_every_steps=0")
    assert outcome.code == 5, outcome.err
    assert f"the {what} is not finite; environment" in outcome.last_line
    assert json.loads((outcome.folder / "nonfinite.json").read_text())["tensor"] == what
    assert outcome.json("status.json")["exit_code"] == 5
    step, state = checkpoint.load(outcome.folder)
    assert step > 0
    assert finite(state["agent"])


@pytest.mark.tries(4)
@pytest.mark.parametrize("algo", ["a2c", "ppo", "reinforce", "dqn"])
def test_a_gradient_that_is_not_finite_moves_no_parameter(attempt, algo, command, monkeypatch):
    # A finite reward whose square is not: the loss overflows where nothing else does.
    args = [*small(algo, "gym"), "env.id=sick:Sick-v0", f"env.kwargs={{what:reward,value:3e38,at:{100 + attempt}}}"]
    if algo == "dqn":  # whose loss is Huber's: its slope is at most 1, so the target itself has to be infinite
        args.append("algo.reward_scale=10")
    outcome = command(*args, "total_steps=6000", "checkpoint_every_steps=60", "eval_every_steps=0")
    assert outcome.code == 5, outcome.err
    facts = json.loads((outcome.folder / "nonfinite.json").read_text())
    assert facts["gradients"][facts["tensor"]]["not_finite"] > 0
    assert finite(checkpoint.load(outcome.folder)[1]["agent"])
    logged = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([line.get("train/loss", 0.0) for line in logged]).all()
