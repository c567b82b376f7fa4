"""Settings of `a3c.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.errors import ConfigError
from rltrain.validate import at_least, in_range, one_of


@dataclass
class A3CConfig:
    """Settings of asynchronous advantage actor-critic."""

    name: str = "a3c"
    num_workers: int = 4
    """Processes that act and learn on the shared parameters, each on one thread."""
    num_envs: int = 4
    """Environments over all workers; each steps num_envs / num_workers of them side by side."""
    num_steps: int = 20
    """Agent steps of each environment in one rollout."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    gae_lambda: float = 1.0
    """Weight of longer advantage estimates, [0, 1]; 1 is the n-step return of Mnih et al. 2016."""
    optimizer: str = "rmsprop"
    """rmsprop or adam."""
    learning_rate: float = 7e-4
    """The optimizer's step size at the first step."""
    learning_rate_end: float | None = None
    """Linear schedule of learning_rate to this value at the last step; null: constant."""
    optimizer_eps: float = 1e-5
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this global L2 norm."""
    normalize_advantage: bool = False
    """Advantages are brought to mean 0 and deviation 1 over each rollout."""
    reward_scale: float = 1.0
    """What is learned from is the reward times this; what is logged is raw."""
    reward_clip: float | None = None
    """What is learned from is clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        in_range("algo.gamma", self.gamma, 0, 1)
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        for key in ("num_workers", "num_envs", "num_steps"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        for key in ("optimizer_eps", "max_grad_norm"):
            at_least(f"algo.{key}", getattr(self, key), 1e-12)
        for key in ("value_weight", "entropy_weight", "learning_rate_end"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)
        if self.num_envs % self.num_workers:
            raise ConfigError(
                f"{self.num_envs} environments cannot be shared evenly by {self.num_workers} workers",
                "num_envs, algo.num_workers",
                f"use num_envs={self.num_workers * max(1, round(self.num_envs / self.num_workers))}",
            )
