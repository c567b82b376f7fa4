"""Toy-text environments as arrays, for loops compiled by numba and for exact evaluation without sampling."""

import math
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numba import njit

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.contract import Contract
from rltrain.envs.gym.guard import environment_code
from rltrain.envs.gym.make import opened, time_limit
from rltrain.envs.registry import TABLE_STEPS
from rltrain.errors import ConfigError
from rltrain.system import notices

COMPARED_STEPS = 5_000
"""The steps of the environment that `check_table` compares with the table, at most. They take less than 0.2 s."""
COMPARED_S = 5.0
"""The time that the comparison may take with a slow environment, seconds."""


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
    """Raise ConfigError if the environment has no transition table, or does not behave as its table says.

    The environment is stepped with all its wrappers. Each step must be a possible outcome of the table. First states
    and outcomes must be about as frequent as the table says. In one process this is done once.
    """
    key = f"{config.id} {config.kwargs} {config.max_episode_steps}"
    if key in _compared:
        return
    table = transition_table(config)
    # Another seed than that of the table: a world that the constructor draws has no one table.
    with opened(config, seed=1) as env, environment_code(config.id):
        difference = _difference(env, table, config.id)
        before: Any = table
        after: Any = _read_table(env)
        if not difference and not all(map(np.array_equal, before, after)):
            difference = "P changed while the environment was stepped, or reset with another seed"
    if difference:
        raise ConfigError(
            f"'{config.id}' does not behave as its transition table P says: {difference}",
            "env.id, env.kwargs",
            "use an algorithm that steps the environment, such as algo=dqn; or correct P",
        )
    _compared.add(key)


_compared: set[str] = set()
"""The environments whose tables were found to be right."""


def transition_table(config: GymConfig) -> TransitionTable:
    """Return the transition table of a toy-text environment. Raises ConfigError if the environment has none."""
    with opened(config) as env, environment_code(config.id):
        _check_table(env, config.id)
        return _read_table(env)


def _read_table(env: gymnasium.Env) -> TransitionTable:
    base: Any = env.unwrapped
    table, initial = base.P, base.initial_state_distrib
    state_space: Any = env.observation_space
    action_space: Any = env.action_space
    num_states, num_actions = int(state_space.n), int(action_space.n)
    first_state, first_action = int(state_space.start), int(action_space.start)
    limit = time_limit(env) or TABLE_STEPS
    # An environment may count states and actions from another number than 0. The arrays count from 0, as pools do.
    outcomes = [[_of(table, s + first_state, a + first_action) for a in range(num_actions)] for s in range(num_states)]
    width = max(len(of_action) for of_state in outcomes for of_action in of_state)
    shape = (num_states, num_actions, width)
    probability, next_state = np.zeros(shape), np.zeros(shape, np.int64)
    reward, terminated = np.zeros(shape), np.zeros(shape, bool)
    for s in range(num_states):
        for a in range(num_actions):
            for k, (chance, successor, gain, ends) in enumerate(outcomes[s][a]):
                probability[s, a, k], next_state[s, a, k] = chance, successor - first_state
                reward[s, a, k], terminated[s, a, k] = gain, ends
    initial = np.asarray(initial, np.float64)
    # Compiled code uses the numbers as indices and does not check them.
    if ((next_state < 0) | (next_state >= num_states)).any():
        raise ValueError("P leads to a state outside of the observation space")
    if (probability < 0).any():
        raise ValueError("a probability in P is negative")
    if not np.allclose(probability.sum(axis=2), 1, atol=1e-6):
        raise ValueError("the probabilities of an action in P do not sum to 1")
    if initial.shape != (num_states,) or (initial < 0).any() or not np.isclose(initial.sum(), 1, atol=1e-6):
        raise ValueError("initial_state_distrib must have one probability for each state, with sum 1")
    return TransitionTable(probability, next_state, reward, terminated, initial, limit, num_states, num_actions)


def _of(table: Any, state: int, action: int) -> Any:
    """Return the outcomes of an action in P."""
    try:
        return table[state][action]
    except LookupError:
        what = f"P has no outcomes of action {action} in state {state}, which the spaces have"
        raise ValueError(f"{what}; a state that ends episodes needs them, too") from None


