"""An environment that takes two choices at once; importing it registers `Several-v0`."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Several(gymnasium.Env):
    """Reward for the sum of the choices; 8 steps an episode."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 8, (1,), np.float32)
        self.action_space = spaces.MultiDiscrete([2, 3])
        self.t = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), float(np.sum(action)), self.t == 8, False, {}


gymnasium.register("Several-v0", Several)
