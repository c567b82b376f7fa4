"""Monte Carlo control: returns of whole episodes, first visits, time limits, and a stop in mid-episode."""

import numpy as np
import pytest
from tables import chain, play, table_of

REWARDS = [1, 0, 0, 1, 1, 0]
"""They sum to 3, and the first is 1: the returns example."""


def test_the_returns_example_in_the_tables_own_loops():
    """Monte Carlo moves V(S0) towards the whole return, to .3; one step of TD towards the first reward, to .1."""
    table, fields = chain(REWARDS), {"learning_rate": 0.1, "gamma": 1.0}
    monte_carlo, _ = play("monte_carlo", table, len(REWARDS), **fields)
    assert monte_carlo[:, 0] == pytest.approx([0.3, 0.2, 0.2, 0.2, 0.1, 0])
    td, _ = play("q_learning", table, len(REWARDS), **fields)
    assert td[:, 0] == pytest.approx([0.1, 0, 0, 0.1, 0.1, 0])


def test_nothing_is_learned_before_the_end_of_the_episode():
    q, episodes = play("monte_carlo", chain(REWARDS), len(REWARDS) - 1, learning_rate=0.1)
    assert not q.any()
    assert len(episodes) == 0


def test_returns_are_discounted_from_the_step_that_they_belong_to():
    q, _ = play("monte_carlo", chain([1, 2, 3]), 3, learning_rate=1.0, gamma=0.1)
    assert q[:, 0] == pytest.approx([1.23, 2.3, 3])


@pytest.mark.parametrize(("first_visit", "expected"), [(True, 1.5), (False, 2.125)])
def test_first_and_every_visit(first_visit, expected):
    """One state visited three times, with returns 1, 2, 3 on the way back: half of 3, or half towards each in turn."""
    table = table_of([[0]], [[1.0]], [[False]], limit=3)  # what lies beyond the limit is worth nothing yet
    q, _ = play("monte_carlo", table, 3, learning_rate=0.5, gamma=1.0, first_visit=first_visit)
    assert q[0, 0] == pytest.approx(expected)  # (((1 / 2) + 2) / 2 + 3) / 2


def test_a_time_limit_leaves_the_rest_to_the_tables_own_estimate():
    """Bug: a cut taken for an end. One state, reward 1, gamma .98, limit 8: 50, and 7.46 for a chain that ends."""
    q, episodes = play("monte_carlo", chain([1], terminates=False, limit=8), 40_000, learning_rate=0.5, gamma=0.98)
    assert q[0, 0] == pytest.approx(50, abs=1e-3)
    assert set(episodes["length_steps"]) == {8}
    q, _ = play("monte_carlo", chain([1] * 8), 4000, learning_rate=0.5, gamma=0.98)
    assert q[0, 0] == pytest.approx((1 - 0.98**8) / 0.02, abs=1e-6)
    assert q[0, 0] <= 7.47


def test_an_open_episode_is_carried_from_chunk_to_chunk():
    """Bug: the steps before a log line, or before a resume, lost."""
    whole, parts = (play("monte_carlo", chain(REWARDS), 600, chunk=chunk) for chunk in (600, 7))
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])
