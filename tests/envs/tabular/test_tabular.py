"""Exact answers of the toy-text environments, against numbers that were worked out elsewhere."""

import numpy as np
import pytest

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.family import make_pool
from rltrain.envs.tabular.table import evaluate_policy, optimal_q, transition_table
from rltrain.errors import ConfigError


@pytest.mark.parametrize(
    ("env_id", "kwargs", "best"),
    [
        ("Taxi-v4", {}, 7.930),
        ("FrozenLake-v1", {"map_name": "4x4"}, 0.7402),
        ("FrozenLake8x8-v1", {}, 0.863),
        ("FrozenLake-v1", {"is_slippery": False}, 1.0),
        ("CliffWalking-v1", {}, -13.0),
    ],
)
def test_value_of_the_optimal_policy(env_id, kwargs, best):
    """Bugs: ends ignored in the backup, a wrong initial distribution, a wrong time limit."""
    table = transition_table(GymConfig("x", id=env_id, kwargs=kwargs))
    assert np.allclose(table.probability.sum(axis=2), 1)
    mean, _ = evaluate_policy(table, optimal_q(table, 0.99).argmax(axis=1))
    assert mean == pytest.approx(best, abs=6e-4)


def test_random_policy_in_taxi():
    """Bug: stochastic policies [S, A] evaluated as greedy ones."""
    table = transition_table(GymConfig("x", id="Taxi-v4"))
    mean, _ = evaluate_policy(table, np.full((500, 6), 1 / 6))
    assert mean == pytest.approx(-771, abs=0.5)


def test_exact_mean_and_deviation_agree_with_playing():
    """Bugs: the deviation of a mean in place of an episode's; the table differing from the environment."""
    config = GymConfig("x", id="FrozenLake-v1")
    table = transition_table(config)
    policy = optimal_q(table, 0.99).argmax(axis=1)
    mean, deviation = evaluate_policy(table, policy)
    # The reward is 0 or 1, so that the deviation follows from the mean.
    assert deviation == pytest.approx(np.sqrt(mean * (1 - mean)))
    pool = make_pool(config, 16)
    obs, rewards = pool.reset(0), []
    while len(rewards) < 1500:
        step = pool.step(policy[obs])
        obs = step.obs
        rewards += [episode.reward for episode in step.episodes]
    assert np.mean(rewards) == pytest.approx(mean, abs=4 * deviation / np.sqrt(len(rewards)))


def test_time_limit():
    """Bug: the environment's own limit in place of the configured one, or none at all."""
    for given, limit in ((7, 7), (None, 1000)):
        table = transition_table(GymConfig("x", id="CliffWalking-v1", max_episode_steps=given))
        assert table.max_episode_steps == limit
        assert evaluate_policy(table, np.zeros(48, int)) == (-limit, 0)


def test_a_long_evaluation_ends_when_nothing_changes_or_when_it_is_asked_to():
    """Bug: with a limit of a million steps, a signal was not answered for a quarter of a minute."""
    lake, cliff = (
        transition_table(GymConfig("x", id=env_id, max_episode_steps=10**9))
        for env_id in ("FrozenLake-v1", "CliffWalking-v1")
    )
    best = optimal_q(lake, 0.99).argmax(axis=1)
    shorter = transition_table(GymConfig("x", id="FrozenLake-v1", max_episode_steps=20_000))
    assert evaluate_policy(lake, best) == evaluate_policy(shorter, best)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate_policy(cliff, np.zeros(48, int), stop)


def test_an_environment_without_a_table_is_refused():
    """Bug: AttributeError from deep inside."""
    with pytest.raises(ConfigError, match="transition table"):
        transition_table(GymConfig("x", id="CartPole-v1"))
