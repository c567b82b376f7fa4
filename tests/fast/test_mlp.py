"""Networks computed as one node of the graph: the chain rule written out must be what autograd finds."""

import copy
import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rltrain.config.network import NetworkConfig
from rltrain.fast.mlp import FullyConnected
from rltrain.nn import distributions, networks
from rltrain.nn.trained import Trained


def layers(*sizes: int) -> list[torch.Tensor]:
    """Weight and bias of each layer in turn."""
    linears = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return [parameter for linear in linears for parameter in linear.parameters()]


def by_autograd(x, networks, activation, linear_end):
    """The same, one operation after the other."""
    ends = []
    for parameters in networks:
        y = x
        for layer in range(0, len(parameters), 2):
            y = y @ parameters[layer].t() + parameters[layer + 1]
            if layer + 2 < len(parameters) or not linear_end:
                y = getattr(torch, activation)(y)
        ends.append(y)
    return ends


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("linear_end", [True, False])
def test_values_and_gradients_are_autograds(activation, linear_end):
    """Networks of different depth on one input: a gradient that went to a neighbour's layer would differ."""
    torch.manual_seed(0)
    x, networks = torch.randn(9, 4), [layers(4, 8, 8, 3), layers(4, 5, 1)]
    parameters = [parameter for network in networks for parameter in network]
    weights = [torch.randn(9, 3), torch.randn(9, 1)]

    def values_and_gradients(ends, parameters):
        loss = sum((end * weight).sum() for end, weight in zip(ends, weights, strict=True))
        return [*ends, *torch.autograd.grad(loss, parameters)]

    reference = values_and_gradients(by_autograd(x, networks, activation, linear_end), parameters)
    fused = FullyConnected(networks, activation, linear_end)
    *ends, joined = values_and_gradients(fused(x), [fused.joined])
    ours = [*ends, *fused.parts(joined)]
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # acting goes another way and must see the same policy as learning
        for a, b in zip(fused(x), reference, strict=False):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_an_end_that_the_loss_does_not_use_has_no_gradient():
    """As where a loss leaves the value out: its layers must not move."""
    fused = FullyConnected([layers(4, 8, 3), layers(4, 5, 1)], "tanh", linear_end=True)
    fused(torch.randn(9, 4))[0].sum().backward()
    gradients = fused.parts(fused.joined.grad)
    assert gradients[0].abs().sum() > 0
    assert not any(gradient.any() for gradient in gradients[4:])


@pytest.mark.parametrize("linear_end", [True, False])
def test_what_a_pass_held_is_freed_with_its_result(linear_end):
    """Bug: the node holds its own result, and a run grows by every update until cycles are collected."""
    fused = FullyConnected([layers(4, 8, 3)], "relu", linear_end)
    gc.disable()
    try:
        end = fused(torch.randn(9, 4))[0]
        node = weakref.ref(end.grad_fn)
        del end
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("head", ["q", "dueling", "actor-critic"])
def test_a_copy_of_a_network_computes_with_its_own_parameters(head, pixels):
    """Bug: a target network that was made by `copy.deepcopy` follows every step of the online one."""
    space = spaces.Box(0, 255, (1, 20, 20), np.uint8) if pixels else spaces.Box(-1, 1, (4,), np.float32)
    obs = torch.ones(2, *space.shape, dtype=torch.uint8 if pixels else torch.float32)
    dtype = torch.bfloat16 if pixels else torch.float32

    def torso():
        return networks.Torso(space, 1, NetworkConfig("small_cnn" if pixels else "mlp"), dtype, init=True)

    def make():
        if head == "actor-critic":
            return networks.ActorCritic(torso, distributions.of(spaces.Discrete(3)))
        return networks.QNetwork(torso(), 3, dueling=head == "dueling")

    def act(network):
        with torch.no_grad():
            outputs = network(obs)
        return torch.cat([value.flatten() for value in outputs]) if isinstance(outputs, tuple) else outputs

    online = networks.build(0, make, torch.device("cpu"))
    target = copy.deepcopy(online)
    before = act(online)
    assert torch.equal(act(target), before)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.mul_(2)
    assert not torch.equal(act(online), before)
    assert torch.equal(act(target), before)
    outputs = target(obs)
    (outputs[1] if head == "actor-critic" else outputs).sum().backward()
    assert any(gradient.any() for gradient in Trained(target).gradients().values())
    assert not Trained(online).gradients()
