"""Minibatches of a rollout whose environments are spread over the processes of a run."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rltrain.buffers.rollout import Rollout
from rltrain.runtime.group import Group
from rltrain.runtime.share import Share


class EpochSettings(Protocol):
    """The settings of the passes over a rollout."""

    num_epochs: int
    batch_size: int


def epochs(
    rollout: Rollout, c: EpochSettings, generator: np.random.Generator, group: Group, share: Share
) -> Iterator[Tensor]:
    """Yield the indices of the minibatches of all epochs in the flat rollout, [N] int64.

    In several processes each minibatch has equally many rows of each environment, and N is what this process has of it.
    """
    for _ in range(c.num_epochs):
        if group.is_alone:
            yield from rollout.shuffled(c.batch_size, generator)
        else:
            yield from rollout.shuffled_by_environment(c.batch_size, generator, share)


def normalized(parts: Sequence[Tensor], group: Group) -> list[Tensor]:
    """Return each minibatch shifted to mean 0 and scaled to standard deviation 1, over the rows of all processes.

    parts: what this process has of each minibatch, [N], float32. As `math.losses.normalize`, with the mean in float64
    before the squares. All minibatches are reduced at once: two exchanges, whatever their number.
    """
    counts_sums = group.sum(np.array([(part.numel(), float(part.double().sum())) for part in parts]))
    counts, means = counts_sums[:, 0], counts_sums[:, 1] / counts_sums[:, 0]
    centred = [part.double() - mean for part, mean in zip(parts, means.tolist(), strict=True)]
    squares = group.sum(np.array([float(part.square().sum()) for part in centred]))
    deviations = np.sqrt(squares / counts) + 1e-8
    return [(part / deviation).to(torch.float32) for part, deviation in zip(centred, deviations.tolist(), strict=True)]
