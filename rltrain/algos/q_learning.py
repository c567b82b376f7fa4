"""Tabular Q-learning (Watkins 1989; Sutton & Barto 2018, section 6.5).

    Q(s, a) += learning_rate * (r + gamma (1 - terminated) max_a' Q(s', a') - Q(s, a))

    repeat: act in s; observe r and s'
            choose a' in s' epsilon-greedily
            update the table towards the greedy value of s' (off-policy: whatever a' is)
            go on from s' with a', or from a new start where the episode ended

a' is chosen before the update, as SARSA needs it. Where s' is s, the book's loop would choose by the table after it: a
matter of exploring, which off-policy learning does not mind.

The loop is compiled: environments with a table of transitions need no emulator. `sarsa.py` differs in its target.
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
    place: Any,
    first_step: int,
    num_steps: int,
    finished: np.ndarray,
    generator: np.random.Generator,
) -> int:  # pragma: no cover (compiled)
    """Take num_steps steps, updating q [S, A] and place; returns how many episodes finished, the rows of `finished`."""
    num_finished = 0
    for step in range(first_step, first_step + num_steps):
        state, action = place.state, place.action
        next_state, reward, terminated = take_step(table, state, action, generator)
        next_action = choose_action(q[next_state], settings, place, step + 1, generator)

        discount = 0.0 if terminated else settings.gamma
        target = reward + discount * q[next_state].max()
        q[state, action] += learning_rate_at(settings, step) * (target - q[state, action])

        row = finished[num_finished]
        num_finished += go_on(
            q, table, settings, place, next_state, next_action, reward, terminated, step, row, generator
        )
    return num_finished


def train(run_config: RunConfig, run: Run) -> None:
    """Learn in compiled chunks until total_steps are done."""
    train_table(run_config, run, QTable(transition_table(run_config.env)), learn)
