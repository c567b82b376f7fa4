"""Settings of `ppo.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.learning_config import LearningConfig
from rltrain.validate import at_least, in_range


@dataclass
class PPOConfig(LearningConfig):
    """Settings of proximal policy optimization."""

    name: str = "ppo"
    num_envs: int = 8
    learning_rate: float = 2.5e-4
    max_grad_norm: float = 0.5
    num_steps: int = 128
    """Agent steps of each environment in one rollout."""
    num_epochs: int = 4
    """Passes over a rollout."""
    batch_size: int = 256
    """Transitions in a minibatch; divides num_envs * num_steps."""
    gae_lambda: float = 0.95
    """Weight of longer advantage estimates, [0, 1]."""
    clip_range: float = 0.2
    """The probability ratio is clipped to 1 plus or minus this."""
    clip_range_end: float | None = None
    """Linear schedule of clip_range to this value at the last step; null: constant."""
    clip_value_range: float | None = None
    """A value gains nothing by moving further than this from what it was; null: it may. OpenAI has this bound, and
    Andrychowicz et al. 2021 found no use in it."""
    adam_eps: float = 1e-5
    """Adam's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    normalize_advantage: bool = True
    """Advantages are brought to mean 0 and deviation 1 over each minibatch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        for key in ("num_steps", "num_epochs", "batch_size"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.clip_range", self.clip_range, 1e-9)
        for key in ("value_weight", "entropy_weight", "clip_range_end"):
            at_least(f"algo.{key}", getattr(self, key), 0)
        at_least("algo.clip_value_range", self.clip_value_range, 1e-9)
