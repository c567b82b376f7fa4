"""An environment whose observation says which episode and which step it is; importing it registers `Counter-v0`."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Counter(gymnasium.Env):
    """Observation (episode, t); reward t; ends at random, by termination, truncation or both at once."""

    def __init__(self, fail_at: int = 0) -> None:
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float64)
        self.action_space = spaces.Discrete(2)
        self.episode, self.t, self.fail_at = -1, 0, fail_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.episode = -1
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        if self.t == self.fail_at:
            raise RuntimeError("this environment is broken")
        terminated, truncated = self.np_random.random(2) < 0.08
        return self._obs(), float(self.t), bool(terminated), bool(truncated), {}

    def _obs(self):
        return np.array([self.episode, self.t], np.float64)


gymnasium.register("Counter-v0", Counter, max_episode_steps=20)
