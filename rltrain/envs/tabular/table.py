"""Toy-text environments as arrays, for loops compiled by numba and for exact evaluation without sampling."""

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numba import njit

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import make_env
from rltrain.errors import ConfigError

DEFAULT_MAX_EPISODE_STEPS = 1000


class TransitionTable(NamedTuple):
    """A finite Markov decision process with S states, A actions and K outcomes each, padded with probability 0."""

    probability: np.ndarray
    """[S, A, K] float64; sums to 1 over K."""
    next_state: np.ndarray
    """[S, A, K] int64."""
    reward: np.ndarray
    """[S, A, K] float64."""
    terminated: np.ndarray
    """[S, A, K] bool; true if the outcome ends the episode."""
    initial_probability: np.ndarray
    """[S] float64."""
    max_episode_steps: int
    """Agent steps after which an episode is truncated."""
    num_states: int
    num_actions: int


def check_table(config: GymConfig) -> None:
    """Raise ConfigError if the environment has no transition table."""
    env = make_env(config)
    try:
        _check_table(env, config.id)
    finally:
        env.close()


def transition_table(config: GymConfig) -> TransitionTable:
    """Return the transition table of a toy-text environment. Raises ConfigError if the environment has none."""
    env = make_env(config)
    try:
        _check_table(env, config.id)
        base: Any = env.unwrapped
        table, initial = base.P, base.initial_state_distrib
        state_space: Any = env.observation_space
        action_space: Any = env.action_space
        num_states, num_actions = int(state_space.n), int(action_space.n)
        first_state, first_action = int(state_space.start), int(action_space.start)
        limit = (env.spec.max_episode_steps if env.spec else None) or DEFAULT_MAX_EPISODE_STEPS
    finally:
        env.close()
    # An environment may count states and actions from another number than 0. The arrays count from 0, as pools do.
    outcomes = [[table[s + first_state][a + first_action] for a in range(num_actions)] for s in range(num_states)]
    width = max(len(of_action) for of_state in outcomes for of_action in of_state)
    shape = (num_states, num_actions, width)
    probability, next_state = np.zeros(shape), np.zeros(shape, np.int64)
    reward, terminated = np.zeros(shape), np.zeros(shape, bool)
    for s in range(num_states):
        for a in range(num_actions):
            for k, (chance, successor, gain, ends) in enumerate(outcomes[s][a]):
                probability[s, a, k], next_state[s, a, k] = chance, successor - first_state
                reward[s, a, k], terminated[s, a, k] = gain, ends
    return TransitionTable(
        probability, next_state, reward, terminated, np.asarray(initial, np.float64), limit, num_states, num_actions
    )


def _check_table(env: gymnasium.Env, env_id: str) -> None:
    has_table = all(hasattr(env.unwrapped, name) for name in ("P", "initial_state_distrib"))
    if not (has_table and isinstance(env.observation_space, Discrete) and isinstance(env.action_space, Discrete)):
        raise ConfigError(
            f"'{env_id}' has no transition table",
            "env.id",
            "use taxi, frozen_lake, cliff_walking or maze, or give your environment discrete spaces, P and "
            "initial_state_distrib as in rltrain/envs/maze.py",
        )


@njit
def draw(probability: np.ndarray, generator: np.random.Generator) -> int:  # pragma: no cover (compiled)
    """Sample an index in proportion to `probability` [K] float64, with one random number."""
    left = generator.random()
    last = 0
    for index in range(len(probability)):
        if probability[index] > 0:
            if left < probability[index]:
                return index
            left -= probability[index]
            last = index
    return last  # because of rounding, the random number was above the sum


@njit
def take_step(
    table: TransitionTable, state: int, action: int, generator: np.random.Generator
) -> tuple[int, float, bool]:  # pragma: no cover (compiled)
    """Sample an outcome of an action from the table. Return (next_state, reward, terminated)."""
    outcome = draw(table.probability[state, action], generator)
    return (
        table.next_state[state, action, outcome],
        table.reward[state, action, outcome],
        table.terminated[state, action, outcome],
    )


def evaluate_policy(table: TransitionTable, policy: np.ndarray) -> tuple[float, float]:
    """Return the exact mean and standard deviation of a policy's undiscounted return, over the initial states.

    This is iterative policy evaluation (Sutton & Barto 2018, section 4.1) with one sweep for each step of the time
    limit. Infinitely many evaluation episodes would give the same numbers.

    policy: the action of each state, [S] int, or the probability of each action, [S, A] float.
    """
    if policy.ndim == 1:
        policy = np.eye(table.num_actions)[policy]
    shape = (table.num_states, -1)
    weight = (policy[:, :, None] * table.probability).reshape(shape)
    # Leave out columns of outcomes that never happen: most of the columns, and so most of the work.
    used = weight.any(axis=0)
    weight = weight[:, used]
    reward = table.reward.reshape(shape)[:, used]
    next_state = table.next_state.reshape(shape)[:, used]
    going_on = weight * ~table.terminated.reshape(shape)[:, used]
    reward_mean = (weight * reward).sum(axis=1)
    reward_square = (weight * reward**2).sum(axis=1)
    cross = 2 * going_on * reward
    # For G = r + G': E[G^2] = E[r^2] + 2 E[r G'] + E[G'^2]. Start at the time limit, where G' = 0, and go backwards.
    mean, square = np.zeros(table.num_states), np.zeros(table.num_states)
    for _ in range(table.max_episode_steps):
        mean_next = mean[next_state]
        square = reward_square + (cross * mean_next).sum(axis=1) + (going_on * square[next_state]).sum(axis=1)
        mean = reward_mean + (going_on * mean_next).sum(axis=1)
    first = float(table.initial_probability @ mean)
    second = float(table.initial_probability @ square)
    return first, math.sqrt(max(second - first**2, 0.0))


def optimal_q(table: TransitionTable, gamma: float, tolerance: float = 1e-10) -> np.ndarray:
    """Return Q of the optimal policy without a time limit, [S, A], by value iteration. `gamma` must be below 1."""
    expected_reward = (table.probability * table.reward).sum(axis=2)
    going_on = gamma * table.probability * ~table.terminated
    q_values = np.zeros_like(expected_reward)
    while True:
        updated = expected_reward + (going_on * q_values.max(axis=1)[table.next_state]).sum(axis=2)
        change = np.abs(updated - q_values).max()
        q_values = updated
        if change <= tolerance:
            return q_values
