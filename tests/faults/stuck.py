"""An environment that hangs while a file named `stuck` lies beside the run; importing it registers `Stuck-v0`."""

import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Stuck(gymnasium.Env):
    """Episodes of 10 steps, each of `step_s` seconds; reward 1."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.step_s, self.steps = step_s, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        time.sleep(self.step_s)
        while Path("stuck").exists():
            time.sleep(0.05)
        return np.full(3, self.steps / 10, np.float32), 1.0, self.steps == 10, False, {}


gymnasium.register("Stuck-v0", Stuck)
