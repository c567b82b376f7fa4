"""On-policy Monte Carlo control (Sutton & Barto 2018, section 5.4).

    G_t = r_t + gamma G_{t+1}                                       (eq. 3.9)
    Q(s_t, a_t) += learning_rate * (G_t - Q(s_t, a_t))              (as eq. 6.1, for Q)

    repeat: play an episode epsilon-greedily; store its states, actions and rewards
            from the last step to the first: compute G_t from r_t and G_{t+1}
            update Q(s_t, a_t) towards G_t, at the first visit of (s_t, a_t) or at every visit

Section 5.4 averages the returns of each (s, a). Here a step size replaces the average.

The loop is compiled with numba and needs the environment's transition table.
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
from rltrain.run.checkpoint import rows_like
from rltrain.run.run import Run

__all__ = ["evaluate", "learn", "make_agent", "train"]

STEP = np.dtype([("state", np.int64), ("action", np.int64), ("reward", np.float64)])
"""The dtype of one step of an episode."""


class OpenEpisode:
    """The steps of the current episode. A checkpoint holds them, because the update comes at the end of the episode."""

    def __init__(self, table: TransitionTable) -> None:
        self._table = table
        self.steps = np.zeros(table.max_episode_steps, STEP)

    def state_dict(self) -> dict[str, Any]:
        """Return the steps, [max_episode_steps] STEP."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises ValueError for states or actions of another table."""
        saved = rows_like(self.steps, state["steps"])
        for name, count in (("state", self._table.num_states), ("action", self._table.num_actions)):
            if saved[name].min() < 0 or saved[name].max() >= count:
                raise ValueError(f"the saved episode has a {name} outside 0..{count - 1}")
        self.steps[:] = saved


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
    episode: np.ndarray,
    first_visit: bool,
) -> int:  # pragma: no cover (compiled)
    """Take num_steps steps. Return the number of episodes that ended, which are the first rows of `finished`.

    q: action values, [S, A], updated in place. current: the CURRENT record of parts/walk.py, updated in place.
    episode: the steps of the current episode, [max_episode_steps] STEP. first_visit: update at first visits only.
    """
    num_finished = 0
    first_visit_step = np.zeros(q.shape, np.int64)
    for step in range(first_step, first_step + num_steps):
        state, action, last_t = current.state, current.action, current.length_steps
        next_state, reward, terminated = take_step(table, state, action, generator)
        next_action = choose_action(q[next_state], settings, current, step + 1, generator)
        episode[last_t].state, episode[last_t].action, episode[last_t].reward = state, action, reward

        if terminated or last_t + 1 == table.max_episode_steps:
            # Backwards, so that the earliest visit is written last.
            for t in range(last_t, -1, -1):
                first_visit_step[episode[t].state, episode[t].action] = t
            # At a time limit Q(s', a') estimates the return of the steps that were cut off.
            g = 0.0 if terminated else q[next_state, next_action]
            for t in range(last_t, -1, -1):
                g = episode[t].reward + settings.gamma * g
                state, action = episode[t].state, episode[t].action
                if not first_visit or first_visit_step[state, action] == t:
                    q[state, action] += learning_rate_at(settings, step) * (g - q[state, action])

        row = finished[num_finished]
        num_finished += go_on(
            q, table, settings, current, next_state, next_action, reward, terminated, step, row, generator
        )
    return num_finished


def train(run_config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    config: MonteCarloConfig = run_config.algo
    agent = QTable(transition_table(run_config.env))
    episode = OpenEpisode(agent.table)
    learn_from = partial(learn, episode=episode.steps, first_visit=config.first_visit)
    train_table(run_config, run, agent, learn_from, episode=episode)
