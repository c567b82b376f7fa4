"""SARSA: one line apart from Q-learning, and on-policy."""

import difflib
import inspect

import numpy as np
import pytest
from tables import chain, play, table_of

from rltrain.algos import q_learning, sarsa
from rltrain.config.environments import GymConfig
from rltrain.envs.tabular.table import evaluate_policy, optimal_q, transition_table

LAKE = GymConfig("x", id="FrozenLake-v1", kwargs={"map_name": "4x4", "is_slippery": False})


def soft_optimal_q(table, gamma, epsilon):
    """Q of the best of all policies that act at random with probability epsilon: value iteration with that mixture."""
    q = np.zeros((table.num_states, table.num_actions))
    expected, going_on = (table.probability * table.reward).sum(2), gamma * table.probability * ~table.terminated
    for _ in range(500):
        value = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)
        q = expected + (going_on * value[table.next_state]).sum(2)
    return q


def test_the_lesson_is_one_line():
    """What q_learning.py and sarsa.py differ in, beside their first docstrings."""
    one, other = (inspect.getsource(module).split('"""', 2)[2].splitlines() for module in (q_learning, sarsa))
    lines = [line for line in difflib.ndiff(one, other) if line[0] in "+-"]
    assert [line[2:].strip() for line in lines] == [
        "target = reward + discount * q[next_state].max()",
        "target = reward + discount * q[next_state, next_action]",
    ]


def test_the_target_holds_the_action_that_is_taken_next():
    """Bugs: the greedy value, or another random action than the one that is then taken."""
    # State 0 leads to 1; there action 0 ends, action 1 comes back for a reward of 1.
    table = table_of([[1, 1], [1, 0]], [[0, 0], [0, 1]], [[False, False], [True, False]])
    for seed in range(20):
        q = np.array([[0.0, 0.0], [10.0, 20.0]])
        q, _ = play("sarsa", table, 1, q=q.copy(), seed=seed, learning_rate=0.5, gamma=0.5, epsilon_end=1.0)
        after, _ = play("sarsa", table, 2, q=np.array([[0.0, 0.0], [10.0, 20.0]]), seed=seed, learning_rate=0.5,
                        gamma=0.5, epsilon_end=1.0)  # fmt: skip
        taken = int(np.flatnonzero(after[1] != [10, 20])[0])
        assert q[0].max() == pytest.approx(0.5 * 0.5 * [10, 20][taken])


def test_one_step_of_the_chain_is_td_0():
    q, _ = play("sarsa", chain([1, 0, 0, 1, 1, 0]), 1, learning_rate=0.1, gamma=1.0)
    assert q[0, 0] == pytest.approx(0.1)
    assert not q[1:].any()


@pytest.mark.parametrize(("algo", "tolerance"), [("sarsa", 0.01), ("monte_carlo", 0.02)])
def test_on_policy_values_are_those_of_the_best_policy_that_explores(algo, tolerance):
    """Bugs: an off-policy target; a bootstrap at an end. Half of the actions are random, so that all is visited."""
    table = transition_table(LAKE)
    fields = {"learning_rate": 0.02, "learning_rate_end": 0.0, "gamma": 0.9, "epsilon_start": 0.5, "epsilon_end": 0.5}
    q, _ = play(algo, table, 5_000_000, chunk=100_000, **fields)
    assert np.abs(q - soft_optimal_q(table, 0.9, 0.5)).max() < tolerance
    assert np.abs(q - optimal_q(table, 0.9)).max() > 0.3, "the control: Q-learning's answer is another"


@pytest.mark.parametrize("algo", ["sarsa", "monte_carlo"])
def test_as_exploring_fades_the_values_along_the_policy_become_those_of_value_iteration(algo):
    """Bug: exploration that does not fade. Off the policy's way the values stay those of the last that explored."""
    table = transition_table(LAKE)
    fields = {"learning_rate": 0.5, "epsilon_end": 0.0, "exploration_fraction": 1.0, "gamma": 0.99}
    q, _ = play(algo, table, 2_000_000, chunk=100_000, **fields)
    best, policy, state, ended = optimal_q(table, 0.99), q.argmax(axis=1), 0, False
    for _ in range(6):
        assert not ended
        assert abs(q[state].max() - best[state].max()) < 1e-3
        ended = table.terminated[state, policy[state], 0]
        state = table.next_state[state, policy[state], 0]
    assert ended
    assert evaluate_policy(table, policy)[0] == 1.0
