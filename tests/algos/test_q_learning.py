"""Tabular Q-learning: exact answers, and the worked example of the mouse and the cheese."""

import numpy as np
import pytest
from tables import play

from rltrain.algos.parts.q_table import QTable
from rltrain.algos.q_learning import evaluate
from rltrain.config.environments import GymConfig
from rltrain.envs.tabular.table import optimal_q, transition_table

LAKE = {"map_name": "4x4", "is_slippery": False}
RIGHT, DOWN = 1, 3


def test_the_worked_example_step_by_step():
    """Bugs: another target, discount or step size; a bootstrap past the poison."""
    table = transition_table(GymConfig("x", id="rltrain.envs.maze:Maze-v0"))
    for seed in range(200):  # until the first two random moves are the example's
        q, _ = play("q_learning", table, 1, seed=seed, learning_rate=0.1, gamma=0.99, epsilon_end=1.0)
        if not q[0, RIGHT]:
            continue
        assert q[0, RIGHT] == pytest.approx(0.1)
        assert np.count_nonzero(q) == 1
        q, episodes = play("q_learning", table, 2, seed=seed, learning_rate=0.1, gamma=0.99, epsilon_end=1.0)
        if len(episodes):
            break
    assert q[:, DOWN].min() == pytest.approx(-1.0)
    assert q[0, RIGHT] == pytest.approx(0.1)
    assert episodes["reward_sum"].tolist() == [-9]


def test_on_ice_that_is_not_slippery_q_equals_value_iteration(config, watched):
    run_config = config(
        "q_learning", env="FrozenLake-v1", kwargs=LAKE, steps=300_000, epsilon_end=1.0, learning_rate=0.7
    )
    _, agent = watched(run_config)
    assert np.abs(agent.q - optimal_q(transition_table(run_config.env), 0.99)).max() < 1e-3
    assert evaluate(run_config, agent, 1, 0, True, lambda: False)["mean_reward"] == pytest.approx(1.0)


def test_taxi_is_solved_exactly(config, watched):
    run_config = config("q_learning", env="Taxi-v4", steps=1_000_000, learning_rate=0.7)
    _, agent = watched(run_config)
    result = evaluate(run_config, agent, 1, 0, True, lambda: False)
    assert result["mean_reward"] == pytest.approx(7.93, abs=1e-9)
    assert result["episodes"] == 300
    assert evaluate(run_config, QTable(agent.table), 1, 0, True, lambda: False)["mean_reward"] < -100, "the control"
