"""Rewards divided by the running deviation of returns, so that one learning rate suits every scale of rewards."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from rltrain.run.checkpoint import rows_like


class RewardScale:
    """Divides rewards by the standard deviation of discounted returns (Engstrom et al. 2020, section 3).

    G_t = gamma G_{t-1} + r_t in each environment, from 0 in each episode. The deviation is that of all G since the
    training began. It does not change signs: nothing is subtracted from a reward.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._return_B = np.zeros(num_envs)
        self._moments = np.zeros(3)
        """Of G: how many, their mean, and the sum of their squared distances to it."""

    def __call__(self, reward_TB: Tensor, trace_TB: Tensor) -> Tensor:
        """Return scaled rewards, [steps, envs], float32, on their device. The steps count for the deviation first.

        reward_TB: [steps, envs], float32. trace_TB: 0 where an episode ends with this step, else 1; the same shape.
        """
        return_TB = np.empty(reward_TB.shape)
        for t, (reward_B, trace_B) in enumerate(zip(reward_TB.cpu().numpy(), trace_TB.cpu().numpy(), strict=True)):
            return_TB[t] = self._gamma * self._return_B + reward_B
            self._return_B = return_TB[t] * trace_B
        self._add(return_TB)
        count, _, squares = self._moments
        return reward_TB / math.sqrt(squares / count + 1e-8)

    def _add(self, values: np.ndarray) -> None:
        """Merge the moments of more values (Chan et al. 1979, eq. 2.1)."""
        count, mean, squares = self._moments
        more, distance = values.size, values.mean() - mean
        both = count + more
        squares += ((values - values.mean()) ** 2).sum() + distance**2 * count * more / both
        self._moments = np.array([both, mean + distance * more / both, squares])

    def state_dict(self) -> dict[str, Any]:
        """Return the returns of unfinished episodes, [envs], and the moments, [3]."""
        return {"return": self._return_B, "moments": self._moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. Raises ValueError for another shape or dtype."""
        self._return_B = rows_like(self._return_B, state["return"])
        self._moments = rows_like(self._moments, state["moments"])
