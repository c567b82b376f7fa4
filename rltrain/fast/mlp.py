"""Fully connected networks as one node of the graph of gradients, with one array of parameters.

A layer of 64 units takes less time than the bookkeeping around it. As modules, the forward and backward pass of an
actor and a critic with two such layers each are sixty calls and thirty nodes; here the same sums are half the calls in
one node. Batches are multiplied by torch, which adds the bias in the same call; NumPy's tanh takes less time than
torch's, and for acting, where a call costs more than what it computes, so do all its calls. All parameters lie in one
tensor, of which the modules' own are views: what clips and steps them does it with one call. Only on the processor and
in float32.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rltrain.config.network import OWN
from rltrain.nn.networks import ActorCritic, QNetwork, Torso

FEW = 32
"""Up to so many observations are computed by NumPy, without gradients: an agent that acts."""

Layers = list[tuple[Tensor, Tensor]]
"""Input [N, inputs] and weight [outputs, inputs] of each layer."""


def fuse(network: nn.Module) -> None:
    """Compute the fully connected layers of a network's modules in one go, where they are of one kind.

    Not with layers of a plugin's own or layer normalisation between them, in bf16, or on another device.
    """
    for module in list(network.modules()):
        if isinstance(module, ActorCritic) and _fits(module.torso):
            _fuse_actor_critic(module)
        elif isinstance(module, QNetwork) and _fits(module.torso):
            _fuse_q_network(module)


def _fits(torso: Torso) -> bool:
    plain = torso.name not in OWN and not torso.layer_norm and not torso.pixels
    return plain and torso.dtype == torch.float32 and next(torso.parameters()).is_cpu


def _fuse_actor_critic(network: ActorCritic) -> None:
    torso, value_torso, value = network.torso, network.value_torso, network.value
    layers = [[*torso.layers.parameters(), *network.policy.parameters()]]
    if value_torso is not None and value is not None:
        layers.append([*value_torso.layers.parameters(), *value.parameters()])
    fused = FullyConnected(layers, torso.activation, linear_end=True)
    network.heads = partial(_heads, fused, torso)  # type: ignore[method-assign]
    network.flat_parameters = fused


def _fuse_q_network(network: QNetwork) -> None:
    torso = network.torso
    if network.value is not None:  # dueling streams: only what they share
        fused = FullyConnected([list(torso.layers.parameters())], torso.activation, linear_end=False)
        torso.flat_parameters = fused
        torso.forward = partial(_first, fused, torso)  # type: ignore[method-assign]
        return
    layers = [*torso.layers.parameters(), *network.advantage.parameters()]
    fused = FullyConnected([layers], torso.activation, linear_end=True)
    network.flat_parameters = fused
    network.forward = partial(_first, fused, torso)  # type: ignore[method-assign]


# Partial functions and not closures: a copy of a network (`copy.deepcopy`) computes with its own parameters.


def _heads(fused: "FullyConnected", torso: Torso, obs: Tensor) -> tuple[Tensor, Tensor | None]:
    outputs, *values = fused(torso.flat(obs))
    return outputs, values[0] if values else None


def _first(fused: "FullyConnected", torso: Torso, obs: Tensor) -> Tensor:
    return fused(torso.flat(obs))[0]


class FullyConnected:
    """What networks of layers f(x w^T + b) make of the same input."""

    joined: Tensor
    """Every parameter, [P] float32, network after network and layer after layer, weight before bias: what an optimizer
    steps. A leaf of the graph; the modules' parameters are views of it and get no gradients."""

    def __init__(self, networks: Sequence[Sequence[nn.Parameter]], activation: str, linear_end: bool) -> None:
        """Moves the parameters into one array.

        networks: for each its weight [outputs, inputs] and bias [outputs], layer after layer. activation: f, "tanh" or
        "relu"; with `linear_end` the last layer of each has none.
        """
        self.networks = [list(parameters) for parameters in networks]
        self.parameters = [parameter for parameters in self.networks for parameter in parameters]
        self.activation, self.linear_end = activation, linear_end
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self.joined = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, self.parts(self.joined), strict=True):
            parameter.data = part
        self.joined.requires_grad_()
        self.gradient = torch.zeros(len(self.joined))
        """What the last backward pass found, like `joined`."""
        self._address = 0
        self._views: list[list[Tensor]] = []
        self._gradient_views: list[list[Tensor]] = []
        self._arrays: list[list[np.ndarray]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "FullyConnected":
        """torch copies each parameter to memory of its own: bring the copies together again."""
        return FullyConnected(copy.deepcopy(self.networks, memo), self.activation, self.linear_end)

    def parts(self, whole: Tensor) -> list[Tensor]:
        """What of `whole` [P] belongs to each of `parameters`, views of their shapes."""
        parts = zip(whole.split(self._sizes), self.parameters, strict=True)
        return [part if own.dim() == 1 else part.view_as(own) for part, own in parts]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """[N, inputs] float32 without gradient to [N, outputs of the last layer] of each network."""
        if torch.is_grad_enabled():
            return _Node.apply(self.joined, x, self)
        if len(x) <= FEW:
            return tuple(torch.from_numpy(y) for y in self._few(x.numpy()))
        return tuple(self.layers(x, parameters)[1] for parameters in self.views())

    def _few(self, x: np.ndarray) -> list[np.ndarray]:
        """What every network makes of a few observations."""
        self.views()
        ends = []
        for parameters in self._arrays:
            y, last = x, len(parameters) - 2
            for layer in range(0, last + 2, 2):
                y = np.dot(y, parameters[layer])
                y += parameters[layer + 1]
                if layer < last or not self.linear_end:
                    np.tanh(y, out=y) if self.activation == "tanh" else np.maximum(y, 0.0, out=y)
            ends.append(y)
        return ends

    def views(self) -> list[list[Tensor]]:
        """Every network's parameters, without gradients; made anew where `joined` has moved (to shared memory, say)."""
        if self.joined.data_ptr() != self._address:
            parts = iter(self.parts(self.joined.detach()))
            self._views = [[next(parts) for _ in parameters] for parameters in self.networks]
            self._arrays = [[part.numpy().T for part in parts] for parts in self._views]
            parts = iter(self.parts(self.gradient))
            self._gradient_views = [[next(parts) for _ in parameters] for parameters in self.networks]
            self._address = self.joined.data_ptr()
        return self._views

    def gradient_views(self) -> list[list[Tensor]]:
        """As `views`, of `gradient`."""
        self.views()
        return self._gradient_views

    def layers(self, x: Tensor, parameters: list[Tensor]) -> tuple[Layers, Tensor]:
        """One network: what each layer got, and what the last one gives."""
        layers, last = [], len(parameters) - 2
        for layer in range(0, last + 2, 2):
            weight = parameters[layer]
            layers.append((x, weight))
            x = torch.addmm(parameters[layer + 1], x, weight.t())
            if layer < last or not self.linear_end:
                if self.activation == "tanh":
                    array = x.numpy()
                    np.tanh(array, out=array)
                else:
                    x.relu_()
        return layers, x

    def gradients(self, layers: Layers, y: Tensor, gradient: Tensor, out: list[Tensor]) -> None:
        """The chain rule written out: for y = f(z), z = x w^T + b and the gradient g of y,
        dz = g f'(z), dw = dz^T x, db = sum dz, dx = dz w. To `out`, like the network's parameters."""
        linear = self.linear_end
        for layer in range(len(layers) - 1, -1, -1):
            x, weight = layers[layer]
            if not linear and self.activation == "tanh":
                gradient = torch.ops.aten.tanh_backward.default(gradient, y)
            elif not linear:
                gradient = torch.ops.aten.threshold_backward.default(gradient, y, 0)
            torch.sum(gradient, 0, out=out[2 * layer + 1])
            torch.mm(gradient.t(), x, out=out[2 * layer])
            if layer > 0:
                gradient = torch.mm(gradient, weight)
            y, linear = x, False


class _Node(torch.autograd.Function):
    """All networks of one `FullyConnected`."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, x: Tensor, own: FullyConnected) -> tuple[Tensor, ...]:
        found = [own.layers(x, parameters) for parameters in own.views()]
        # A result that its own node held would be freed by the next collection of cycles alone.
        ctx.own, ctx.saved = own, [(layers, y.detach()) for layers, y in found]
        ctx.set_materialize_grads(False)
        return tuple(y for _, y in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        own: FullyConnected = ctx.own
        for (layers, y), gradient, out in zip(ctx.saved, gradients, own.gradient_views(), strict=True):
            if gradient is not None:
                own.gradients(layers, y, gradient, out)
            else:  # the loss does not use this network
                for part in out:
                    part.zero_()
        return own.gradient.clone(), None, None  # a copy, as the next backward pass writes to the same place
