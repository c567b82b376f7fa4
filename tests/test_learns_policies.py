"""Policy gradients train to a known score with the tuned settings that a user gets."""

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


@pytest.mark.parametrize(("algo", "gate"), [("reinforce", 450), ("ppo", 475)])
def test_the_pole_is_balanced(algo, gate, final):
    assert final(f"algo={algo}", "env=cartpole")["mean_reward"] >= gate


@pytest.mark.slow  # about a minute
def test_ppo_swings_the_pendulum_up(final):
    assert final("algo=ppo", "env=pendulum")["mean_reward"] >= -300
