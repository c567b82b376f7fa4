"""The convolutional node: its backward pass, written out, against that of torch's own modules."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.config.network import NetworkConfig
from rltrain.nn import layout, networks

PIXELS = spaces.Box(0, 255, (1, 84, 84), np.uint8)


def torso(dtype, name="nature_cnn", layer_norm=False):
    def make():
        return networks.Torso(PIXELS, 4, NetworkConfig(name), dtype, True, layer_norm)

    return networks.build(0, make, torch.device("cpu"))


def pixels(num=5):
    return torch.randint(0, 256, (num, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def gradients(module, obs, as_modules):
    """Features, and the gradients of every parameter for a gradient of the features that has both signs."""
    module.zero_grad()
    features = networks.Torso.forward(module, obs) if as_modules else module(obs)
    assert ("_Convolutional" in type(features.grad_fn).__name__) != as_modules
    if not as_modules:
        assert {tensor.dtype for tensor in features.grad_fn.saved_tensors} == {module.dtype}
    features.backward(torch.randn(features.shape, generator=torch.Generator().manual_seed(2)))
    return features.detach(), [parameter.grad.clone() for parameter in module.parameters()]


@pytest.mark.parametrize("name", ["nature_cnn", "small_cnn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_features_and_gradients_are_those_of_modules(name, dtype, tolerance):
    module = torso(dtype, name)
    with torch.no_grad():  # biases too decide what ReLU lets through
        for parameter in module.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    ours, modules = gradients(module, pixels(), False), gradients(module, pixels(), True)
    assert torch.allclose(ours[0], modules[0], rtol=tolerance, atol=tolerance)
    for gradient, wanted in zip(ours[1], modules[1], strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).norm() <= tolerance * wanted.norm()
        assert wanted.norm() > 0


def test_acting_first_leaves_weights_that_can_be_learned_with():
    """Bug: weights converted while acting are tensors of inference mode, which no gradient can go through."""
    module = torso(torch.bfloat16)
    with torch.inference_mode():
        acting = module(pixels())
    features = module(pixels())
    assert torch.equal(features, acting)
    features.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_that_change_before_the_backward_pass_are_an_error(dtype):
    module = torso(dtype)
    features = module(pixels())
    with torch.no_grad():
        module.layers[2].weight += 1
        module(pixels())  # converts them anew
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        features.sum().backward()


@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 4, 84, 84), (2, 3, 6, 6), (2, 4, 1, 1), (2, 1, 5, 5)])
def test_channels_last_changes_the_layout_and_no_number(shape):
    obs = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    changed = layout.channels_last(obs)
    assert torch.equal(changed, obs)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layout.channels_last(changed), obs)
    assert torch.equal(layout.channels_last(obs[:, :, :4, 1:]), obs[:, :, :4, 1:])


@pytest.mark.parametrize(
    ("name", "layer_norm", "in_one_node"),
    [
        ("nature_cnn", False, True),
        ("small_cnn", False, True),
        ("nature_cnn", True, False),
        ("impala_cnn", False, False),
        ("course_cnn", False, False),
    ],
)
def test_other_layers_stay_modules(name, layer_norm, in_one_node):
    features = torso(torch.float32, name, layer_norm)(pixels())
    assert ("_Convolutional" in type(features.grad_fn).__name__) == in_one_node
