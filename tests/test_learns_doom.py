"""Doom learned to the gates, with the tuned settings that a user gets. Minutes each: run them by `-m learns`."""

import json

import pytest

pytestmark = [pytest.mark.learns, pytest.mark.slow]


@pytest.fixture
def final(command):
    """The mean return of a run's final evaluation, which is the scenario's own reward."""

    def call(*args):
        outcome = command(*args, "device=cpu", "progress=false")
        assert outcome.code == 0, outcome.err
        return json.loads((outcome.folder / "result.json").read_text())["final"]["mean_reward"]

    return call


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_basic(algo, final):
    assert final(f"algo={algo}", "env=doom") >= 75


@pytest.mark.parametrize(("algo", "gate"), [("d3qn_per", -60), ("ppo", 150)])
def test_deadly_corridor(algo, gate, final):
    assert final(f"algo={algo}", "env=doom_deadly_corridor") > gate


@pytest.mark.parametrize("algo", ["reinforce", "ppo"])
def test_health_gathering(algo, final):
    assert final(f"algo={algo}", "env=doom_health_gathering") >= 700


@pytest.mark.parametrize("algo", ["reinforce", "a2c", "ppo"])
def test_defend_the_center(algo, final):
    assert final(f"algo={algo}", "env=doom_defend_the_center") >= 5
