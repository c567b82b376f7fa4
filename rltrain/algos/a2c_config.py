"""Settings of `a2c.py`, apart from it so that composing a configuration imports no torch."""

from dataclasses import dataclass

from rltrain.actor_critic_config import ActorCriticConfig


@dataclass
class A2CConfig(ActorCriticConfig):
    """Settings of advantage actor-critic."""

    name: str = "a2c"
    num_envs: int = 16
