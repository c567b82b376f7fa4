"""An environment that notes how many replays there are when it is made; importing it registers `Remembering-v0`."""

import gc
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Remembering(gymnasium.Env):
    """Adds a line to `notes`: replays and networks in memory. With `fails`, the 40th reward is not a number."""

    def __init__(self, notes: str, fails: bool = False) -> None:
        self.observation_space = spaces.Box(-1, 1, (8,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.fails, self.steps = fails, 0
        with Path(notes).open("a") as file:
            names = [type(thing).__name__ for thing in gc.get_objects()]
            file.write(f"{names.count('Replay')} {names.count('QNetwork')}\n")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(8, np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = float("nan") if self.fails and self.steps == 40 else 1.0
        return np.zeros(8, np.float32), reward, self.steps % 10 == 0, False, {}


gymnasium.register("Remembering-v0", Remembering)
