"""Fused torsos for pixels: convert the weights once per update, and compute all layers in one autograd node.

As modules under autocast, each layer converts its weights in every call, the backward pass of ReLU allocates megabytes,
and autograd handles twenty nodes. Here acting and training share weights that are converted once per update, and ReLU's
gradient is computed in place.
"""

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rltrain.config.network import OWN
from rltrain.nn import layout
from rltrain.nn.networks import Torso
from rltrain.nn.recording import is_recording

aten = torch.ops.aten


def fuse(network: nn.Module) -> None:
    """Replace the forward pass of each torso for pixels, except a plugin's and those with layer normalisation."""
    for module in list(network.modules()):
        if isinstance(module, Torso) and module.pixels and module.name not in OWN and not module.layer_norm:
            module.forward = FusedTorso(module)  # type: ignore[method-assign]


class FusedTorso:
    """The fused forward pass of a torso for pixels. It computes the same as `Torso.forward`."""

    def __init__(self, torso: Torso) -> None:
        self._torso = torso
        self._plain = torso.forward
        self._parameters = list(torso.layers.parameters())
        layers = list(torso.layers)
        one_node = fits(layers) and torso.variable_space is None and self._parameters[0].is_cpu
        self._strides = [layer.stride[0] for layer in layers if isinstance(layer, nn.Conv2d)] if one_node else None
        self._converted: nn.Sequential | None = None
        self._converted_weights: list[Tensor] = []
        self._converted_from: list[int] = []

    def __call__(self, obs: Tensor) -> Tensor:
        """Return the features, [B, num_features] float32, of pixels [B, C, H, W] uint8."""
        torso = self._torso
        if self._strides is not None:
            assert obs.dtype == torch.uint8, "pixels must be uint8: only the torso scales them"
            pixels = layout.channels_last(obs).to(torso.dtype)
            return convolutional(pixels, self._strides, self._weights(), self._parameters)
        if torso.dtype == torch.float32 or torch.is_grad_enabled():
            return self._plain(obs)
        pixels, variables = torso.split(obs)
        return torso.features(pixels, variables, self._in_low_precision()).float()

    def _weights(self) -> list[Tensor]:
        """Return the weights for `convolutional`, in the torso's dtype and with the first divided by 255."""
        if self._torso.dtype == torch.float32:
            first, *others = [parameter.detach() for parameter in self._parameters]
            return [first / 255, *others]
        self._in_low_precision()
        return self._converted_weights

    def _in_low_precision(self) -> nn.Sequential:
        """Return the layers with converted weights, the first divided by 255. Converts them once per update."""
        if is_recording():  # a CUDA graph must contain the conversion, because its replay runs no Python
            return self._convert()
        # torch increments the version of a parameter with each change in place.
        versions = [parameter._version for parameter in self._parameters]
        if self._converted is None or versions != self._converted_from:
            self._convert()
            self._converted_from = versions
        assert self._converted is not None
        return self._converted

    @torch.inference_mode(False)  # the same tensors serve for training, which cannot use inference tensors
    @torch.no_grad()
    def _convert(self) -> nn.Sequential:
        if self._converted is None:
            self._converted = copy.deepcopy(self._torso.layers).to(self._torso.dtype).requires_grad_(False)
            self._converted_weights = list(self._converted.parameters())
        first, *others = self._parameters
        torch._foreach_copy_(self._converted_weights, [first / 255, *others])
        return self._converted


def channels_last(obs: Tensor) -> Tensor:
    """Twin of `nn.layout.channels_last`: four planes of a CPU tensor take a fifth of the time."""
    four_planes = obs.shape[1] == 4 and obs.is_cpu and obs.is_contiguous() and sys.byteorder == "little"
    if not four_planes or obs.is_contiguous(memory_format=torch.channels_last):
        return layout.channels_last.plain(obs)
    from rltrain.fast.interleave import interleaved

    return interleaved(obs)


def fits(layers: Sequence[nn.Module]) -> bool:
    """Return true for unpadded convolutions with a ReLU each, followed by one linear layer with a ReLU."""
    *convolutions, flatten, linear, last = layers
    kinds = [nn.Conv2d, nn.ReLU] * (len(convolutions) // 2)
    return (
        [type(layer) for layer in convolutions] == kinds
        and all(layer.padding == (0, 0) for layer in convolutions[::2])
        and [type(layer) for layer in (flatten, linear, last)] == [nn.Flatten, nn.Linear, nn.ReLU]
    )


def convolutional(x: Tensor, strides: Sequence[int], weights: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Return the features, [N, outputs of the linear layer] float32, of pixels [N, C, H, W] from 0 to 255.

    x: the pixels, channels_last, in the dtype to compute in, without gradient. strides: of the convolutions.
    weights: weight and bias of each layer, in the dtype of x, without gradient; the first weight is divided by 255.
    parameters: the float32 parameters that `weights` were converted from. They get the gradients.
    """
    if torch.is_grad_enabled():
        return _Convolutional.apply(x, strides, weights, *parameters)
    return _forward(x, strides, weights)[-1].float()


def _forward(x: Tensor, strides: Sequence[int], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return x, the output of each convolution, the flattened last one, and the output of the linear layer."""
    ys = [x]
    for layer, stride in enumerate(strides):
        weight, bias = weights[2 * layer], weights[2 * layer + 1]
        ys.append(nn.functional.conv2d(ys[-1], weight, bias, stride).relu_())
    ys.append(ys[-1].flatten(1))
    ys.append(aten.addmm(weights[-1], ys[-1], weights[-2].t()).relu_())
    return ys


class _Convolutional(torch.autograd.Function):
    """Forward and backward pass of all layers.

    For y = relu(z), z = conv(x, w) + b (or x w^T + b) and the gradient g of y: dz = g where y > 0, else 0. Then dw, db
    and dx are the gradients of the convolution (or the matrix product) for dz.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, strides: Sequence[int], weights: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ys = _forward(x, strides, weights)
        # save_for_backward raises an error if a tensor is changed in place before the backward pass.
        ctx.save_for_backward(*ys, *weights)
        ctx.strides = strides
        return ys[-1].float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        num_convolutions = len(ctx.strides)
        ys, weights = ctx.saved_tensors[: num_convolutions + 3], ctx.saved_tensors[num_convolutions + 3 :]
        *activations, flat, end = ys
        gradient = aten.threshold_backward(gradient, end, 0)
        results = [gradient.sum(0)]
        gradient = gradient.to(flat.dtype)
        results.append(torch.mm(gradient.t(), flat).float())
        gradient = torch.mm(gradient, weights[-2]).view(activations[-1].shape)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        for layer in reversed(range(num_convolutions)):
            x, y, weight, stride = activations[layer], activations[layer + 1], weights[2 * layer], ctx.strides[layer]
            aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
            wanted = [layer > 0, True, True]
            gradient, weight_gradient, bias_gradient = aten.convolution_backward(
                gradient, x, weight, [len(weight)], [stride] * 2, [0, 0], [1, 1], False, [0, 0], 1, wanted
            )
            results += [bias_gradient.float(), weight_gradient.float()]
        results[-1] = results[-1] / 255
        return None, None, None, *reversed(results)
