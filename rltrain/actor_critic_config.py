"""The settings that A2C and A3C share: the two differ in who collects and when the parameters change."""

from dataclasses import dataclass

from rltrain.learning_config import LearningConfig
from rltrain.validate import at_least, in_range, one_of


@dataclass
class ActorCriticConfig(LearningConfig):
    """Settings of an actor-critic that learns once from each rollout."""

    learning_rate: float = 7e-4
    max_grad_norm: float = 0.5
    num_steps: int = 5
    """Agent steps of each environment in one rollout."""
    gae_lambda: float = 1.0
    """Weight of longer advantage estimates, [0, 1]; 1 is the n-step return of Mnih et al. 2016."""
    optimizer: str = "rmsprop"
    """rmsprop or adam."""
    optimizer_eps: float = 1e-5
    """The optimizer's denominator offset."""
    value_weight: float = 0.5
    """Weight of the value loss (half the mean squared error)."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    normalize_advantage: bool = False
    """Advantages are brought to mean 0 and deviation 1 over each rollout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("algo.num_steps", self.num_steps, 1)
        in_range("algo.gae_lambda", self.gae_lambda, 0, 1)
        one_of("algo.optimizer", self.optimizer, ("adam", "rmsprop"))
        at_least("algo.optimizer_eps", self.optimizer_eps, 1e-12)
        at_least("algo.value_weight", self.value_weight, 0)
        at_least("algo.entropy_weight", self.entropy_weight, 0)
