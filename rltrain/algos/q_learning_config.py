"""Settings of `q_learning.py`, apart from it so that composing a configuration imports no numba."""

from dataclasses import dataclass

from rltrain.errors import ConfigError
from rltrain.validate import in_range


@dataclass
class QLearningConfig:
    """Settings of tabular Q-learning."""

    name: str = "q_learning"
    learning_rate: float = 0.7
    """Step size of the table update, (0, 1]. 0.7 is exact enough where transitions are deterministic (Taxi)."""
    gamma: float = 0.99
    """Discount per step, [0, 1]."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step, [0, 1]."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over, [0, 1]."""
    exploration_fraction: float = 0.5
    """Part of total_steps over which epsilon falls linearly, (0, 1]."""

    num_envs: int = 1
    """A table is updated step by step: one environment."""
    batch_size: int = 1
    """One transition an update, by definition."""

    def __post_init__(self) -> None:
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        in_range("algo.gamma", self.gamma, 0, 1)
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        if self.num_envs != 1 or self.batch_size != 1:
            raise ConfigError(
                "q_learning updates its table one transition at a time",
                "num_envs, batch_size",
                "leave both at 1, or use algo=dqn",
            )
