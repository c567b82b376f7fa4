"""A plugin with its own environment, network and algorithm.

Run it in this folder:  rltrain plugins=[own_parts] algo=patient_a2c env=corridor network=two_relus total_steps=20000
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium import spaces
from torch import nn

from rltrain import plugins
from rltrain.algos.a2c import make_agent, train  # noqa: F401  (an algorithm's module must have these)
from rltrain.config.algorithms import A2CConfig
from rltrain.config.environments import GymConfig


class Corridor(gymnasium.Env):
    """Walk right. Reward 1 at the far end, ten cells away, and -0.01 for each step before; at most 50 steps."""

    def __init__(self, length: int = 10) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length, self.cell = length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return self._obs(), {}

    def step(self, action):
        self.cell = max(0, self.cell + (1 if action else -1))
        there = self.cell == self.length
        return self._obs(), 1.0 if there else -0.01, there, False, {}

    def _obs(self):
        return np.array([self.cell / self.length], np.float32)


def two_relus(num_inputs: int) -> list[nn.Module]:
    """Return two layers of 32 units with ReLU."""
    return [nn.Linear(num_inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]


@dataclass
class PatientA2CConfig(A2CConfig):
    """A2C with longer rollouts. Your own algorithm has its settings in such a class and its loop in `train`."""

    name: str = "patient_a2c"
    num_steps: int = 16
    learning_rate: float = 2e-3


gymnasium.register("Corridor-v0", Corridor, max_episode_steps=50)
plugins.register_environment(GymConfig("corridor", id="Corridor-v0"), "Walk right, ten cells to the far end.")
plugins.register_network("two_relus", two_relus)
plugins.register_algorithm(PatientA2CConfig)
