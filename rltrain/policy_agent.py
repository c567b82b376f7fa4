"""What every policy-gradient agent is, whatever it minimises: an actor, its optimizer, and how often that stepped."""

from typing import Any

import numpy as np

from rltrain import optimizers
from rltrain.actor import Actor
from rltrain.trained import Trained


class PolicyAgent:
    """Acts, and gives and takes back what a checkpoint holds of it."""

    def __init__(self, actor: Actor, optimizer: str, learning_rate: float, optimizer_eps: float) -> None:
        self.actor = actor
        self.trained = Trained(actor.network)
        self.optimizer = optimizers.make(optimizer, self.trained, learning_rate, optimizer_eps)
        self.num_updates = 0

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions for the environment: the likeliest, or sampled."""
        return self.actor.policy(obs, greedy, generator)

    def state_dict(self) -> dict[str, Any]:
        """Everything that an update changes."""
        return {
            "network": self.actor.network.state_dict(),
            "optimizer": optimizers.state_dict(self.optimizer, self.trained),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.actor.network.load_state_dict(state["network"])
        optimizers.load_state_dict(self.optimizer, self.trained, state["optimizer"])
        self.num_updates = int(state["num_updates"])
