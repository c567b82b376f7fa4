"""What is learned from, made of the raw reward; what is logged stays raw."""

import numpy as np


def learned_reward(reward_B: np.ndarray, scale: float, clip: float | None) -> np.ndarray:
    """Raw reward [B] float32 times scale, then clipped to plus or minus clip (null: not clipped). [B], float32."""
    scaled_B = reward_B * np.float32(scale)
    return scaled_B if clip is None else np.clip(scaled_B, -clip, clip)
