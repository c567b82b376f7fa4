"""Environments that say what was done with them; importing this registers `Counter-v0` and `Buttons-v0`."""

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
        if self.fail_at == -1:
            raise RuntimeError("this environment is broken")
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


class Buttons(gymnasium.Env):
    """Any action space; the observation is the last action."""

    def __init__(self, action_space: gymnasium.Space | None = None) -> None:
        self.action_space = spaces.MultiBinary(3) if action_space is None else action_space
        self.observation_space = spaces.Box(-9, 9, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return np.full(3, action, np.float32), 0.0, False, False, {}


gymnasium.register("Buttons-v0", Buttons)
