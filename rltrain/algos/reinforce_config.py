"""Settings of `reinforce.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.validate import at_least, in_range, one_of


@dataclass
class ReinforceConfig:
    """Settings of REINFORCE."""

    name: str = "reinforce"
    num_envs: int = 8
    """Environments stepped side by side."""
    batch_size: int = 1000
    """Agent steps of a batch, at least: its episodes are whole."""
    baseline: bool = False
    """Learn a value of each state and subtract it from the return, which lowers the variance and not the mean."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    optimizer: str = "adam"
    """rmsprop or adam."""
    learning_rate: float = 2e-3
    """The optimizer's step size."""
    optimizer_eps: float = 1e-8
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the baseline's loss (half the mean squared error)."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this global L2 norm."""
    normalize_advantage: bool = True
    """What multiplies log pi is brought to mean 0 and deviation 1 over each batch."""
    reward_scale: float = 1.0
    """What is learned from is the reward times this; what is logged is raw."""
    reward_clip: float | None = None
    """What is learned from is clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        in_range("algo.gamma", self.gamma, 0, 1)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        for key in ("num_envs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        for key in ("optimizer_eps", "max_grad_norm"):
            at_least(f"algo.{key}", getattr(self, key), 1e-12)
        for key in ("value_weight", "entropy_weight"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)
