"""The tabular agent, its exact evaluation, and the training loop around the compiled `learn` functions of `algos/`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rltrain.algos.parts import table_view
from rltrain.algos.parts.walk import FINISHED, Walk, begin, settings_of
from rltrain.config.algorithms import TabularConfig
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Episode
from rltrain.envs.tabular.table import TransitionTable, evaluate_policy, transition_table
from rltrain.math.schedules import linear_or_constant
from rltrain.run.checkpoint import Stateful, rows_like
from rltrain.run.evaluation import Interrupted
from rltrain.run.run import Run

CHUNK_STEPS = 10_000
"""The most steps in one call of `learn`. Signals and logs are handled between two calls."""


class QTable:
    """A table of action values, [states, actions] float64, and the transition table of its environment."""

    def __init__(self, table: TransitionTable) -> None:
        self.table = table
        self.q = np.zeros((table.num_states, table.num_actions))

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return greedy actions [B] int64 for states [B] int64. `greedy` is ignored."""
        return self.q[obs].argmax(axis=-1)

    def state_dict(self) -> dict[str, Any]:
        """Return the table of action values."""
        return {"q_table": self.q}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises ValueError for another shape or dtype."""
        self.q[:] = rows_like(self.q, state["q_table"])


def make_agent(run_config: RunConfig, frame_space: Any, action_space: Any, seed: int) -> QTable:
    """Return a table of zeros for the environment. Raises ConfigError if the environment has no transition table."""
    return QTable(transition_table(run_config.env))


def evaluate(
    run_config: RunConfig, agent: QTable, episodes: int, seed: int, greedy: bool, stopping: Callable[[int], bool]
) -> dict[str, Any]:
    """Return the exact mean and standard deviation of the greedy policy's return, from the transition table.

    No episodes are played. "episodes" in the result is the number of possible start states. The arguments `episodes`,
    `seed` and `greedy` are ignored. Raises Interrupted when `stopping` returns True.
    """

    def still_wanted() -> None:
        if stopping(0):
            raise Interrupted

    mean, std = evaluate_policy(agent.table, agent.q.argmax(axis=-1), still_wanted)
    starts = int(np.count_nonzero(agent.table.initial_probability))
    return {"mean_reward": mean, "std_reward": std, "episodes": starts}


def train_table(config: RunConfig, run: Run, agent: QTable, learn: Callable[..., int], **parts: Stateful) -> None:
    """Train until `total_steps` by calling the compiled loop `learn` again and again.

    parts: what `learn` changes besides the table and the walk; checkpoints hold it.
    """
    c: TabularConfig = config.algo
    table, walk = agent.table, Walk(agent.table)
    settings = settings_of(c, config.total_steps)
    generator = run.generator("exploration")
    if not run.begin(agent, walk=walk, **parts):
        begin(agent.q, table, settings, walk.current, 0, generator)
    finished = np.zeros(CHUNK_STEPS, FINISHED)
    while not run.finished:
        show_step = config.progress and run.step < c.show_steps
        num_steps = 1 if show_step else _steps_until_due(config, run.step)
        before = walk.current.copy()
        with run.phase("learn"):
            count = learn(agent.q, table, settings, walk.current, run.step, num_steps, finished, generator)
        _advance(run, num_steps, finished[:count])
        if show_step:
            table_view.show_step(config.env, run.step, before, agent.q)
        learning_rate = linear_or_constant(run.step, c.learning_rate, c.learning_rate_end, config.total_steps)
        run.record({"train/q_mean": float(agent.q.mean()), "rollout/exploration_rate": float(walk.current["epsilon"])})
        run.record({"train/learning_rate": learning_rate})
        run.after_step(num_steps)
    table_view.write_csv(config.env, agent.q, run.folder / "q_table.csv")
    if config.progress:
        table_view.show_policy(config.env, agent.q)


def _steps_until_due(config: RunConfig, step: int) -> int:
    """Return the steps to the next log, evaluation or checkpoint, at most CHUNK_STEPS."""
    every = (CHUNK_STEPS, config.log_every_steps, config.eval_every_steps, config.checkpoint_every_steps)
    return min(config.total_steps - step, *(steps - step % steps for steps in every if steps))


def _advance(run: Run, num_steps: int, finished: np.ndarray) -> None:
    """Count num_steps steps of the run. Each episode of `finished` counts at the step that ended it."""
    end = run.step + num_steps
    for step, reward_sum, length_steps in finished.tolist():
        run.advance(step - run.step, [Episode(0, reward_sum, length_steps, length_steps)])
    run.advance(end - run.step, [])
