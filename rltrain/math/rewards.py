"""Scaling and clipping of rewards for training. Logs, evaluations and episode returns use raw rewards."""

import numpy as np


def learned_reward(reward_B: np.ndarray, scale: float, clip: float | None) -> np.ndarray:
    """Return the raw reward times scale, clipped to [-clip, clip] unless clip is None. Both [B], float32."""
    scaled_B = reward_B * np.float32(scale)
    return scaled_B if clip is None else np.clip(scaled_B, -clip, clip)
