"""The walk of a tabular agent through its transition table: what its compiled loops share beside the target."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from rltrain.config.algorithms import TabularConfig
from rltrain.envs.tabular.table import TransitionTable, draw
from rltrain.fast.numba_cache import compiled
from rltrain.math import schedules

_linear = njit(schedules.linear)
_exponential_decay = njit(schedules.exponential_decay)


class Settings(NamedTuple):
    """The numbers of a TabularConfig as compiled code takes them."""

    learning_rate: float
    learning_rate_end: float
    total_steps: int
    gamma: float
    epsilon_start: float
    epsilon_end: float
    exploration_steps: float
    epsilon_decay: float
    epsilon_per_episode: bool


def settings_of(config: TabularConfig, total_steps: int) -> Settings:
    """What compiled code reads, of the type that it was compiled for."""
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
        epsilon_per_episode=config.epsilon_schedule == "exponential",
    )


PLACE = np.dtype(
    [
        ("state", np.int64),
        ("action", np.int64),
        ("epsilon", np.float64),
        ("reward_sum", np.float64),
        ("length_steps", np.int64),
        ("num_episodes", np.int64),
    ]
)
"""Where a walk stands: the open episode's state and the action chosen in it, its return and length so far."""

FINISHED = np.dtype([("step", np.int64), ("reward_sum", np.float64), ("length_steps", np.int64)])
"""A finished episode and the step that ended it."""


class Walk:
    """Where the walk stands; a checkpoint holds it, so that a resumed run goes on in mid-episode."""

    def __init__(self) -> None:
        self._places = np.zeros(1, PLACE)

    @property
    def place(self) -> Any:
        """The record that compiled code changes in place."""
        return self._places[0]

    def state_dict(self) -> dict[str, Any]:
        """The record."""
        return {"place": self._places}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._places[:] = state["place"]


@njit
def learning_rate_at(settings: Settings, step: int) -> float:  # pragma: no cover (compiled)
    """Step size of the table's update."""
    return _linear(step, settings.learning_rate, settings.learning_rate_end, settings.total_steps)


@njit
def epsilon_at(settings: Settings, step: int, num_episodes: int) -> float:  # pragma: no cover (compiled)
    """Share of random actions, by steps or by finished episodes."""
    if settings.epsilon_per_episode:
        return _exponential_decay(num_episodes, settings.epsilon_start, settings.epsilon_end, settings.epsilon_decay)
    return _linear(step, settings.epsilon_start, settings.epsilon_end, settings.exploration_steps)


@njit
def choose_action(
    q_A: np.ndarray, settings: Settings, place: Any, step: int, generator: np.random.Generator
) -> int:  # pragma: no cover (compiled)
    """Epsilon-greedy: a random action with probability epsilon, else the best (the first of equals).

    q_A: values of the state's actions, [A] float64. step: the one that the action is for.
    """
    place.epsilon = epsilon_at(settings, step, place.num_episodes)
    if generator.random() < place.epsilon:
        return int(generator.random() * len(q_A))
    return int(np.argmax(q_A))


@compiled
def begin(
    q: np.ndarray, table: TransitionTable, settings: Settings, place: Any, step: int, generator: np.random.Generator
) -> None:  # pragma: no cover (compiled)
    """Start an episode: draw its state and choose the first action."""
    place.state = draw(table.initial_probability, generator)
    place.action = choose_action(q[place.state], settings, place, step, generator)
    place.reward_sum = 0.0
    place.length_steps = 0


@njit
def go_on(
    q: np.ndarray,
    table: TransitionTable,
    settings: Settings,
    place: Any,
    next_state: int,
    next_action: int,
    reward: float,
    terminated: bool,
    step: int,
    finished: Any,
    generator: np.random.Generator,
) -> int:  # pragma: no cover (compiled)
    """Enter the next state, or a new episode where this one ended; returns how many ended, 0 or 1.

    A time limit ends the episode too, but not the value of what would have come: the target is made before.
    """
    place.state, place.action = next_state, next_action
    place.reward_sum += reward
    place.length_steps += 1
    if not terminated and place.length_steps < table.max_episode_steps:
        return 0
    finished.step, finished.reward_sum, finished.length_steps = step + 1, place.reward_sum, place.length_steps
    place.num_episodes += 1
    begin(q, table, settings, place, step + 1, generator)
    return 1