def _check_table(env: gymnasium.Env, env_id: str) -> None:
    has_table = all(hasattr(env.unwrapped, name) for name in ("P", "initial_state_distrib"))
    if not (has_table and isinstance(env.observation_space, Discrete) and isinstance(env.action_space, Discrete)):
        raise ConfigError(
            f"'{env_id}' has no transition table",
            "env.id",
            "use taxi, frozen_lake, cliff_walking or maze, or give your environment discrete spaces, P and "
            "initial_state_distrib as in rltrain/envs/maze.py",
        )


def _difference(env: gymnasium.Env, table: TransitionTable, env_id: str) -> str:
    """Step the environment, and return the first difference to the table; empty if there is none."""
    contract, limit = Contract(env, env_id), time_limit(env)
    spaces: Any = (env.observation_space, env.action_space)
    first_state, first_action = (int(space.start) for space in spaces)
    tried: dict[int, list[int]] = {}
    rows: dict[tuple[int, int], list[tuple[float, int, float, bool]]] = {}
    counts_of: dict[tuple[int, int], list[int]] = {}
    first_states = [0] * table.num_states
    order = random.Random(0)
    # How long an episode can go on, in discounted steps: a limit of the environment's own ends only those that last.
    lasting = optimal_q(table._replace(reward=1.0 - table.terminated), gamma=0.9, tolerance=1e-3)
    # How often the most likely state was expected and seen to follow, and the variance of the difference.
    expected = seen = variance = 0.0
    state = length = num_steps = num_episodes = 0
    ended, deadline_s = True, time.monotonic() + COMPARED_S
    while num_steps < COMPARED_STEPS and time.monotonic() < deadline_s:
        if ended:
            # Some environments draw their map only at a reset with a seed.
            state = contract.reset(env.reset(seed=None if num_episodes % 2 else num_episodes)) - first_state
            num_episodes, length = num_episodes + 1, 0
            if table.initial_probability[state] <= 0:
                return f"an episode starts in state {state + first_state}, which initial_state_distrib excludes"
            first_states[state] += 1
        # The action that was tried least in this state reaches more of the table than a random one. Every eighth
        # episode lasts as long as it can.
        counts = tried.setdefault(state, [0] * table.num_actions)
        least = lasting[state].max() - 1e-3 if num_episodes % 8 == 0 else 0.0
        allowed = [action for action in range(table.num_actions) if lasting[state, action] >= least]
        fewest = min(counts[action] for action in allowed)
        action = order.choice([action for action in allowed if counts[action] == fewest])
        counts[action] += 1
        row = rows.get((state, action)) or rows.setdefault((state, action), _row(table, state, action))
        obs, reward, terminated, truncated = contract.step(env.step(action + first_action))
        next_state, length, num_steps = obs - first_state, length + 1, num_steps + 1
        same = [
            next_state == to and terminated == ends and math.isclose(reward, gain, rel_tol=1e-5, abs_tol=1e-6)
            for _, to, gain, ends in row
        ]
        if not any(same):
            end = " and the end of the episode" if terminated else ""
            return (
                f"action {action + first_action} in state {state + first_state} led to state {next_state + first_state}"
                f" with reward {reward:g}{end}, which P does not list"
            )
        counts_of.setdefault((state, action), [0] * len(row))[same.index(True)] += 1
        if truncated and not terminated and length != limit:
            return f"an episode was truncated after {length} steps, which no time limit of gymnasium explains"
        likeliest = max(row)[1]
        chance = min(sum(probability for probability, to, _, _ in row if to == likeliest), 1.0)
        expected, seen = expected + chance, seen + (next_state == likeliest)
        variance += chance * (1 - chance)
        state, ended = next_state, terminated or truncated
    if num_steps < COMPARED_STEPS:
        what = f"'{env_id}' is slow: {num_steps} of its steps were compared with its transition table P"
        notices.warn(f"{what}, from which training and score are computed")
    if abs(seen - expected) > 6 * math.sqrt(variance) + 1e-6 * num_steps:
        return (
            f"the most likely states followed {seen:.0f} times in {num_steps:,} steps, not about {expected:.0f} times"
        )
    if _is_unlikely([_chi_square(first_states, table.initial_probability.tolist())]):
        return f"the first states of {sum(first_states):,} episodes are not as frequent as initial_state_distrib says"
    found = {key: _chi_square(counts, [row[0] for row in rows[key]]) for key, counts in counts_of.items()}
    for (state, action), each in found.items():
        if _is_unlikely([each]):
            row, counts = rows[state, action], counts_of[state, action]
            outcomes = [
                f"{count / sum(counts):.2f} instead of {chance:.2f}"
                for count, (chance, *_) in zip(counts, row, strict=True)
            ]
            where = f"action {action + first_action} in state {state + first_state}"
            return f"the outcomes of {where} have the frequencies {', '.join(outcomes)}"
    if _is_unlikely(list(found.values())):
        return f"outcomes in {num_steps:,} steps are not as frequent as the table says"
    return ""


