"""Minibatches of a rollout whose environments are spread over the processes of a run."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch import Tensor

from rltrain.buffers.rollout import Rollout
from rltrain.math.losses import normalize
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


def normalized(advantage: Tensor, group: Group) -> Tensor:
    """Return `math.losses.normalize` of a minibatch whose rows are spread over the processes, [N] float32.

    advantage: the rows of this process, [N], float32. One exchange joins the moments of all parts (Chan et al. 1983,
    equation 2.1), in float64, so that the result does not depend on the number of processes.
    """
    if group.is_alone:
        return normalize(advantage)
    rows = advantage.double()
    mean = float(rows.mean())
    moments = np.zeros((group.size, 3))
    moments[group.rank] = rows.numel(), mean, float((rows - mean).square().sum())
    counts, means, squares = group.sum(moments).T
    mean = float(counts @ means / counts.sum())
    deviation = float(np.sqrt((squares.sum() + counts @ (means - mean) ** 2) / counts.sum()))
    return ((rows - mean) / (deviation + 1e-8)).float()
