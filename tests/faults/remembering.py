"""An environment that notes how many replays there are when it is made; importing it registers `Remembering-v0`."""

import gc
import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


def in_memory(name):
    """The number of objects of a class."""
    gc.unfreeze()  # a run leaves what exists when it begins out of collections, and so out of this list
    return sum(type(thing).__name__ == name for thing in gc.get_objects())


class Remembering(gymnasium.Env):
    """Adds a line to `notes`: the job's seed, replays and networks in memory. With `fails`, the 40th reward is NaN."""

    def __init__(self, notes: str, fails: bool = False) -> None:
        self.observation_space = spaces.Box(-1, 1, (8,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.fails, self.steps = fails, 0
        seed = next((word[5:] for word in reversed(sys.argv) if re.fullmatch(r"seed=\d", word)), "-1")
        with Path(notes).open("a") as file:
            file.write(f"{seed} {in_memory('Replay')} {in_memory('QNetwork')}\n")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(8, np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = float("nan") if self.fails and self.steps == 40 else 1.0
        return np.zeros(8, np.float32), reward, self.steps % 10 == 0, False, {}


gymnasium.register("Remembering-v0", Remembering)
