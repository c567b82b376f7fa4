"""A loop without end: reward 1 in every step, cut (or, as a control, ended) after 8; importing it registers `Loop-v0`.

At gamma .98 its value is 50 where the cut is bootstrapped through, and at most 7.46 where it is taken for an end.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 8


class Loop(gymnasium.Env):
    """Observation [1], or [t] with `counts`."""

    def __init__(self, terminates: bool = False, counts: bool = False, reward: float = 1.0) -> None:
        self.observation_space = spaces.Box(0, LENGTH, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.terminates, self.counts, self.reward, self.t = terminates, counts, reward, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        over = self.t == LENGTH
        return self._obs(), self.reward, over and self.terminates, over and not self.terminates, {}

    def _obs(self):
        return np.array([self.t if self.counts else 1], np.float32)


gymnasium.register("Loop-v0", Loop)
