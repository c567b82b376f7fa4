"""What the tabular loops share: time limits, chances, schedules; each for all three algorithms."""

import numba
import numpy as np
import pytest
from tables import LEARN, chain, play, table_of

from rltrain.algos.parts.walk import Walk
from rltrain.errors import ConfigError

CHOICE = table_of([[1, 1], [1, 1]], [[1.0, -1.0], [0, 0]], [[True, True], [True, True]])
"""Action 0 reaches the cheese (+1), action 1 the poison (-1); both end the episode."""
KNOWN = [[1.0, -1.0], [0.0, 0.0]]


@pytest.mark.parametrize("algo", LEARN)
def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not(algo):
    fields = {"learning_rate": 0.5, "gamma": 0.98}
    q, episodes = play(algo, chain([1], terminates=False, limit=8), 40_000, **fields)
    assert q[0, 0] == pytest.approx(50, abs=1e-3)
    assert set(episodes["length_steps"]) == {8}
    q, _ = play(algo, chain([1] * 8), 4000, **fields)
    assert q[0, 0] == pytest.approx((1 - 0.98**8) / 0.02, abs=1e-6)


def test_numba_that_compiles_nothing_is_told(monkeypatch):
    """Bug: a traceback with NUMBA_DISABLE_JIT=1, which debuggers and coverage set."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT is set; NUMBA_DISABLE_JIT; unset it"):
        Walk(CHOICE)


@pytest.mark.parametrize("algo", LEARN)
def test_chunks_change_nothing(algo):
    whole, parts = (play(algo, CHOICE, 100, chunk=chunk) for chunk in (100, 7))
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])


@pytest.mark.parametrize("algo", LEARN)
def test_episodes_are_noted_at_the_step_that_ended_them(algo):
    _, episodes = play(algo, chain([1, 2, 3]), 7)
    assert episodes.tolist() == [(3, 6.0, 3), (6, 6.0, 3)]


@pytest.mark.parametrize("algo", LEARN)
def test_epsilon_is_the_share_of_random_actions_at_the_beginning_and_the_end(algo):
    for epsilon, share in ((1.0, 0.5), (0.2, 0.1), (0.0, 0.0)):
        _, episodes = play(algo, CHOICE, 4000, q=np.array(KNOWN), epsilon_start=epsilon, epsilon_end=epsilon)
        assert np.mean(episodes["reward_sum"] < 0) == pytest.approx(share, abs=0.04)
    _, episodes = play(algo, CHOICE, 8000, q=np.array(KNOWN), epsilon_end=0.0, exploration_fraction=1.0)
    quarters = [np.mean(part["reward_sum"] < 0) for part in np.split(episodes, 4)]
    assert quarters == pytest.approx([0.4375, 0.3125, 0.1875, 0.0625], abs=0.05)


@pytest.mark.parametrize("algo", LEARN)
def test_the_exponential_schedule_counts_episodes_and_not_steps(algo):
    """Three steps an episode: epsilon after 1000 episodes is .2 + .8 / e; counting steps it would be .2 + .8 / e^3."""
    slow = table_of([[1, 1], [2, 2], [2, 2]], [[0, 0], [0, 0], [1, -1]], [[False, False], [False, False], [True, True]])
    fields = {"epsilon_schedule": "exponential", "epsilon_end": 0.2, "epsilon_decay": 0.001}
    wrong = np.zeros(1000)
    for seed in range(20):
        q = np.array([[0.0, 0], [0, 0], [1, -1]])
        _, episodes = play(algo, slow, 4500, q=q, seed=seed, learning_rate=1e-9, **fields)
        wrong += episodes["reward_sum"][:1000] < 0
    assert np.mean(wrong[-100:]) / 20 == pytest.approx((0.2 + 0.8 * np.exp(-0.95)) / 2, abs=0.03)
    assert np.mean(wrong[:50]) / 20 == pytest.approx((0.2 + 0.8 * np.exp(-0.025)) / 2, abs=0.04)


@pytest.mark.parametrize("algo", LEARN)
def test_the_step_size_falls_in_a_straight_line(algo):
    """One state, reward 1, every step an end: each update takes the fraction learning_rate of what is missing."""
    q, _ = play(algo, chain([1]), 4, learning_rate=0.8, learning_rate_end=0.0)
    missing = (1 - 0.8) * (1 - 0.6) * (1 - 0.4) * (1 - 0.2)
    assert q[0, 0] == pytest.approx(1 - missing)


@pytest.mark.parametrize("algo", LEARN)
def test_outcomes_and_starts_come_in_their_proportions(algo):
    """Bug: outcomes of probability 0, which pad the table, drawn."""
    probability = [[[0.0, 0.2, 0.8]], [[0.5, 0.5, 0.0]]]
    reward = [[[100.0, 1.0, 2.0]], [[10.0, 20.0, 100.0]]]
    table = table_of(np.zeros((2, 1, 3)), reward, np.ones((2, 1, 3)), probability, initial=[0.3, 0.7])
    _, episodes = play(algo, table, 20_000)
    values, counts = np.unique(episodes["reward_sum"], return_counts=True)
    assert values.tolist() == [1, 2, 10, 20]
    assert counts / 20_000 == pytest.approx([0.06, 0.24, 0.35, 0.35], abs=0.015)