def _chi_square(counts: list[int], probabilities: list[float]) -> tuple[float, int]:
    """Return Pearson's sum of (seen - expected)^2 / expected, and its degrees of freedom.

    Outcomes that are expected fewer than five times count together, because the sum would depend on single ones.
    """
    pairs = [(sum(counts) * probability, count) for count, probability in zip(counts, probabilities, strict=True)]
    # By the chance alone: the counts must not decide which of equal chances stand together.
    pairs.sort(key=lambda pair: pair[0])
    groups: list[tuple[float, int]] = []
    expected = seen = 0.0
    for chance, count in pairs:
        expected, seen = expected + chance, seen + count
        if expected >= 5:
            groups.append((expected, int(seen)))
            expected = seen = 0.0
    return sum((seen - expected) ** 2 / expected for expected, seen in groups), max(len(groups) - 1, 0)


def _is_unlikely(sums: list[tuple[float, int]]) -> bool:
    """Return True if sums of `_chi_square` are larger together than chance makes them once in a thousand million times.

    The cube root of a chi-square variable is nearly normal (Wilson & Hilferty 1931).
    """
    total, freedom = (sum(values) for values in zip(*sums, strict=True)) if sums else (0.0, 0)
    if not freedom:
        return False
    part = 2 / (9 * freedom)
    return ((total / freedom) ** (1 / 3) - (1 - part)) / math.sqrt(part) > 6


def _row(table: TransitionTable, state: int, action: int) -> list[tuple[float, int, float, bool]]:
    """Return the possible outcomes of an action: (probability, next state, reward, terminated)."""
    arrays = (table.probability, table.next_state, table.reward, table.terminated)
    chances: dict[tuple[int, float, bool], float] = {}
    for chance, *outcome in zip(*(array[state, action].tolist() for array in arrays), strict=True):
        if chance > 0:
            chances[tuple(outcome)] = chances.get(tuple(outcome), 0.0) + chance
    return [(chance, *outcome) for outcome, chance in chances.items()]


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


def evaluate_policy(
    table: TransitionTable, policy: np.ndarray, still_wanted: Callable[[], None] = lambda: None
) -> tuple[float, float]:
    """Return the exact mean and standard deviation of a policy's undiscounted return, over the initial states.

    This is iterative policy evaluation (Sutton & Barto 2018, section 4.1) with one sweep for each step of the time
    limit. Infinitely many evaluation episodes would give the same numbers.

    policy: the action of each state, [S] int, or the probability of each action, [S, A] float. still_wanted: called
    now and then; what it raises ends the evaluation, which takes a minute with a limit of some million steps.
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
    for sweep in range(table.max_episode_steps):
        before = mean, square
        mean_next = mean[next_state]
        square = reward_square + (cross * mean_next).sum(axis=1) + (going_on * square[next_state]).sum(axis=1)
        mean = reward_mean + (going_on * mean_next).sum(axis=1)
        if sweep % 1000 == 999:
            still_wanted()
            if all(map(np.array_equal, before, (mean, square))):
                break  # every further sweep gives the same
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
