"""On-policy Monte Carlo control (Sutton & Barto 2018, section 5.4, with a constant step size as in eq. 6.1).

    Q(s_t, a_t) += learning_rate * (G_t - Q(s_t, a_t)),   G_t = r_t + gamma G_{t+1}

    repeat: play an episode epsilon-greedily and keep its states, actions and rewards
            at its end walk back: the return of each step is its reward and what followed
            update the table towards the returns, of first visits or of every visit

The loop is compiled: environments with a table of transitions need no emulator.
"""

from functools import partial
from typing import Any

import numpy as np

from rltrain.algos.parts.q_table import QTable, evaluate, make_agent, train_table
from rltrain.algos.parts.walk import Settings, choose_action, go_on, learning_rate_at
from rltrain.config.algorithms import MonteCarloConfig
from rltrain.config.run import RunConfig
from rltrain.envs.tabular.table import TransitionTable, take_step, transition_table
from rltrain.fast.numba_cache import compiled
from rltrain.run.run import Run

__all__ = ["evaluate", "learn", "make_agent", "train"]

STEP = np.dtype([("state", np.int64), ("action", np.int64), ("reward", np.float64)])
"""One step of an episode."""


class OpenEpisode:
    """The steps of the open episode; a checkpoint holds them, as nothing was learned from them yet."""

    def __init__(self, max_episode_steps: int) -> None:
        self.steps = np.zeros(max_episode_steps, STEP)

    def state_dict(self) -> dict[str, Any]:
        """The steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.steps[:] = state["steps"]


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
    episode: np.ndarray,
    first_visit: bool,
) -> int:  # pragma: no cover (compiled)
    """Take num_steps steps, updating q [S, A] and place; returns how many episodes finished, the rows of `finished`.

    episode: the steps of the open episode, [max_episode_steps] STEP.
    """
    num_finished = 0
    first_index = np.zeros(q.shape, np.int64)
    for step in range(first_step, first_step + num_steps):
        state, action, last = place.state, place.action, place.length_steps
        next_state, reward, terminated = take_step(table, state, action, generator)
        next_action = choose_action(q[next_state], settings, place, step + 1, generator)
        episode[last].state, episode[last].action, episode[last].reward = state, action, reward

        if terminated or last + 1 == table.max_episode_steps:
            for t in range(last, -1, -1):
                first_index[episode[t].state, episode[t].action] = t
            # A time limit cuts the episode, not its value: the table's own estimate stands for the rest.
            future = 0.0 if terminated else q[next_state, next_action]
            for t in range(last, -1, -1):
                future = episode[t].reward + settings.gamma * future
                state, action = episode[t].state, episode[t].action
                if not first_visit or first_index[state, action] == t:
                    q[state, action] += learning_rate_at(settings, step) * (future - q[state, action])

        row = finished[num_finished]
        num_finished += go_on(
            q, table, settings, place, next_state, next_action, reward, terminated, step, row, generator
        )
    return num_finished


def train(run_config: RunConfig, run: Run) -> None:
    """Learn in compiled chunks until total_steps are done."""
    config: MonteCarloConfig = run_config.algo
    agent = QTable(transition_table(run_config.env))
    episode = OpenEpisode(agent.table.max_episode_steps)
    learn_from = partial(learn, episode=episode.steps, first_visit=config.first_visit)
    train_table(run_config, run, agent, learn_from, episode=episode)
