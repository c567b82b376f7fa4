"""A world that is drawn when its module is imported, as in many scripts; importing this registers `Imported-v0`."""

import random

import gymnasium
import numpy as np
from gymnasium import spaces

WORLD = np.array([np.random.random(), random.random()], np.float32)


class Imported(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 1, (2,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return WORLD, {}

    def step(self, action):
        return WORLD, float(WORLD[0]), True, False, {}


gymnasium.register("Imported-v0", "drawn_at_import:Imported")
