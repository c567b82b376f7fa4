"""Tabular Q-learning (Watkins 1989; Sutton & Barto 2018, section 6.5).

    Q(s, a) += learning_rate * (r + gamma (1 - terminated) max_a' Q(s', a') - Q(s, a))

    repeat: act epsilon-greedily in s; observe r and s'
            update the table towards the greedy value of s' (off-policy: whatever is done next)
            go on from s', or from a new start where the episode ended

The loop is compiled: environments with a table of transitions need no emulator.
"""

from typing import Any

import numpy as np
from numba import njit

from rltrain import panel
from rltrain.algos.q_learning_config import QLearningConfig
from rltrain.config import RunConfig
from rltrain.envs.pool import Episode
from rltrain.envs.tabular import TransitionTable, evaluate_policy, transition_table
from rltrain.run import Run

CHUNK_STEPS = 10_000
"""Steps between looks at logs, evaluations and signals."""


class QTable:
    """The table, [states, actions] float64."""

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.q = np.zeros((num_states, num_actions))

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Greedy actions [B] for states [B]; a table's policy has no other form, so `greedy` changes nothing."""
        return self.q[obs].argmax(axis=-1)

    def state_dict(self) -> dict[str, Any]:
        """The table."""
        return {"q_table": self.q}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.q[:] = state["q_table"]


def make_agent(run_config: RunConfig, frame_space: Any, action_space: Any, seed: int) -> QTable:
    """An empty table of the right size."""
    return QTable(int(frame_space.n), int(action_space.n))


def evaluate(run_config: RunConfig, agent: QTable, episodes: int, seed: int, greedy: bool) -> dict[str, Any]:
    """The greedy policy's exact return on the table of transitions: no episodes are played, so there is no noise.

    `episodes` of the result counts the possible starts, each of which is followed along every outcome.
    """
    table = transition_table(run_config.env)
    mean, std = evaluate_policy(table, agent.q.argmax(axis=-1))
    return {"mean_reward": mean, "std_reward": std, "episodes": int(np.count_nonzero(table.initial_probability))}


@njit(cache=True)
def learn(
    q: np.ndarray,
    probability: np.ndarray,
    next_state: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    initial_cumulative: np.ndarray,
    max_episode_steps: int,
    learning_rate: float,
    gamma: float,
    epsilon_start: float,
    epsilon_end: float,
    exploration_steps: float,
    step: int,
    num_steps: int,
    episode: np.ndarray,
    finished: np.ndarray,
    generator: np.random.Generator,
) -> int:  # pragma: no cover (compiled)
    """Take num_steps steps from `step` on, updating q [S, A] in place; returns how many episodes finished.

    probability, next_state, reward, terminated: outcomes of every state and action, [S, A, K].
    episode: [3] float64, carried between calls: state (-1: begin a new episode), return so far, length so far.
    finished: [num_steps, 3] float64, filled with step, return and length of the episodes that ended.
    """
    num_finished = 0
    for _ in range(num_steps):
        if episode[0] < 0:
            episode[0] = np.searchsorted(initial_cumulative, generator.random(), side="right")
            episode[1] = episode[2] = 0.0
        state = int(episode[0])

        epsilon = max(epsilon_end, epsilon_start + (epsilon_end - epsilon_start) * step / exploration_steps)
        explores = generator.random() < epsilon
        action = int(generator.random() * q.shape[1]) if explores else int(np.argmax(q[state]))

        outcome, threshold = 0, generator.random()
        while outcome + 1 < probability.shape[2] and threshold >= probability[state, action, outcome]:
            threshold -= probability[state, action, outcome]
            outcome += 1
        successor = next_state[state, action, outcome]
        ends = terminated[state, action, outcome]

        discount = 0.0 if ends else gamma
        target = reward[state, action, outcome] + discount * q[successor].max()
        q[state, action] += learning_rate * (target - q[state, action])

        step += 1
        episode[0] = successor
        episode[1] += reward[state, action, outcome]
        episode[2] += 1
        if ends or episode[2] >= max_episode_steps:  # a time limit ends the episode, not the value beyond it
            finished[num_finished, 0] = step
            finished[num_finished, 1:] = episode[1:]
            num_finished += 1
            episode[0] = -1
    return num_finished


class Walk:
    """Where the walk through the table stands; a checkpoint holds it, so that a resumed run goes on in mid-episode."""

    def __init__(self) -> None:
        self.episode = np.array([-1.0, 0.0, 0.0])

    def state_dict(self) -> dict[str, Any]:
        """State, return and length of the open episode."""
        return {"episode": self.episode}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.episode[:] = state["episode"]


def train(run_config: RunConfig, run: Run) -> None:
    """The loop, in compiled chunks, until total_steps are done."""
    config: QLearningConfig = run_config.algo
    table: TransitionTable = transition_table(run_config.env)
    agent = QTable(table.num_states, table.num_actions)
    walk = Walk()
    run.restore(agent, walk=walk)
    if run_config.progress:
        facts = {"algorithm": "q_learning", "environment": run_config.env.name, "table": f"{agent.q.shape}"}
        panel.show_start(run.folder, facts)
    generator = run.generator("exploration")
    initial_cumulative = np.cumsum(table.initial_probability)
    initial_cumulative[-1] = np.inf  # rounding must not leave a draw above the last start
    exploration_steps = config.exploration_fraction * run_config.total_steps
    while not run.finished:
        num_steps = min(CHUNK_STEPS, run_config.total_steps - run.step)
        finished = np.empty((num_steps, 3))
        with run.phase("learn"):
            count = learn(
                agent.q,
                table.probability,
                table.next_state,
                table.reward,
                table.terminated,
                initial_cumulative,
                table.max_episode_steps,
                config.learning_rate,
                config.gamma,
                config.epsilon_start,
                config.epsilon_end,
                exploration_steps,
                run.step,
                num_steps,
                walk.episode,
                finished,
                generator,
            )
        episodes = [Episode(0, row[1], int(row[2]), int(row[2])) for row in finished[:count]]
        run.advance(num_steps, episodes)
        run.record({"train/q_mean": float(agent.q.mean())})
        run.after_step(num_steps, agent, walk=walk)
    run.conclude(agent, walk=walk)
