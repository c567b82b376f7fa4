"""Fused fully connected networks: all layers in one autograd node, and all parameters in one flat tensor.

A layer of 64 units takes less time than the overhead of its calls. As modules, an actor and a critic with two such
layers each make sixty calls and thirty autograd nodes for one update. Here they make half the calls in one node.

- Large batches use torch, whose addmm includes the bias, and NumPy's tanh, which is faster than torch's.
- Small batches (acting) use NumPy, whose calls have less overhead.
- The modules' parameters are views of one flat tensor, so that clipping and the optimizer step take one call each.

Only for float32 on the CPU.
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
"""The largest batch without gradients (acting) that is computed with NumPy."""

Layers = list[tuple[Tensor, Tensor]]
"""The input [N, inputs] and the weight [outputs, inputs] of each layer."""


def fuse(network: nn.Module) -> None:
    """Fuse the fully connected layers of a network, in place.

    Networks of plugins, with layer normalisation, in bf16 or on another device than the CPU stay as they are.
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
    if network.value is not None:  # dueling: fuse only the torso that both heads share
        fused = FullyConnected([list(torso.layers.parameters())], torso.activation, linear_end=False)
        torso.flat_parameters = fused
        torso.forward = partial(_first, fused, torso)  # type: ignore[method-assign]
        return
    layers = [*torso.layers.parameters(), *network.advantage.parameters()]
    fused = FullyConnected([layers], torso.activation, linear_end=True)
    network.flat_parameters = fused
    network.forward = partial(_first, fused, torso)  # type: ignore[method-assign]


# partial() and not a closure, so that a copy of the network (`copy.deepcopy`) uses its own parameters.


def _heads(fused: "FullyConnected", torso: Torso, obs: Tensor) -> tuple[Tensor, Tensor | None]:
    outputs, *values = fused(torso.flat(obs))
    return outputs, values[0] if values else None


def _first(fused: "FullyConnected", torso: Torso, obs: Tensor) -> Tensor:
    return fused(torso.flat(obs))[0]


class FullyConnected:
    """One or more networks of layers f(x w^T + b) with the same input. Implements `FlatParameters`."""

    joined: Tensor
    """All parameters, [P] float32: network by network, layer by layer, weight before bias. The optimizer steps it.
    It is a leaf of the autograd graph. The modules' parameters are views of it and get no gradients."""

    def __init__(self, networks: Sequence[Sequence[nn.Parameter]], activation: str, linear_end: bool) -> None:
        """Move the parameters into one flat tensor.

        networks: the weight [outputs, inputs] and the bias [outputs] of each layer, for each network.
        activation: f, "tanh" or "relu". linear_end: the last layer of each network has no activation.
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
        """The gradient of the last backward pass, with the layout of `joined`."""
        self._address = 0
        self._views: list[list[Tensor]] = []
        self._gradient_views: list[list[Tensor]] = []
        self._arrays: list[list[np.ndarray]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "FullyConnected":
        """torch copies each parameter to memory of its own: bring the copies together again."""
        return FullyConnected(copy.deepcopy(self.networks, memo), self.activation, self.linear_end)

    def parts(self, whole: Tensor) -> list[Tensor]:
        """Split `whole` [P] into views, one for each of `parameters` and of its shape."""
        parts = zip(whole.split(self._sizes), self.parameters, strict=True)
        return [part if own.dim() == 1 else part.view_as(own) for part, own in parts]

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the output of each network, [N, outputs], for x, [N, inputs] float32 without gradient."""
        if torch.is_grad_enabled():
            return _Node.apply(self.joined, x, self)
        if len(x) <= FEW:
            return tuple(torch.from_numpy(y) for y in self._numpy_forward(x.numpy()))
        return tuple(self.layers(x, parameters)[1] for parameters in self.views())

    def _numpy_forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the output of each network for a few observations."""
        self.views()
        outputs = []
        for parameters in self._arrays:
            y, last = x, len(parameters) - 2
            for layer in range(0, last + 2, 2):
                y = np.dot(y, parameters[layer])
                y += parameters[layer + 1]
                if layer < last or not self.linear_end:
                    np.tanh(y, out=y) if self.activation == "tanh" else np.maximum(y, 0.0, out=y)
            outputs.append(y)
        return outputs

    def views(self) -> list[list[Tensor]]:
        """Return the parameters of each network as views of `joined`, without gradients.

        Makes new views if `joined` has moved, for example to shared memory.
        """
        if self.joined.data_ptr() != self._address:
            parts = iter(self.parts(self.joined.detach()))
            self._views = [[next(parts) for _ in parameters] for parameters in self.networks]
            self._arrays = [[part.numpy().T for part in parts] for parts in self._views]
            parts = iter(self.parts(self.gradient))
            self._gradient_views = [[next(parts) for _ in parameters] for parameters in self.networks]
            self._address = self.joined.data_ptr()
        return self._views

    def gradient_views(self) -> list[list[Tensor]]:
        """Return views of `gradient` in the layout of `views`."""
        self.views()
        return self._gradient_views

    def layers(self, x: Tensor, parameters: list[Tensor]) -> tuple[Layers, Tensor]:
        """Run one network. Return the input and weight of each layer, and the output of the last layer."""
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
        """Run the backward pass of one network and write the gradients of its parameters to `out`.

        For y = f(z), z = x w^T + b and the gradient g of y: dz = g f'(z), dw = dz^T x, db = sum dz, dx = dz w.
        layers, y: as `layers` returned them. gradient: of y, [N, outputs].
        """
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
    """Forward and backward pass of all networks of one `FullyConnected`."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, x: Tensor, fused: FullyConnected) -> tuple[Tensor, ...]:
        results = [fused.layers(x, parameters) for parameters in fused.views()]
        # Detached: a node that holds its own output is a reference cycle, which only the garbage collector frees.
        ctx.fused, ctx.saved = fused, [(layers, y.detach()) for layers, y in results]
        ctx.set_materialize_grads(False)
        return tuple(y for _, y in results)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        fused: FullyConnected = ctx.fused
        for (layers, y), gradient, out in zip(ctx.saved, gradients, fused.gradient_views(), strict=True):
            if gradient is not None:
                fused.gradients(layers, y, gradient, out)
            else:  # the loss does not use this network
                for part in out:
                    part.zero_()
        return fused.gradient.clone(), None, None  # a copy, because the next backward pass overwrites fused.gradient
