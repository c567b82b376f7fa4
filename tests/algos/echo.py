"""Do what you see: the least that a policy can be asked to learn; importing this registers `Echo-v0`.

Episodes of 20 steps. Reward 1 for each choice that equals what was seen; continuous, 1 minus the squared distance.
"""

import gymnasium
import numpy as np
from gymnasium import spaces


class Echo(gymnasium.Env):
    """Observation: one target in [-1, 1] for each of `num_choices` choices of two, or of its continuous numbers."""

    def __init__(self, continuous: bool = False, num_choices: int = 2) -> None:
        self.observation_space = spaces.Box(-1, 1, (num_choices,), np.float32)
        self.action_space = (
            spaces.Box(-1, 1, (num_choices,), np.float32) if continuous else spaces.MultiDiscrete([2] * num_choices)
        )
        self.continuous, self.num_choices = continuous, num_choices

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._next(), {}

    def step(self, action):
        wanted = self.seen if self.continuous else self.seen > 0
        reward = 1 - np.square(wanted - action).mean() if self.continuous else (wanted == action).mean()
        self.t += 1
        return self._next(), float(reward), self.t == 20, False, {}

    def _next(self):
        self.seen = self.np_random.uniform(-1, 1, self.num_choices).astype(np.float32)
        return self.seen


gymnasium.register("Echo-v0", Echo)
