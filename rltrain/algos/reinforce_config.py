"""Settings of `reinforce.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.learning_config import LearningConfig
from rltrain.validate import at_least, one_of


@dataclass
class ReinforceConfig(LearningConfig):
    """Settings of REINFORCE."""

    name: str = "reinforce"
    num_envs: int = 8
    learning_rate: float = 2e-3
    max_grad_norm: float = 0.5
    batch_size: int = 1000
    """Agent steps of a batch, at least: its episodes are whole."""
    baseline: bool = False
    """Learn a value of each state and subtract it from the return, which lowers the variance and not the mean."""
    optimizer: str = "adam"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-8
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the baseline's loss (half the mean squared error)."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    normalize_advantage: bool = True
    """What multiplies log pi is brought to mean 0 and deviation 1 over each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.batch_size", self.batch_size, 1)
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        for key in ("value_weight", "entropy_weight"):
            at_least(f"algo.{key}", getattr(self, key), 0)
