"""What a replay hands out. Legend: N sampled transitions, K frames of a stack."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sampled transitions."""

    obs: "np.ndarray | Tensor"
    """Stacked frames, [N, K * C, ...], the frame's dtype; [N] for Discrete. Zeros before an episode's first frame. On
    the device where the replay has its frames there."""
    action: np.ndarray
    """[N, *action_shape]."""
    reward: np.ndarray
    """Sum of gamma^k * r over the n-step window, [N], float32."""
    discount: np.ndarray
    """gamma^m, m the steps in the window, or 0 if it ended in a termination, [N], float32."""
    next_obs: "np.ndarray | Tensor"
    """Stack at the end of the window, the true last one if the episode ended there; as obs."""
    weight: np.ndarray
    """Importance weights, [N], float32; ones under uniform sampling."""
    index: np.ndarray
    """Slots, [N], int64: what `update_priorities` takes."""

    def rows(self, rows: slice) -> "Batch":
        """Some of the transitions, as views; all of them as they are."""
        if rows == slice(0, len(self.index)):
            return self
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Change:
    """Which slots a write made sampleable and which it took away. Apply `invalid` first: one slot may be in both."""

    valid: np.ndarray
    """Slots, int64."""
    invalid: np.ndarray
    """Slots, int64."""
