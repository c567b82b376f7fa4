"""An environment that gives one number that is none; importing it registers `Sick-v0`."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Sick(gymnasium.Env):
    """At step `at`, `what` (reward, observation, final observation) is `value`; 10 steps an episode."""

    def __init__(self, what: str = "reward", value: float = float("nan"), at: int = 77) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.what, self.value, self.at, self.steps = what, value, at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.standard_normal(3).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        obs, reward = self.np_random.standard_normal(3).astype(np.float32), 1.0
        if self.steps == self.at:
            if self.what == "reward":
                reward = self.value
            else:
                obs[1] = self.value
        return obs, reward, self.steps % 10 == 0, False, {}


gymnasium.register("Sick-v0", Sick)
