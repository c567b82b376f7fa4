"""Settings of `ppo.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.validate import at_least, in_range


@dataclass
class PPOConfig:
    """Settings of proximal policy optimization."""

    name: str = "ppo"
    num_envs: int = 8
    """Environments stepped side by side."""
    num_steps: int = 128
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 4
    """Passes over a rollout."""
    batch_size: int = 256
    """Transitions in a minibatch; divides num_envs * num_steps."""
    gamma: float = 0.99
    """Discount per agent step, [0, 1]."""
    gae_lambda: float = 0.95
    """Weight of longer advantage estimates, [0, 1]."""
    clip_range: float = 0.2
    """The probability ratio is clipped to 1 plus or minus this."""
    clip_range_end: float | None = None
    """Linear schedule of clip_range to this value at the last step; null: constant."""
    clip_value_range: float | None = None
    """A value gains nothing by moving further than this from what it was; null: it may. OpenAI has this bound, and
    Andrychowicz et al. 2021 found no use in it."""
    learning_rate: float = 2.5e-4
    """Adam's step size at the first step."""
    learning_rate_end: float | None = None
    """Linear schedule of learning_rate to this value at the last step; null: constant."""
    adam_eps: float = 1e-5
    """Adam's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this global L2 norm."""
    normalize_advantage: bool = True
    """Advantages are brought to mean 0 and deviation 1 over each minibatch."""
    reward_scale: float = 1.0
    """What is learned from is the reward times this; what is logged is raw."""
    reward_clip: float | None = None
    """What is learned from is clipped to plus or minus this, after scaling; null: not clipped."""

    def __post_init__(self) -> None:
        in_range("algo.gamma", self.gamma, 0, 1)
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        in_range("algo.learning_rate", self.learning_rate, 0, 1, open_low=True)
        for key in ("num_envs", "num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        for key in ("clip_range", "max_grad_norm"):
            at_least(f"algo.{key}", getattr(self, key), 1e-9)
        for key in ("value_weight", "entropy_weight", "clip_range_end", "learning_rate_end"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.clip_value_range", self.clip_value_range, 1e-9)
        at_least("algo.reward_clip", self.reward_clip, 1e-9)
