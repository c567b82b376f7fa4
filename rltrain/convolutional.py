"""Convolutions with one fully connected layer on them as one node of the graph of gradients, in the run's precision.

As modules under autocast, every layer converts its weights anew, ReLU's gradient takes new memory for megabytes, and
each of twenty nodes has its bookkeeping. Here the weights are converted once an update, for acting and learning alike,
and ReLU's gradient is written in place. Only on the processor.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

aten = torch.ops.aten


def fits(layers: Sequence[nn.Module]) -> bool:
    """Whether these are convolutions without padding, each with its ReLU, then one linear layer with its own."""
    *convolutions, flatten, linear, last = layers
    kinds = [nn.Conv2d, nn.ReLU] * (len(convolutions) // 2)
    return (
        [type(layer) for layer in convolutions] == kinds
        and all(layer.padding == (0, 0) for layer in convolutions[::2])
        and [type(layer) for layer in (flatten, linear, last)] == [nn.Flatten, nn.Linear, nn.ReLU]
    )


def possible(obs: Tensor, layers: nn.Sequential) -> bool:
    """Whether nobody needs the layers one by one: another device, an exporter, or who put a hook on one."""
    if not obs.is_cpu or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def channels_last(obs: Tensor) -> Tensor:
    """Pixels [N, C, H, W] uint8 as convolutions read them, in torch's memory format channels_last."""
    four_planes = obs.shape[1] == 4 and obs.is_cpu and obs.is_contiguous() and sys.byteorder == "little"
    if not four_planes or _by_torch(obs):
        return obs.contiguous(memory_format=torch.channels_last)
    from rltrain.interleave import interleaved

    return interleaved(obs)


def _by_torch(obs: Tensor) -> bool:
    """Whether an exporter looks on, or nothing is to be done."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return tracing or obs.is_contiguous(memory_format=torch.channels_last)


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
