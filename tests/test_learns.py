"""Training to a known score with the tuned settings that a user gets: the whole chain, or nothing, has to be right."""

import json

import pytest

pytestmark = pytest.mark.learns


@pytest.fixture
def final(command):
    """The final evaluation of a run."""

    def call(*args):
        outcome = command(*args, "device=cpu", "progress=false")
        assert outcome.code == 0, outcome.err
        return json.loads((outcome.folder / "result.json").read_text())["final"]

    return call


@pytest.mark.slow  # about a minute
@pytest.mark.parametrize("seed", [0, 1])
def test_dqn_balances_the_pole(seed, final):
    assert final("algo=dqn", "env=cartpole", f"seed={seed}")["mean_reward"] >= 475


@pytest.mark.parametrize("seed", [0])
def test_ppo_balances_the_pole(seed, final):
    assert final("algo=ppo", "env=cartpole", f"seed={seed}")["mean_reward"] >= 475
