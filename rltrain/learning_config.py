"""The settings that all algorithms with a network share; each gives its own values to the first four."""

from dataclasses import dataclass

from rltrain.validate import at_least, in_range


@dataclass
class LearningConfig:
    """Settings of an algorithm that learns by gradients."""

    name: str
    num_envs: int
    """Environments stepped side by side."""
    learning_rate: float
    """The optimizer's step size at the first step."""
    max_grad_norm: float
    """Gradients are scaled down to this global L2 norm."""
    learning_rate_end: float | None = None
    """Linear schedule of learning_rate to this value at the last step; null: constant."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    reward_scale: float = 1.0
    """What is learned from is the reward times this; what is logged is raw."""
    reward_clip: float | None = None
    """What is learned from is clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        at_least("algo.num_envs", self.num_envs, 1)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        at_least("algo.max_grad_norm", self.max_grad_norm, 1e-12)
        at_least("algo.learning_rate_end", self.learning_rate_end, 0)
        in_range("algo.gamma", self.gamma, 0, 1)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)
