"""Fully connected networks as one node of the graph of gradients, computed by NumPy.

A layer of 64 units takes less time than the bookkeeping around it. As modules, the forward and backward pass of an
actor and a critic with two such layers each are sixty calls and thirty nodes; here the same sums are half the calls in
one node. NumPy's calls cost less than torch's, its tanh takes a tenth of the time, and its matrix products are quicker
where one side is narrow. Only on the processor and in float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fully_connected(
    x: Tensor, networks: Sequence[Sequence[Tensor]], activation: str, linear_end: bool
) -> tuple[Tensor, ...]:
    """What networks of layers f(x w^T + b) make of the same input, [N, inputs] to [N, outputs of the last layer] each.

    x: float32, without gradient. networks: for each its weight [outputs, inputs] and bias [outputs], layer after layer.
    activation: f, "tanh" or "relu"; with `linear_end` the last layer of each has none.
    """
    if x.is_cpu and not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        if torch.is_grad_enabled():
            lengths = [len(parameters) for parameters in networks]
            flat = [parameter for parameters in networks for parameter in parameters]
            return _Networks.apply(x, lengths, activation, linear_end, *flat)
        return tuple(torch.from_numpy(_layers(x, network, activation, linear_end)[1]) for network in networks)
    function = torch.tanh if activation == "tanh" else torch.relu
    ends = []
    for parameters in networks:
        end = x
        for layer in range(0, len(parameters), 2):
            end = torch.nn.functional.linear(end, parameters[layer], parameters[layer + 1])
            if layer + 2 < len(parameters) or not linear_end:
                end = function(end)
        ends.append(end)
    return tuple(ends)


Layers = list[tuple[np.ndarray, np.ndarray]]
"""Input [N, inputs] and weight [outputs, inputs] of each layer."""


def _layers(x: Tensor, parameters: Sequence[Tensor], activation: str, linear_end: bool) -> tuple[Layers, np.ndarray]:
    """One network: what each layer got, and what the last one gives."""
    y, layers = x.numpy(), []
    for layer in range(0, len(parameters), 2):
        weight, bias = parameters[layer].detach().numpy(), parameters[layer + 1].detach().numpy()
        layers.append((y, weight))
        y = np.dot(y, weight.T)
        y += bias
        if layer + 2 < len(parameters) or not linear_end:
            np.tanh(y, out=y) if activation == "tanh" else np.maximum(y, 0.0, out=y)
    return layers, y


class _Networks(torch.autograd.Function):
    """The chain rule written out: for y = f(z), z = x w^T + b and the gradient g of y,
    dz = g f'(z), dw = dz^T x, db = sum dz, dx = dz w."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: list[int], activation: str, linear_end: bool, *flat: Tensor
    ) -> tuple[Tensor, ...]:
        saved, first = [], 0
        for length in lengths:
            saved.append(_layers(x, flat[first : first + length], activation, linear_end))
            first += length
        ctx.networks, ctx.activation, ctx.linear_end = saved, activation, linear_end
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(y) for _, y in saved)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        results: list[Tensor | None] = []
        for (layers, y), end_gradient in zip(reversed(ctx.networks), reversed(gradients), strict=True):
            if end_gradient is None:  # the loss does not use this network
                results += [None] * (2 * len(layers))
                continue
            gradient, linear = end_gradient.numpy(), ctx.linear_end
            for x, weight in reversed(layers):
                if not linear:
                    gradient = gradient * (1.0 - y * y if ctx.activation == "tanh" else y > 0.0)
                # torch's sum keeps the digits that adding up row after row would lose.
                results += [torch.from_numpy(gradient).sum(0), torch.from_numpy(np.dot(gradient.T, x))]
                if x is not layers[0][0]:
                    gradient = np.dot(gradient, weight)
                y, linear = x, False
        return None, None, None, None, *reversed(results)
