"""Torsos for pixels: weights converted once an update, and convolutions with their linear layer as one node.

As modules under autocast, every layer converts its weights anew, ReLU's gradient takes new memory for megabytes, and
each of twenty nodes of the graph of gradients has its bookkeeping. Here the weights are converted once an update, for
acting and learning alike, and ReLU's gradient is written in place.
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
    """Swap the forward pass of every torso for pixels, unless its layers are a plugin's or normalised."""
    for module in list(network.modules()):
        if isinstance(module, Torso) and module.pixels and module.name not in OWN and not module.layer_norm:
            module.forward = FusedTorso(module)  # type: ignore[method-assign]


class FusedTorso:
    """Computes what `Torso.forward` computes."""

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
        """Features [B, num_features] float32 of pixels [B, C, H, W] uint8."""
        torso = self._torso
        if self._strides is not None:
            assert obs.dtype == torch.uint8, "pixels are scaled here and nowhere else"
            pixels = layout.channels_last(obs).to(torso.dtype)
            return convolutional(pixels, self._strides, self._weights(), self._parameters)
        if torso.dtype == torch.float32 or torch.is_grad_enabled():
            return self._plain(obs)
        pixels, variables = torso.split(obs)
        return torso.features(pixels, variables, self._in_low_precision()).float()

    def _weights(self) -> list[Tensor]:
        """What `convolutional` computes with."""
        if self._torso.dtype == torch.float32:
            first, *others = [parameter.detach() for parameter in self._parameters]
            return [first / 255, *others]
        self._in_low_precision()
        return self._converted_weights

    def _in_low_precision(self) -> nn.Sequential:
        """The layers with weights converted once an update; the first of them scales the pixels."""
        if is_recording():  # a replay of the graph must convert anew: nobody will look at the versions
            return self._convert()
        # torch counts a new version of a parameter for every change in place.
        versions = [parameter._version for parameter in self._parameters]
        if self._converted is None or versions != self._converted_from:
            self._convert()
            self._converted_from = versions
        assert self._converted is not None
        return self._converted

    @torch.inference_mode(False)  # what is made here while acting is learned with, too
    @torch.no_grad()
    def _convert(self) -> nn.Sequential:
        if self._converted is None:
            self._converted = copy.deepcopy(self._torso.layers).to(self._torso.dtype).requires_grad_(False)
            self._converted_weights = list(self._converted.parameters())
        first, *others = self._parameters
        torch._foreach_copy_(self._converted_weights, [first / 255, *others])
        return self._converted


def channels_last(obs: Tensor) -> Tensor:
    """Twin of `nn.layout.channels_last`: four planes are interleaved in a fifth of the time."""
    four_planes = obs.shape[1] == 4 and obs.is_cpu and obs.is_contiguous() and sys.byteorder == "little"
    if not four_planes or obs.is_contiguous(memory_format=torch.channels_last):
        return layout.channels_last.plain(obs)
    from rltrain.fast.interleave import interleaved

    return interleaved(obs)


def fits(layers: Sequence[nn.Module]) -> bool:
    """Whether these are convolutions without padding, each with its ReLU, then one linear layer with its own."""
    *convolutions, flatten, linear, last = layers
    kinds = [nn.Conv2d, nn.ReLU] * (len(convolutions) // 2)
    return (
        [type(layer) for layer in convolutions] == kinds
        and all(layer.padding == (0, 0) for layer in convolutions[::2])
        and [type(layer) for layer in (flatten, linear, last)] == [nn.Flatten, nn.Linear, nn.ReLU]
    )


def convolutional(x: Tensor, strides: Sequence[int], weights: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """Features [N, outputs of the linear layer], float32, of pixels [N, C, H, W] from 0 to 255.

    x: channels_last, in the precision to compute in, without gradient. strides: of each convolution.
    weights: what to compute with, weight and bias of layer after layer, in the precision of x, without gradient; the
    first is divided by 255. parameters: what they were made from, float32, which get the gradients.
    """
    if torch.is_grad_enabled():
        return _Convolutional.apply(x, strides, weights, *parameters)
    return _forward(x, strides, weights)[-1].float()


def _forward(x: Tensor, strides: Sequence[int], weights: Sequence[Tensor]) -> list[Tensor]:
    """What each layer gives, from x on; the input of the linear layer, flat, stands before its output."""
    ys = [x]
    for layer, stride in enumerate(strides):
        weight, bias = weights[2 * layer], weights[2 * layer + 1]
        ys.append(nn.functional.conv2d(ys[-1], weight, bias, stride).relu_())
    ys.append(ys[-1].flatten(1))
    ys.append(aten.addmm(weights[-1], ys[-1], weights[-2].t()).relu_())
    return ys


class _Convolutional(torch.autograd.Function):
    """The chain rule written out: for y = relu(z), z = x * w + b and the gradient g of y,
    dz = g where y > 0, and dw, db, dx are those of the convolution (the product)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strides: Sequence[int], weights: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ys = _forward(x, strides, weights)
        # Saved so, a change of theirs before the backward pass is an error and no wrong gradient.
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
