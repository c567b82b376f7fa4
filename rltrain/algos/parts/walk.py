"""The walk of a tabular agent through a transition table: everything but the update rule, compiled with numba."""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit

from rltrain.config.algorithms import TabularConfig
from rltrain.envs.tabular.table import TransitionTable, draw
from rltrain.errors import ConfigError
from rltrain.fast.numba_cache import compiled
from rltrain.math import schedules
from rltrain.run.checkpoint import rows_like

_linear = njit(schedules.linear)
_exponential_decay = njit(schedules.exponential_decay)


class Settings(NamedTuple):
    """The settings that compiled code reads. numba needs a tuple of plain numbers."""

    learning_rate: float
    learning_rate_end: float
    total_steps: int
    gamma: float
    epsilon_start: float
    epsilon_end: float
    exploration_steps: float
    epsilon_decay: float
    exponential_epsilon: bool
    """True: epsilon falls exponentially, by episodes. False: it falls linearly, by steps."""


def settings_of(config: TabularConfig, total_steps: int) -> Settings:
    """Return the settings of a TabularConfig. An integer from YAML becomes a float, so that numba compiles once."""
    end = config.learning_rate if config.learning_rate_end is None else config.learning_rate_end
    return Settings(
        learning_rate=float(config.learning_rate),
        learning_rate_end=float(end),
        total_steps=total_steps,
        gamma=float(config.gamma),
        epsilon_start=float(config.epsilon_start),
        epsilon_end=float(config.epsilon_end),
        exploration_steps=float(config.exploration_fraction * total_steps),
        epsilon_decay=float(config.epsilon_decay),
        exponential_epsilon=config.epsilon_schedule == "exponential",
    )


CURRENT = np.dtype(
    [
        ("state", np.int64),
        ("action", np.int64),
        ("epsilon", np.float64),
        ("reward_sum", np.float64),
        ("length_steps", np.int64),
        ("num_episodes", np.int64),
    ]
)
"""The dtype of a walk's record: the current state, the action chosen in it, epsilon, the return and length of the
current episode so far, and the number of finished episodes."""

FINISHED = np.dtype([("step", np.int64), ("reward_sum", np.float64), ("length_steps", np.int64)])
"""The dtype of a finished episode: the agent step that ended it, its return and its length."""


class Walk:
    """The current state of a walk. A checkpoint holds it, so that a resumed run continues in the same episode."""

    def __init__(self, table: TransitionTable) -> None:
        """Raises ConfigError if numba compiles nothing."""
        if numba.config.DISABLE_JIT:  # the attributes of a record exist in compiled code only
            what = "tables need numba's compiler, and NUMBA_DISABLE_JIT is set"
            raise ConfigError(what, "NUMBA_DISABLE_JIT", "unset it")
        self._table = table
        self._records = np.zeros(1, CURRENT)

    @property
    def current(self) -> Any:
        """The CURRENT record, which compiled code changes in place."""
        return self._records[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the CURRENT record. Checkpoints call it `place`."""
        return {"place": self._records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises ValueError for a state, action or length that the table does not have: compiled code would use it to
        index memory.
        """
        [saved] = rows_like(self._records, state["place"])
        table = self._table
        if not 0 <= saved["state"] < table.num_states or not 0 <= saved["action"] < table.num_actions:
            raise ValueError(f"the walk is at state {saved['state']}, action {saved['action']}")
        if not 0 <= saved["length_steps"] < table.max_episode_steps or saved["num_episodes"] < 0:
            raise ValueError(f"the walk's episode {saved['num_episodes']} has {saved['length_steps']} steps")
        self._records[:] = saved


@njit
def learning_rate_at(settings: Settings, step: int) -> float:  # pragma: no cover (compiled)
    """Return the learning rate at agent step `step`."""
    return _linear(step, settings.learning_rate, settings.learning_rate_end, settings.total_steps)


@njit
def epsilon_at(settings: Settings, step: int, num_episodes: int) -> float:  # pragma: no cover (compiled)
    """Return epsilon at agent step `step` or after `num_episodes` episodes, whichever the schedule counts."""
    if settings.exponential_epsilon:
        return _exponential_decay(num_episodes, settings.epsilon_start, settings.epsilon_end, settings.epsilon_decay)
    return _linear(step, settings.epsilon_start, settings.epsilon_end, settings.exploration_steps)


@njit
def choose_action(
    q_A: np.ndarray, settings: Settings, current: Any, step: int, generator: np.random.Generator
) -> int:  # pragma: no cover (compiled)
    """Return an epsilon-greedy action and store epsilon in `current`. Of equal values, the first action is greedy.

    q_A: values of the state's actions, [A] float64. step: the agent step that takes the action.
    """
    current.epsilon = epsilon_at(settings, step, current.num_episodes)
    if generator.random() < current.epsilon:
        return int(generator.random() * len(q_A))
    return int(np.argmax(q_A))


@compiled
def begin(
    q: np.ndarray, table: TransitionTable, settings: Settings, current: Any, step: int, generator: np.random.Generator
) -> None:  # pragma: no cover (compiled)
    """Start an episode: draw its first state and choose its first action."""
    current.state = draw(table.initial_probability, generator)
    current.action = choose_action(q[current.state], settings, current, step, generator)
    current.reward_sum = 0.0
    current.length_steps = 0


@njit
def go_on(
    q: np.ndarray,
    table: TransitionTable,
    settings: Settings,
    current: Any,
    next_state: int,
    next_action: int,
    reward: float,
    terminated: bool,
    step: int,
    finished: Any,
    generator: np.random.Generator,
) -> int:  # pragma: no cover (compiled)
    """Move to the next state and action, or start a new episode if this one has terminated or reached its time limit.

    Call it after the update. Return 1 and fill the record `finished` if the episode has ended, else return 0.
    """
    current.state, current.action = next_state, next_action
    current.reward_sum += reward
    current.length_steps += 1
    if not terminated and current.length_steps < table.max_episode_steps:
        return 0
    finished.step, finished.reward_sum, finished.length_steps = step + 1, current.reward_sum, current.length_steps
    current.num_episodes += 1
    begin(q, table, settings, current, step + 1, generator)
    return 1
