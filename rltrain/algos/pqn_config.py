"""Settings of `pqn.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.validate import at_least, in_range


@dataclass
class PQNConfig:
    """Settings of parallel Q-learning."""

    name: str = "pqn"
    num_envs: int = 8
    """Environments stepped side by side."""
    num_steps: int = 32
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 2
    """Passes over a rollout."""
    batch_size: int = 128
    """Transitions in a minibatch; divides num_envs * num_steps."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    q_lambda: float = 0.65
    """Weight of longer returns, [0, 1]: 0 looks one step ahead, 1 to the end of the rollout."""
    learning_rate: float = 2.5e-4
    """RAdam's step size at the first step."""
    learning_rate_end: float | None = None
    """Linear schedule of learning_rate to this value at the last step; null: constant."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this global L2 norm."""
    layer_norm: bool = True
    """Normalise what every layer gives, which takes the place of the target network; false only to see what it does."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over."""
    exploration_fraction: float = 0.1
    """Part of total_steps over which epsilon falls linearly."""
    reward_scale: float = 1.0
    """What is learned from is the reward times this; what is logged is raw."""
    reward_clip: float | None = None
    """What is learned from is clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        in_range("algo.gamma", self.gamma, 0, 1)
        in_range("algo.q_lambda", self.q_lambda, 0, 1)
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        for key in ("num_envs", "num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.max_grad_norm", self.max_grad_norm, 1e-9)
        at_least("algo.learning_rate_end", self.learning_rate_end, 0)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)
