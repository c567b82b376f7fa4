"""The settings that all tabular algorithms share."""

from dataclasses import dataclass

from rltrain.errors import ConfigError
from rltrain.validate import at_least, in_range, one_of


@dataclass
class TabularConfig:
    """Settings of an algorithm that keeps a table of action values."""

    name: str
    learning_rate: float = 0.1
    """Step size of the table update at the first step, (0, 1]. Near 1 is right where transitions are deterministic."""
    learning_rate_end: float | None = None
    """Step size at the last step, reached in a straight line, [0, 1]; null keeps it as it is. Where outcomes are drawn
    or the policy explores, a small one averages the noise away."""
    gamma: float = 0.99
    """Discount per step, [0, 1]."""
    epsilon_schedule: str = "linear"
    """linear: from epsilon_start to epsilon_end in a straight line over steps; exponential: epsilon_end +
    (epsilon_start - epsilon_end) * exp(-epsilon_decay * episode), the lessons' form. Equal ends keep it constant."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step, [0, 1]."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over, [0, 1]."""
    exploration_fraction: float = 0.5
    """linear only: part of total_steps over which epsilon falls, (0, 1]."""
    epsilon_decay: float = 0.01
    """exponential only: rate per episode, at least 0."""
    show_steps: int = 0
    """Steps at the beginning after each of which the terminal shows the table."""

    num_envs: int = 1
    """A table is updated step by step: one environment."""
    batch_size: int = 1
    """One transition an update, by definition."""

    def __post_init__(self) -> None:
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        if self.learning_rate_end is not None:
            in_range("algo.learning_rate_end", self.learning_rate_end, 0, 1)
        in_range("algo.gamma", self.gamma, 0, 1)
        one_of("algo.epsilon_schedule", self.epsilon_schedule, ("linear", "exponential"))
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        at_least("algo.epsilon_decay", self.epsilon_decay, 0)
        at_least("algo.show_steps", self.show_steps, 0)
        if self.num_envs != 1 or self.batch_size != 1:
            raise ConfigError(
                f"{self.name} updates its table one transition at a time",
                "num_envs, batch_size",
                "leave both at 1, or use algo=dqn",
            )
