"""Deep Q-learning, each improvement of it and PQN reach their gates."""

import pytest

pytestmark = [pytest.mark.learns, pytest.mark.slow]


def test_the_lander_lands(final):  # the longest comes first, so that no worker waits for it at the end
    assert final("algo=d3qn_per", "env=lunar_lander") >= 150


@pytest.mark.parametrize("algo", ["dqn", "double_dqn", "dueling_dqn", "per_dqn", "d3qn_per", "pqn"])
def test_the_pole_is_balanced(algo, final):
    assert final(f"algo={algo}", "env=cartpole") >= 475
