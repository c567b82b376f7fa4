"""Tabular Q-learning (Watkins 1989; Sutton & Barto 2018, section 6.5).

    Q(s, a) += learning_rate * (r + gamma (1 - terminated) max_a' Q(s', a') - Q(s, a))  (Sutton & Barto 2018, eq. 6.8)

    repeat: take action a in state s; observe r and s'
            choose a' in s' epsilon-greedily
            update Q(s, a) towards the greedy value of s', whatever a' is (off-policy)
            s = s', a = a'; if the episode ended, start a new one

The loop chooses a' before the update, as SARSA does. The book chooses it after the update. The choices can differ only
if s' = s. They affect exploration alone, so Q still converges to the same values.

The loop is compiled with numba and needs the environment's transition table. In `sarsa.py` only the target differs.
"""

from typing import Any

import numpy as np

from rltrain.algos.parts.q_table import QTable, evaluate, make_agent, train_table
from rltrain.algos.parts.walk import Settings, choose_action, go_on, learning_rate_at
from rltrain.config.run import RunConfig
from rltrain.envs.tabular.table import TransitionTable, take_step, transition_table
from rltrain.fast.numba_cache import compiled
from rltrain.run.run import Run

__all__ = ["evaluate", "learn", "make_agent", "train"]


@compiled
def learn(
    q: np.ndarray,
    table: TransitionTable,
    settings: Settings,
    current: Any,
    first_step: int,
    num_steps: int,
    finished: np.ndarray,
    generator: np.random.Generator,
) -> int:  # pragma: no cover (compiled)
    """Take num_steps steps. Return the number of episodes that ended, which are the first rows of `finished`.

    q: action values, [S, A], updated in place. current: the CURRENT record of parts/walk.py, updated in place.
    """
    num_finished = 0
    for step in range(first_step, first_step + num_steps):
        state, action = current.state, current.action
        next_state, reward, terminated = take_step(table, state, action, generator)
        next_action = choose_action(q[next_state], settings, current, step + 1, generator)

        discount = 0.0 if terminated else settings.gamma
        target = reward + discount * q[next_state].max()
        q[state, action] += learning_rate_at(settings, step) * (target - q[state, action])

        row = finished[num_finished]
        num_finished += go_on(
            q, table, settings, current, next_state, next_action, reward, terminated, step, row, generator
        )
    return num_finished


def train(run_config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    train_table(run_config, run, QTable(transition_table(run_config.env)), learn)
