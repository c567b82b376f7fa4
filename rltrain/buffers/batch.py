"""What a replay takes and hands out. Legend: B environments, N sampled transitions, K frames of a stack."""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

Array = Any
"""A NumPy array, or a tensor once it is on the device."""


class Transition(NamedTuple):
    """One step of every environment."""

    frame: np.ndarray
    """The newest frame acted on, [B, *frame_shape]."""
    action: np.ndarray
    """[B, *action_shape]."""
    reward: np.ndarray
    """[B], float."""
    terminated: np.ndarray
    """[B], bool."""
    truncated: np.ndarray
    """[B], bool."""
    next_frame: np.ndarray
    """The true successor of `frame`, [B, *frame_shape]."""
    first: np.ndarray
    """`frame` is the first of its episode, [B], bool."""
    next_first: np.ndarray
    """The pool has reset (`TimeStep.first`), [B], bool."""


@dataclass(frozen=True)
class Batch:
    """Sampled transitions."""

    obs: Array
    """Stacked frames, [N, K * C, ...], the frame's dtype; [N] for Discrete. Zeros before an episode's first frame. On
    the device where the replay has its frames there."""
    action: Array
    """[N, *action_shape]."""
    reward: Array
    """Sum of gamma^k * r over the n-step window, [N], float32."""
    discount: Array
    """gamma^m, m the steps in the window, or 0 if it ended in a termination, [N], float32."""
    next_obs: Array
    """Stack at the end of the window, the true last one if the episode ended there; as obs."""
    weight: Array
    """Importance weights, [N], float32; ones under uniform sampling."""
    index: Array
    """Slots, [N], int64: what `update_priorities` takes."""

    def __len__(self) -> int:
        return len(self.index)

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
