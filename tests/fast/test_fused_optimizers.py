"""RMSprop in one pass against torch's own."""

import copy

import pytest
import torch

from rltrain.fast import optimizers as fused_optimizers
from rltrain.nn import optimizers
from rltrain.nn.trained import Trained


def test_rmsprop_moves_as_torchs_does():
    generator = torch.Generator().manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 2), torch.nn.Linear(7, 11))
    network.to(memory_format=torch.channels_last)
    other = copy.deepcopy(network)
    ours = optimizers.make("rmsprop", Trained(network), 0.01, 1e-5)
    assert isinstance(ours, fused_optimizers.RMSprop)
    reference = torch.optim.RMSprop(other.parameters(), lr=0.01, alpha=0.99, eps=1e-5)
    before = copy.deepcopy(network)
    for step in range(5):
        for parameter, its in zip(network.parameters(), other.parameters(), strict=True):
            parameter.grad = torch.empty_like(parameter).normal_(0, 0.1, generator=generator)
            its.grad = parameter.grad.clone()
        versions = [parameter._version for parameter in network.parameters()]
        if step == 2:
            for optimizer in (ours, reference):
                optimizers.set_learning_rate(optimizer, 0.03)
        ours.step()
        reference.step()
        for parameter, its, version in zip(network.parameters(), other.parameters(), versions, strict=True):
            assert torch.allclose(parameter, its, rtol=1e-5, atol=1e-7)
            assert torch.equal(parameter.grad, its.grad), "a gradient is left as it is"
            assert parameter._version > version
    assert not torch.allclose(before[1].weight, network[1].weight, atol=0.01)
    for parameter, its in zip(network.parameters(), other.parameters(), strict=True):
        assert ours.state[parameter].keys() == reference.state[its].keys()
        assert ours.state[parameter]["step"] == reference.state[its]["step"] == 5
        assert torch.allclose(ours.state[parameter]["square_avg"], reference.state[its]["square_avg"])


def test_rmsprop_goes_on_from_a_saved_state_bit_for_bit():
    def step(optimizer, parameter, number):
        parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
        optimizer.step()

    network = torch.nn.Linear(3, 2)
    optimizer = optimizers.make("rmsprop", Trained(network), 0.01, 1e-5)
    step(optimizer, network.weight, 0)
    again = copy.deepcopy(network)
    restored = optimizers.make("rmsprop", Trained(again), 0.01, 1e-5)
    saved = copy.deepcopy(optimizers.state_dict(optimizer, Trained(network)))
    optimizers.load_state_dict(restored, Trained(again), saved)
    step(optimizer, network.weight, 1)
    step(restored, again.weight, 1)
    assert torch.equal(network.weight, again.weight)
    assert float(restored.state[again.weight]["step"]) == pytest.approx(2)
