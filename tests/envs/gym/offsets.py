"""Environments that do not count from 0; importing this registers `Lever-v0`, `Switches-v0` and `Stairs-v0`."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Lever(gymnasium.Env):
    """Push (-1), leave (0) or pull (1): the reward, and the red of the picture."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)
    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(3, start=-1)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.last = 0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t, self.last = self.t + 1, int(action)
        return np.full(1, action, np.float32), float(action), self.t == 10, False, {}

    def render(self):
        return np.full((40, 40, 3), (100 * (self.last + 1), 0, 0), np.uint8)


class Stairs(gymnasium.Env):
    """Five stairs, 1 to 5, and a table of them: 7 goes down, 8 goes up, and the fifth is worth 1."""

    observation_space = spaces.Discrete(5, start=1)
    action_space = spaces.Discrete(2, start=7)

    def __init__(self):
        self.initial_state_distrib = np.eye(5)[0]
        self.P = {stair: {7: self._outcome(stair, -1), 8: self._outcome(stair, 1)} for stair in range(1, 6)}

    @staticmethod
    def _outcome(stair, move):
        stair = min(5, max(1, stair + move))
        return [(1.0, stair, float(stair == 5), False)]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.stair = 1
        return self.stair, {}

    def step(self, action):
        _, self.stair, reward, terminated = self.P[self.stair][action][0]
        return self.stair, reward, terminated, False, {}


class Switches(Lever):
    """Two choices that begin at 4 and at -1."""

    action_space = spaces.MultiDiscrete([2, 3], start=[4, -1])


gymnasium.register("Lever-v0", Lever)
gymnasium.register("Switches-v0", Switches)
gymnasium.register("Stairs-v0", Stairs, max_episode_steps=50)
