"""Settings of `dqn.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.errors import ConfigError
from rltrain.learning_config import LearningConfig
from rltrain.validate import at_least, in_range, one_of

PRESETS: dict[str, tuple[str, ...]] = {
    "dqn": (),
    "double_dqn": ("double",),
    "dueling_dqn": ("dueling",),
    "per_dqn": ("prioritized",),
    "d3qn_per": ("double", "dueling", "prioritized"),
}
"""Every name of this algorithm, with the switches that the name promises."""


@dataclass
class DQNConfig(LearningConfig):
    """Settings of DQN and its improvements."""

    name: str = "dqn"
    num_envs: int = 1
    learning_rate: float = 1e-4
    max_grad_norm: float = 10.0
    double: bool = False
    """The online network chooses the next action, the target network judges it (van Hasselt et al. 2016)."""
    dueling: bool = False
    """Separate value and advantage streams (Wang et al. 2016)."""
    prioritized: bool = False
    """Replay in proportion to the TD error (Schaul et al. 2016)."""
    n_step: int = 1
    """Rewards summed before the bootstrap."""
    adam_eps: float = 1e-8
    """Adam's denominator offset."""
    loss: str = "huber"
    """huber (linear beyond a TD error of 1: Mnih et al. 2015 clip it there) or squared."""
    batch_size: int = 32
    """Transitions an update."""
    train_every_steps: int = 4
    """Agent steps between rounds of updates."""
    updates_per_round: int = 1
    """Optimizer updates in a round."""
    target_period_updates: int = 1_000
    """Optimizer updates between copies of the online network into the target network."""
    learning_starts: int = 1_000
    """Agent steps taken at random before the first update."""
    replay_capacity: int = 100_000
    """Frames kept, over all environments."""
    replay_device: str = "auto"
    """Where those frames lie: cpu, device (the run's), or auto: on a CUDA device with room for them, else cpu. What is
    sampled is the same."""
    epsilon_start: float = 1.0
    """Share of random actions at the first step."""
    epsilon_end: float = 0.05
    """Share of random actions once the decay is over."""
    exploration_fraction: float = 0.1
    """Part of total_steps over which epsilon falls linearly."""
    priority_alpha: float = 0.6
    """Exponent of the priorities; 0 is uniform."""
    priority_beta_start: float = 0.4
    """Exponent of the importance weights at the first step; it rises linearly to 1 at the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch in PRESETS.get(self.name, ()):
            if not getattr(self, switch):
                raise ConfigError(
                    f"{self.name} without {switch} is another algorithm", f"algo.{switch}", "use algo=dqn and switches"
                )
        one_of("algo.loss", self.loss, ("huber", "squared"))
        one_of("algo.replay_device", self.replay_device, ("auto", "cpu", "device"))
        in_range("algo.epsilon_start", self.epsilon_start, 0, 1)
        in_range("algo.epsilon_end", self.epsilon_end, 0, 1)
        in_range("algo.exploration_fraction", self.exploration_fraction, 0, 1, open_low=True)
        in_range("algo.priority_alpha", self.priority_alpha, 0, 1)
        in_range("algo.priority_beta_start", self.priority_beta_start, 0, 1)
        for key in ("n_step", "batch_size", "train_every_steps", "updates_per_round"):
            at_least(f"algo.{key}", getattr(self, key), 1)
        at_least("algo.target_period_updates", self.target_period_updates, 1)
        at_least("algo.learning_starts", self.learning_starts, 0)
        at_least("algo.replay_capacity", self.replay_capacity, 1)
