"""Policy gradients reach their gates."""

import pytest
from gate_table import POLICIES

pytestmark = pytest.mark.learns


@pytest.mark.parametrize("gate", POLICIES, ids=str)
def test_the_pole_is_balanced(gate, trained):
    assert not gate.misses(gate.measure(trained(*gate.keys).folder))


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "gate"), [("a2c", 475), ("a3c", 450), ("impala", 475)])
def test_the_pole_is_balanced_by_an_actor_and_its_critic(algo, gate, final):
    assert final(f"algo={algo}", "env=cartpole") >= gate


@pytest.mark.slow
def test_ppo_swings_the_pendulum_up(final):
    assert final("algo=ppo", "env=pendulum") >= -300


@pytest.mark.slow
def test_ppo_lands_the_lander(final):
    assert final("algo=ppo", "env=lunar_lander") >= 150
