"""An environment that fails as environments do; importing it registers `Fragile-v0`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Fragile(gymnasium.Env):
    """Observation (number drawn by the reset, t); reward 1; 6 steps an episode.

    After `at` steps it fails, the first time that anyone does who shares the file `once`: by `raise`, `exit`, `hang`
    (a child of its own goes on), or `raise in reset`.
    """

    def __init__(self, how: str = "", at: int = 0, once: str = "") -> None:
        self.observation_space = spaces.Box(0, np.inf, (2,), np.float64)
        self.action_space = spaces.Discrete(2)
        self.how, self.at, self.once, self.steps, self.t = how, at, once, 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.np_random.integers(1, 2**31), 0
        if self.steps >= self.at:
            self._fail("raise in reset")
        return np.array([self.episode, 0.0]), {}

    def step(self, action):
        self.steps, self.t = self.steps + 1, self.t + 1
        if self.steps == self.at:
            self._fail("raise", "exit", "hang")
        return np.array([self.episode, self.t], np.float64), 1.0, self.t == 6, False, {}

    def _fail(self, *ways):
        if self.how not in ways:
            return
        if self.once:
            try:
                with Path(self.once).open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                return
        if self.how == "exit":
            sys.stdout.flush()
            os._exit(7)
        if self.how == "hang":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            time.sleep(600)
        raise ValueError("the simulator lost its licence")


gymnasium.register("Fragile-v0", Fragile)
