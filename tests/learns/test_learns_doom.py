"""Doom is learned to its gates, minutes each. All returns are the scenarios' own rewards."""

import pytest

pytestmark = [pytest.mark.learns, pytest.mark.slow]


@pytest.mark.parametrize(("algo", "settings"), [("dqn", []), ("pqn", []), ("ppo", ["hparams=quick/ppo_doom"])])
def test_basic(algo, settings, final):
    assert final(f"algo={algo}", "env=doom", *settings) >= 75


def test_deadly_corridor_by_dqn(final):
    assert final("algo=d3qn_per", "env=doom_deadly_corridor") > -60


def test_deadly_corridor_by_ppo(final):
    assert final("algo=ppo", "env=doom_deadly_corridor", "hparams=quick/ppo_doom_deadly_corridor") > 150


@pytest.mark.parametrize("algo", ["reinforce", "ppo"])
def test_health_gathering(algo, final):
    assert final(f"algo={algo}", "env=doom_health_gathering") >= 700


@pytest.mark.parametrize(
    ("algo", "settings"), [("reinforce", []), ("a2c", []), ("ppo", ["hparams=quick/ppo_doom_defend_the_center"])]
)
def test_defend_the_center(algo, settings, final):
    assert final(f"algo={algo}", "env=doom_defend_the_center", *settings) >= 5
