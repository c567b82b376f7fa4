"""Fully connected networks as one node of the graph of gradients, computed by NumPy, with one array of parameters.

A layer of 64 units takes less time than the bookkeeping around it. As modules, the forward and backward pass of an
actor and a critic with two such layers each are sixty calls and thirty nodes; here the same sums are half the calls in
one node. NumPy's calls cost less than torch's, its tanh takes a tenth of the time, and its matrix products are quicker
where one side is narrow. All parameters lie in one tensor, of which the modules' own are views: what clips and steps
them does it with one call. Only on the processor and in float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Input [N, inputs] and weight [outputs, inputs] of each layer."""


class FullyConnected:
    """What networks of layers f(x w^T + b) make of the same input."""

    joined: Tensor
    """Every parameter, [P] float32, network after network and layer after layer, weight before bias: what an optimizer
    steps where `holds`. A leaf of the graph; the modules' parameters are views of it and get no gradients."""

    def __init__(self, networks: Sequence[Sequence[nn.Parameter]], activation: str, linear_end: bool) -> None:
        """Moves the parameters into one array.

        networks: for each its weight [outputs, inputs] and bias [outputs], layer after layer. activation: f, "tanh" or
        "relu"; with `linear_end` the last layer of each has none.
        """
        self.networks = [list(parameters) for parameters in networks]
        self.parameters = [parameter for parameters in self.networks for parameter in parameters]
        self.activation, self.linear_end = activation, linear_end
        self.joined = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, self.parts(self.joined), strict=True):
            parameter.data = part
        self.joined.requires_grad_()
        ends = np.cumsum([parameter.numel() for parameter in self.parameters]).tolist()
        self._places = [
            (end - parameter.numel(), end, tuple(parameter.shape))
            for parameter, end in zip(self.parameters, ends, strict=True)
        ]
        self._address, self._views = 0, [[np.zeros(0)]]

    @property
    def holds(self) -> bool:
        """Whether the parameters still lie in `joined`: not once their module was moved to another device."""
        return self.joined.data_ptr() == self.parameters[0].data_ptr()

    def parts(self, whole: Tensor) -> list[Tensor]:
        """What of `whole` [P] belongs to each of `parameters`, views of their shapes."""
        sizes = [parameter.numel() for parameter in self.parameters]
        return [part.view_as(own) for part, own in zip(whole.split(sizes), self.parameters, strict=True)]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """[N, inputs] float32 without gradient to [N, outputs of the last layer] of each network."""
        if x.is_cpu and self.holds and not torch.compiler.is_compiling() and not torch.jit.is_tracing():
            if torch.is_grad_enabled():
                return _Node.apply(self.joined, x, self)
            return tuple(torch.from_numpy(y) for y in self.values(x.numpy()))
        function = torch.tanh if self.activation == "tanh" else torch.relu
        ends = []
        for parameters in self.networks:
            end = x
            for layer in range(0, len(parameters), 2):
                end = nn.functional.linear(end, parameters[layer], parameters[layer + 1])
                if layer + 2 < len(parameters) or not self.linear_end:
                    end = function(end)
            ends.append(end)
        return tuple(ends)

    def values(self, x: np.ndarray) -> list[np.ndarray]:
        """As a call, of an array and without gradients: for acting, where every call of torch's would count."""
        return [self._layers(x, arrays)[1] for arrays in self._arrays()]

    def _arrays(self) -> list[list[np.ndarray]]:
        """Every network's parameters as arrays: views, made anew where `joined` has moved (to shared memory, say)."""
        if self.joined.data_ptr() != self._address:
            views = iter(self._cut(self.joined.detach().numpy()))
            self._views = [[next(views) for _ in parameters] for parameters in self.networks]
            self._address = self.joined.data_ptr()
        return self._views

    def _cut(self, whole: np.ndarray) -> list[np.ndarray]:
        """As `parts`, of an array."""
        return [whole[start:end].reshape(shape) for start, end, shape in self._places]

    def _layers(self, x: np.ndarray, parameters: list[np.ndarray]) -> tuple[Layers, np.ndarray]:
        """One network: what each layer got, and what the last one gives."""
        layers, last = [], len(parameters) - 2
        for layer in range(0, last + 2, 2):
            weight = parameters[layer]
            layers.append((x, weight))
            x = np.dot(x, weight.T)
            x += parameters[layer + 1]
            if layer < last or not self.linear_end:
                np.tanh(x, out=x) if self.activation == "tanh" else np.maximum(x, 0.0, out=x)
        return layers, x

    def _gradients(self, layers: Layers, y: np.ndarray, gradient: np.ndarray, out: list[np.ndarray]) -> None:
        """The chain rule written out: for y = f(z), z = x w^T + b and the gradient g of y,
        dz = g f'(z), dw = dz^T x, db = sum dz, dx = dz w. To `out`, like the network's parameters."""
        linear, ones = self.linear_end, np.ones(len(y), np.float32)
        for layer in range(len(layers) - 1, -1, -1):
            x, weight = layers[layer]
            if not linear:
                slope = 1.0 - y * y if self.activation == "tanh" else y > 0.0
                gradient = gradient * slope
            np.dot(ones, gradient, out=out[2 * layer + 1])
            np.dot(gradient.T, x, out=out[2 * layer])
            if layer > 0:
                gradient = np.dot(gradient, weight)
            y, linear = x, False


class _Node(torch.autograd.Function):
    """All networks of one `FullyConnected`."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, x: Tensor, own: FullyConnected) -> tuple[Tensor, ...]:
        array = x.numpy()
        ctx.own, ctx.saved = own, [own._layers(array, arrays) for arrays in own._arrays()]
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(y) for _, y in ctx.saved)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        own: FullyConnected = ctx.own
        whole = np.zeros(len(own.joined), np.float32) if None in gradients else np.empty(len(own.joined), np.float32)
        parts, first = own._cut(whole), 0
        for (layers, y), gradient in zip(ctx.saved, gradients, strict=True):
            last = first + 2 * len(layers)
            if gradient is not None:  # or the loss does not use this network: its gradient is 0
                own._gradients(layers, y, gradient.numpy(), parts[first:last])
            first = last
        return torch.from_numpy(whole), None, None
