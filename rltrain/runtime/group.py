"""The processes of a run: what they exchange. `Alone` is a run in one process; `TorchGroup` is several.

`num_envs` and `batch_size` are those of the whole run. Each process has a share of the environments, in whole rows of
every minibatch, and the same parameters, random generators and step as the others.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class Group(Protocol):
    """The processes that learn together. All of them call each method, in the same order.

    Every method raises ProcessLost if another process was lost, or the error that ended it.
    """

    rank: int
    """The number of this process, from 0. Rank 0 writes the run folder."""
    size: int
    """The number of processes."""
    is_alone: bool
    """True for a run in one process, with runtime=local: nothing is exchanged."""

    def mean_gradients(self, tensors: Sequence["Tensor"], weight: float) -> None:
        """Replace the gradients by their sum over all processes, each times its weight. The weights add up to 1."""
        ...

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sum over all processes, float64, in the shape of `numbers`."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process by rank: JSON values and arrays, in dicts and lists."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0; what the others give is ignored."""
        ...

    def note_signal(self, number: int) -> None:
        """Pass a signal on to the other processes. Safe in a signal handler."""
        ...


class Alone:
    """The group of a run in one process."""

    rank = 0
    size = 1
    is_alone = True

    def mean_gradients(self, tensors: Sequence["Tensor"], weight: float) -> None:
        """Leave the gradients as they are."""

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers."""
        return np.asarray(numbers, np.float64)

    def gather(self, value: Any) -> list[Any]:
        """Return the value."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def note_signal(self, number: int) -> None:
        """Do nothing."""
