"""Tabular Q-learning: exact answers, and a time limit that does not end the value."""

import dataclasses

import numpy as np
import pytest

from rltrain.algos.q_learning import CHUNK_STEPS, QTable, evaluate, learn
from rltrain.envs.gym import GymConfig
from rltrain.envs.tabular import optimal_q, transition_table

LAKE = {"map_name": "4x4", "is_slippery": False}


def walk(table, num_steps, q=None, chunk=CHUNK_STEPS, epsilon=(1.0, 1.0), seed=0, learning_rate=0.5, gamma=0.98):
    """Learn on arrays (probability, next_state, reward, terminated, start, limit); returns q and the episodes."""
    probability, next_state, reward, terminated, start, limit = table
    q = np.zeros(reward.shape[:2]) if q is None else q
    episode, generator, finished = np.array([-1.0, 0, 0]), np.random.default_rng(seed), []
    initial = np.cumsum(start)
    for step in range(0, num_steps, chunk):
        rows = np.empty((chunk, 3))
        count = learn(
            q, probability, next_state, reward, terminated, initial, limit, learning_rate, gamma, *epsilon,
            float(num_steps), step, min(chunk, num_steps - step), episode, rows, generator,
        )  # fmt: skip
        finished += rows[:count].tolist()
    return q, np.array(finished)


def mouse_and_cheese():
    """Start 0; action 0 reaches the cheese (+1), action 1 the poison (-1); both end the episode in state 1."""
    shape = (2, 2, 1)
    reward = np.array([[[1.0], [-1.0]], [[0.0], [0.0]]])
    return np.ones(shape), np.ones(shape, np.int64), reward, np.ones(shape, bool), np.array([1.0, 0.0]), 9


def loop(terminated):
    """One state, reward 1, cut after 8 steps; or, as a control, a chain of 8 states that ends."""
    length = 8 if terminated else 1
    probability, reward = np.ones((length, 1, 1)), np.ones((length, 1, 1))
    next_state = np.minimum(np.arange(length) + 1, length - 1).reshape(-1, 1, 1)
    ends = np.zeros((length, 1, 1), bool)
    ends[-1] = terminated
    start = np.zeros(length)
    start[0] = 1
    return probability, next_state, reward, ends, start, 8


def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not():
    q, episodes = walk(loop(False), 4000)
    assert q[0, 0] == pytest.approx(50, abs=1e-3)
    assert set(episodes[:, 2]) == {8}
    q, _ = walk(loop(True), 4000)
    assert q[0, 0] == pytest.approx((1 - 0.98**8) / 0.02, abs=1e-6)
    assert q[0, 0] <= 7.47


def test_the_courses_worked_example():
    q, episodes = walk(mouse_and_cheese(), 1, learning_rate=0.1, seed=1)
    taken = 0 if q[0, 0] else 1
    assert q[0, taken] == pytest.approx((0.1, -0.1)[taken])
    assert episodes.tolist() == [[1, (1, -1)[taken], 1]]
    q, _ = walk(mouse_and_cheese(), 500, learning_rate=0.1)
    assert q[0] == pytest.approx([1, -1], abs=1e-3)
    assert q[1].tolist() == [0, 0], "the end of an episode was learned about"


def test_chunks_change_nothing():
    whole, one = walk(loop(True), 100, chunk=100), walk(loop(True), 100, chunk=7)
    assert np.array_equal(whole[0], one[0])
    assert np.array_equal(whole[1], one[1])


def test_epsilon_is_the_share_of_random_actions_at_the_beginning_and_the_end():
    table = mouse_and_cheese()
    for epsilon, share in (((1.0, 1.0), 0.5), ((0.2, 0.2), 0.1), ((0.0, 0.0), 0.0)):
        _, episodes = walk(table, 4000, q=np.array([[1.0, -1.0], [0.0, 0.0]]), epsilon=epsilon)
        assert np.mean(episodes[:, 1] < 0) == pytest.approx(share, abs=0.04)
    _, episodes = walk(table, 8000, q=np.array([[1.0, -1.0], [0.0, 0.0]]), epsilon=(1.0, 0.0))
    quarters = [np.mean(part[:, 1] < 0) for part in np.split(episodes, 4)]
    assert quarters == pytest.approx([0.4375, 0.3125, 0.1875, 0.0625], abs=0.05)


def test_on_ice_that_is_not_slippery_q_equals_value_iteration(config, watched):
    run_config = config(
        "q_learning", env="FrozenLake-v1", kwargs=LAKE, steps=300_000, epsilon_end=1.0, learning_rate=0.7
    )
    _, agent = watched(run_config)
    assert np.abs(agent.q - optimal_q(transition_table(run_config.env), 0.99)).max() < 1e-3
    assert evaluate(run_config, agent, 1, 0, True)["mean_reward"] == pytest.approx(1.0)


def test_taxi_is_solved_exactly(config, watched):
    run_config = config("q_learning", env="Taxi-v4", steps=1_000_000)
    _, agent = watched(run_config)
    result = evaluate(run_config, agent, 1, 0, True)
    assert result["mean_reward"] == pytest.approx(7.93, abs=1e-9)
    assert result["episodes"] == 300
    assert evaluate(run_config, QTable(500, 6), 1, 0, True)["mean_reward"] < -100, "the control"


def test_episodes_are_cut_where_the_environment_says(config, watched):
    run_config = config("q_learning", env="Taxi-v4", steps=5000)
    run_config = dataclasses.replace(run_config, env=GymConfig("test", id="Taxi-v4", max_episode_steps=37))
    seen, _ = watched(run_config, lambda run, agent, parts: max(length for _, length in run._recent))
    assert seen == [37]
