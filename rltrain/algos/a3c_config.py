"""Settings of `a3c.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.actor_critic_config import ActorCriticConfig
from rltrain.errors import ConfigError
from rltrain.validate import at_least


@dataclass
class A3CConfig(ActorCriticConfig):
    """Settings of asynchronous advantage actor-critic; num_envs are shared evenly by the workers."""

    name: str = "a3c"
    num_envs: int = 4
    num_steps: int = 20
    num_workers: int = 4
    """Processes that act and learn on the shared parameters, each on one thread and with its share of num_envs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("algo.num_workers", self.num_workers, 1)
        if self.num_envs % self.num_workers:
            raise ConfigError(
                f"{self.num_envs} environments cannot be shared evenly by {self.num_workers} workers",
                "num_envs, algo.num_workers",
                f"use num_envs={self.num_workers * max(1, round(self.num_envs / self.num_workers))}",
            )
