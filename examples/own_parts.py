"""Parts of your own, without a fork: an environment, a network and an algorithm.

From this folder:  rltrain plugins=[own_parts] algo=patient_a2c env=corridor network=two_relus total_steps=20000
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium import spaces
from torch import nn

from rltrain import plugins
from rltrain.algos.a2c import make_agent, train  # noqa: F401  (what rltrain asks of an algorithm's module)
from rltrain.config.algorithms import A2CConfig
from rltrain.config.environments import GymConfig


class Corridor(gymnasium.Env):
    """Walk right: 1 at the far end, ten cells away; -0.01 a step; 50 steps at most."""

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
    """Two layers of 32 with ReLU."""
    return [nn.Linear(num_inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]


@dataclass
class PatientA2CConfig(A2CConfig):
    """A2C with longer rollouts, to show where an algorithm of your own goes: its settings here, its loop in `train`."""

    name: str = "patient_a2c"
    num_steps: int = 16
    learning_rate: float = 2e-3


gymnasium.register("Corridor-v0", Corridor, max_episode_steps=50)
plugins.register_environment(GymConfig("corridor", id="Corridor-v0"), "Walk right, ten cells to the far end.")
plugins.register_network("two_relus", two_relus)
plugins.register_algorithm(PatientA2CConfig)
