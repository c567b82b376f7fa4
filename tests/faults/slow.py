"""An environment whose episodes take minutes while a file named `slow` lies beside the run; it registers `Slow-v0`."""

import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Slow(gymnasium.Env):
    """10,000 steps of 10 ms an episode; without the file 10 steps that take no time."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        slow = Path("slow").exists()
        time.sleep(0.01 * slow)
        return np.full(3, self.steps % 7 / 7, np.float32), 1.0, self.steps >= (10_000 if slow else 10), False, {}


gymnasium.register("Slow-v0", Slow)
