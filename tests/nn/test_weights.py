"""What copies of a network elsewhere get of it."""

import torch
from torch import nn

from rltrain.nn import weights


def normalising():
    return nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))


def test_buffers_are_sent_with_the_parameters():
    """Bug: the players of IMPALA acted with the first mean of a normalisation that updates had learned."""
    one, other = normalising(), normalising()
    one(torch.rand(8, 2))
    assert not torch.equal(one[1].running_mean, other[1].running_mean)
    weights.write(other, weights.read(one))
    for own, sent in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(own, sent)
