"""The input and output of a replay buffer. Legend: B environments, N sampled transitions, K frames of a stack."""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

Array = Any
"""A NumPy array, or a torch tensor on the device."""


class Transition(NamedTuple):
    """One step of every environment."""

    frame: np.ndarray
    """The newest frame of the observation, [B, *frame_shape]."""
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
    """True if `frame` is the first of its episode, [B], bool."""
    next_first: np.ndarray
    """True if the pool has reset the environment after this step (`TimeStep.first`), [B], bool."""


@dataclass(frozen=True)
class Batch:
    """A minibatch of sampled transitions."""

    obs: Array
    """Stacked frames, [N, K * C, ...], dtype of the frames; [N] for Discrete. Frames before the episode's first are 0.
    A tensor on the device if the replay buffer stores its frames there."""
    action: Array
    """[N, *action_shape]."""
    reward: Array
    """Sum of gamma^k * r over the n-step window, [N], float32."""
    discount: Array
    """gamma^m for a window of m steps, or 0 if the window ends with a termination, [N], float32."""
    next_obs: Array
    """The observation after the window, in the form of `obs`. If the episode ended there, its true last observation."""
    weight: Array
    """Importance weights, [N], float32. With uniform sampling they are 1."""
    index: Array
    """Slots of the transitions, for `update_priorities`, [N], int64."""

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, rows: slice) -> "Batch":
        """Return a slice of the transitions, as views."""
        if rows == slice(0, len(self.index)):
            return self
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Change:
    """The slots that a write changed. Apply `invalid` before `valid`, because a slot may be in both."""

    valid: np.ndarray
    """Slots that can be sampled from now on, int64."""
    invalid: np.ndarray
    """Slots that can no longer be sampled, int64."""
