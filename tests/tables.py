"""Hand-made transition tables, and the compiled loops run on them without a run around."""

import numpy as np

from rltrain.algos import monte_carlo, q_learning, sarsa
from rltrain.algos.parts.walk import FINISHED, Walk, begin, settings_of
from rltrain.config.algorithms import ALGOS
from rltrain.envs.tabular.table import TransitionTable

LEARN = {"q_learning": q_learning.learn, "sarsa": sarsa.learn, "monte_carlo": monte_carlo.learn}


def table_of(next_state, reward, terminated, probability=None, initial=None, limit=100) -> TransitionTable:
    """A table from nested lists [S, A] (or [S, A, K]); it starts in state 0 unless told."""
    next_state, reward, terminated = (np.asarray(values) for values in (next_state, reward, terminated))
    if next_state.ndim == 2:
        next_state, reward, terminated = next_state[..., None], reward[..., None], terminated[..., None]
    probability = np.ones(next_state.shape) if probability is None else np.asarray(probability, float)
    initial = np.eye(len(next_state))[0] if initial is None else np.asarray(initial, float)
    num_states, num_actions = next_state.shape[:2]
    return TransitionTable(
        probability, next_state.astype(np.int64), reward.astype(float), terminated.astype(bool), initial, limit,
        num_states, num_actions,
    )  # fmt: skip


def chain(rewards, terminates=True, limit=100) -> TransitionTable:
    """One action that walks from state to state and gives these rewards; the last step ends, or stays."""
    last = len(rewards) - 1
    states = [[min(state + 1, last)] for state in range(len(rewards))]
    ends = [[terminates and state == last] for state in range(len(rewards))]
    return table_of(states, [[reward] for reward in rewards], ends, limit=limit)


def play(algo, table, num_steps, q=None, chunk=10_000, seed=0, **fields):
    """Learn for num_steps; returns q [S, A] and the finished episodes."""
    config = ALGOS[algo](**fields)
    settings, walk, generator = settings_of(config, num_steps), Walk(table), np.random.default_rng(seed)
    q = np.zeros((table.num_states, table.num_actions)) if q is None else q
    begin(q, table, settings, walk.current, 0, generator)
    more = (np.zeros(table.max_episode_steps, monte_carlo.STEP), config.first_visit) if algo == "monte_carlo" else ()
    episodes = []
    for step in range(0, num_steps, chunk):
        finished, steps = np.zeros(chunk, FINISHED), min(chunk, num_steps - step)
        count = LEARN[algo](q, table, settings, walk.current, step, steps, finished, generator, *more)
        episodes.append(finished[:count])
    return q, np.concatenate(episodes)
