"""Doom is learned to its gates, minutes each. All returns are the scenarios' own rewards."""

import pytest

pytestmark = [pytest.mark.learns, pytest.mark.slow]


@pytest.mark.parametrize("algo", ["dqn", "pqn", "ppo"])
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
