"""Environments that draw their rewards in a way that no `reset` seeds; importing this registers `Drawn-v0`."""

import random

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import RescaleObservation


class Drawn(gymnasium.Env):
    """Observes and pays what it has drawn `by` the generator of its constructor, or at a reset by one of its own."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)

    def __init__(self, by: str, render_mode=None) -> None:
        self.observation_space, self.action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)
        self.render_mode, self.by, self.own = render_mode, by, spaces.Box(0, 1, (1,), np.float32)
        self.other = gymnasium.make("CartPole-v1").unwrapped
        if by == "constructor":
            self.drawn = self.np_random.random(1)
        elif by == "space of the constructor":
            self.drawn = self.observation_space.sample()
        elif by == "global":
            self.drawn = np.array([random.random()])

    def reset(self, *, seed=None, options=None):
        self.num_steps = 0
        if self.by == "space":
            self.drawn = self.observation_space.sample()
        elif self.by == "space of its own":
            self.drawn = self.own.sample()
        elif self.by == "environment inside":
            self.drawn = np.abs(self.other.reset()[0][:1])
        return self.drawn.astype(np.float32), {}

    def step(self, action):
        self.num_steps += 1
        return self.drawn.astype(np.float32), float(self.drawn[0]), self.num_steps == 5, False, {}

    def render(self):
        return np.zeros((40, 40, 3), np.uint8)


gymnasium.register("Drawn-v0", Drawn)
gymnasium.register("DrawnInside-v0", lambda: RescaleObservation(Drawn("space"), np.float32(0), np.float32(1)))
