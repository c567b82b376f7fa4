"""A small, fast environment with several discrete choices for `golden_runs.py`.

Importing this module registers `Choices-v0`.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Choices(gymnasium.Env):
    """Tell the signs of two numbers and which one is larger. The reward is 1 for each right answer."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.MultiDiscrete([2, 2, 3])
        self._obs = np.zeros(2, np.float32)
        self._num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode and return the first observation."""
        super().reset(seed=seed)
        self._num_steps = 0
        return self._draw(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Reward the answers and draw the next two numbers. An episode has 10 to 20 steps."""
        first, second = self._obs
        right = [first > 0, second > 0, int(first > second)]
        self._num_steps += 1
        ended = self._num_steps == 20 or (self._num_steps >= 10 and self.np_random.random() < 0.1)
        return self._draw(), float(sum(a == b for a, b in zip(action, right, strict=True))), ended, False, {}

    def _draw(self) -> np.ndarray:
        self._obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._obs.copy()


gymnasium.register("Choices-v0", Choices)
