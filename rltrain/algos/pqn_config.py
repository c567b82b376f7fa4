"""Settings of `pqn.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.learning_config import LearningConfig
from rltrain.validate import at_least, in_range


@dataclass
class PQNConfig(LearningConfig):
    """Settings of parallel Q-learning."""

    name: str = "pqn"
    num_envs: int = 8
    learning_rate: float = 2.5e-4
    max_grad_norm: float = 10.0
    num_steps: int = 32
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 2
    """Passes over a rollout."""
    batch_size: int = 128
    """Transitions in a minibatch; divides num_envs * num_steps."""
    q_lambda: float = 0.65
    """Weight of longer returns, [0, 1]: 0 looks one step ahead, 1 to the end of the rollout."""
    layer_norm: bool = True
    """Normalise what every layer gives, which takes the place of the target network; false only to see what it does."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over."""
    exploration_fraction: float = 0.1
    """Part of total_steps over which epsilon falls linearly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.q_lambda", self.q_lambda, 0, 1)
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
