"""One tensor in place of a network's parameters: every one is stepped, and saved as if it were stepped by itself."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.config.network import NetworkConfig
from rltrain.nn import distributions, networks, optimizers
from rltrain.nn.trained import Trained

VECTOR = spaces.Box(-1, 1, (4,), np.float32)


def torso() -> networks.Torso:
    return networks.Torso(VECTOR, 1, NetworkConfig("mlp", hidden_sizes=[8, 6]), torch.float32, init=True)


def actor_critic(fuse=True):
    """Two networks, and deviations that lie outside of both."""
    pushes = distributions.of(spaces.Box(-1, 1, (2,), np.float32))
    return networks.build(0, lambda: networks.ActorCritic(torso, pushes), torch.device("cpu"), fuse)


def dueling(fuse=True):
    """One network's layers; both heads lie outside."""
    return networks.build(0, lambda: networks.QNetwork(torso(), 3, dueling=True), torch.device("cpu"), fuse)


def stepped_twice(network, trained):
    """The optimizer after two steps with gradients that are all different, of every parameter by its name."""
    optimizer = optimizers.make("adam", trained, 0.1, 1e-8)
    reference = copy.deepcopy(network)
    by_itself = torch.optim.Adam(reference.parameters(), lr=0.1, eps=1e-8)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        wanted = {name: torch.randn(p.shape, generator=generator) for name, p in reference.named_parameters()}
        for index, tensor in enumerate(trained.tensors):
            names = list(trained.split(index, tensor))
            tensor.grad = trained.join(index, {name: wanted[name] for name in names})
        for name, parameter in reference.named_parameters():
            parameter.grad = wanted[name]
        assert all(torch.equal(gradient, wanted[name]) for name, gradient in trained.gradients().items())
        assert list(trained.gradients()) == list(wanted)
        optimizer.step()
        by_itself.step()
    return optimizer, reference, by_itself


@pytest.mark.parametrize(("make", "num_tensors"), [(actor_critic, 2), (dueling, 5)])
def test_parameters_that_lie_in_one_tensor_move_and_are_saved_as_if_each_were_stepped_by_itself(make, num_tensors):
    """Bugs: statistics in the order of the tensor and not of the network; a parameter that nobody steps."""
    network = make()
    trained = Trained(network)
    assert len(trained.tensors) == num_tensors
    optimizer, reference, by_itself = stepped_twice(network, trained)
    for (name, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    ours, theirs = optimizers.state_dict(optimizer, trained), by_itself.state_dict()
    assert ours["param_groups"][0]["params"] == theirs["param_groups"][0]["params"]
    assert ours["state"].keys() == {str(index) for index in theirs["state"]}
    for index, statistics in theirs["state"].items():
        assert ours["state"][str(index)].keys() == statistics.keys()
        for key, value in statistics.items():
            torch.testing.assert_close(ours["state"][str(index)][key], value)


def test_a_state_is_taken_back_to_the_last_bit_and_one_of_other_shapes_is_refused():
    network = actor_critic()
    trained = Trained(network)
    optimizer, _, _ = stepped_twice(network, trained)
    state = copy.deepcopy(optimizers.state_dict(optimizer, trained))
    other = optimizers.make("adam", trained, 0.5, 1e-8)
    optimizers.load_state_dict(other, trained, state)
    again = optimizers.state_dict(other, trained)
    assert again["param_groups"] == state["param_groups"]
    for index, statistics in state["state"].items():
        assert all(torch.equal(again["state"][index][key], value) for key, value in statistics.items())
    state["state"]["0"]["exp_avg"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"'exp_avg': \(3, 3\).*, not "):
        optimizers.load_state_dict(other, trained, state)


@pytest.mark.parametrize("change", ["other optimizer", "missing", "scalar"])
def test_statistics_of_another_optimizer_are_refused_and_its_settings_are_not_taken(change):
    """Bugs: KeyError: 'exp_avg' in the first update; a checkpoint that says `maximize` trains away from the optimum."""
    network = actor_critic()
    trained = Trained(network)
    optimizer, _, _ = stepped_twice(network, trained)
    state = copy.deepcopy(optimizers.state_dict(optimizer, trained))
    state["param_groups"][0] |= {"maximize": True, "eps": 1.0, "lr": 0.25}
    optimizers.load_state_dict(optimizer, trained, state)
    group = optimizer.param_groups[0]
    assert (group["maximize"], group["eps"], group["lr"]) == (False, 1e-8, 0.25)
    statistics = state["state"]["0"]
    average = statistics.pop("exp_avg")
    if change == "other optimizer":
        statistics["square_avg"] = average
    elif change == "scalar":
        statistics["exp_avg"] = torch.zeros(())
    with pytest.raises(ValueError, match=r"the optimizer's statistics of .* have the shapes"):
        optimizers.load_state_dict(optimizer, trained, state)


def test_a_network_that_has_left_its_one_tensor_is_refused():
    """Bug: what is stepped is the tensor that the parameters have left, on their way to another device say."""
    network = actor_critic()
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()  # as `Module.to` does
    with pytest.raises(AssertionError, match="have left their tensor"):
        Trained(network)


@pytest.mark.parametrize("fuse", [True, False])
def test_a_network_that_has_left_what_is_stepped_is_an_error(fuse):
    """Bug: copied after its optimizer was made, it would learn nothing, and nobody be told."""
    network = actor_critic(fuse)
    trained = Trained(network)

    def learn(network):
        for tensor in trained.tensors:
            tensor.grad = None
        network(torch.ones(3, 4))[1].sum().backward()
        return optimizers.clip_gradients(trained, 1.0)

    assert learn(network) > 0
    with pytest.raises(AssertionError, match="was copied or moved"):
        learn(copy.deepcopy(network))
