"""Torsos that read observations and the heads that agents put on them.

Pixels arrive as uint8 and are scaled to [0, 1] here, in one place. Torsos compute in the run's precision, heads in
fp32: values and probabilities lose too much in bf16.
"""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from rltrain import convolutional, cuda_graphs
from rltrain.cnns import CNNS, Activation
from rltrain.distributions import Distribution
from rltrain.envs.spaces import PixelsAndVariables, pixel_shape
from rltrain.errors import ConfigError
from rltrain.fully_connected import FullyConnected
from rltrain.network_config import OWN, NetworkConfig

VARIABLE_SCALE = 100.0
"""Variables below a frame's pixels are divided by this: health, armour and ammunition count to 100 or 200."""


def obs_shape(frame_space: gymnasium.Space, stack_num: int) -> tuple[int, ...]:
    """The shape of one stacked observation: frames and vectors are joined along their first axis."""
    shape = tuple(frame_space.shape or ())
    return (shape[0] * stack_num, *shape[1:]) if shape else ()


def orthogonal(layer: nn.Module, gain: float) -> nn.Module:
    """Orthogonal weights and zero biases (Saxe et al. 2014), the usual start of actor-critic networks."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    nn.init.orthogonal_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Torso(nn.Module):
    """Observation to features: [B, *obs_shape] in its stored dtype to [B, num_features] float32.

    Variables below a frame's pixels, those of every stacked frame, join the inputs of the last linear layer.
    """

    def __init__(
        self,
        frame_space: gymnasium.Space,
        stack_num: int,
        config: NetworkConfig,
        dtype: torch.dtype,
        init: bool,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        shape = obs_shape(frame_space, stack_num)
        self.dtype = dtype
        self.variable_space = frame_space if isinstance(frame_space, PixelsAndVariables) else None
        self.channels_per_frame = shape[0] // stack_num if shape else 0
        self.pixels = len(shape) == 3
        self.num_states = int(frame_space.n) if isinstance(frame_space, gymnasium.spaces.Discrete) else 0
        self.name = config.name
        if self.pixels:
            layers = (CNNS | OWN)[self.name]((shape[0], *pixel_shape(frame_space)[1:]))
        elif self.name in OWN:
            layers = OWN[self.name](self.num_states or math.prod(shape))
        else:
            layers = mlp(self.num_states or math.prod(shape), config)
        if self.name in OWN:
            _check_own(self.name, layers, self.pixels)
        if layer_norm:
            layers = [part for layer in layers for part in (layer, *normalisation(layer))]
        linears = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        self.last_linear = linears[-1]
        last = layers[self.last_linear]
        assert isinstance(last, nn.Linear)
        self.num_features = last.out_features
        if self.variable_space is not None:
            num_inputs = last.in_features + stack_num * self.variable_space.num_variables
            layers[self.last_linear] = nn.Linear(num_inputs, self.num_features)
        self.layers = nn.Sequential(*layers)
        if init:
            for layer in self.layers.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    orthogonal(layer, math.sqrt(2))
        if self.pixels:
            self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.large_layers = self.pixels and self.name != "small_cnn"
        ours = self.name not in OWN and not layer_norm
        # Layers of one kind, with nothing between them, are computed in one go: small ones then take half the time.
        self.in_one_go = ours and not self.pixels and dtype == torch.float32
        self.fused: FullyConnected | None = None
        self.activation = config.activation
        # In a list, so that it is no part of the module: checkpoints hold the parameters once, in fp32.
        self._converted: list[nn.Sequential] = []
        self._converted_weights: list[Tensor] = []
        self._converted_from: list[int] = []
        self._convertible = ours
        one_node = self.pixels and ours and self.variable_space is None and convolutional.fits(layers)
        self._strides = [layer.stride[0] for layer in layers if isinstance(layer, nn.Conv2d)] if one_node else None
        self._parameters_in_order = list(self.layers.parameters())

    def forward(self, obs: Tensor) -> Tensor:
        """Features of a batch of observations."""
        if self.fused is not None:
            return self.fused(self.flat(obs))[0]
        variables = None
        if self.pixels:
            assert obs.dtype == torch.uint8, "pixels are scaled here and nowhere else"
            if self.variable_space is not None:
                obs, variables = obs[:, :, : self.variable_space.height], self._variables(obs, self.variable_space)
            # The layout is changed while a pixel is one byte: half the time of changing it after the conversion.
            obs = convolutional.channels_last(obs).to(self.dtype)
            if self._strides and convolutional.possible(obs, self.layers):
                return convolutional.convolutional(obs, self._strides, self._weights(), self._parameters_in_order)
        else:
            obs = self.flat(obs)
        if self.dtype == torch.float32:
            return self._features(obs, variables)
        if self.pixels and self._convertible and not torch.is_grad_enabled():
            return self._features(obs, variables, self._in_low_precision()).float()
        with torch.autocast(obs.device.type, self.dtype):
            features = self._features(obs, variables)
        return features.float()

    def _weights(self) -> list[Tensor]:
        """What `convolutional` computes with."""
        if self.dtype == torch.float32:
            first, *others = [parameter.detach() for parameter in self._parameters_in_order]
            return [first / 255, *others]
        self._in_low_precision()
        return self._converted_weights

    def _in_low_precision(self) -> nn.Sequential:
        """The layers with weights converted once an update: acting for a few observations takes half the time."""
        if cuda_graphs.is_recording():  # a replay reads the parameters of then, whose versions nobody will look at
            self._convert()
            return self._converted[0]
        versions = [parameter._version for parameter in self._parameters_in_order]
        if versions != self._converted_from:
            self._convert()
            self._converted_from = versions
        return self._converted[0]

    @torch.inference_mode(False)  # as what is made here while acting is learned with, too
    @torch.no_grad()
    def _convert(self) -> None:
        if not self._converted:
            self._converted.append(copy.deepcopy(self.layers).to(self.dtype).requires_grad_(False))
            self._converted_weights = list(self._converted[0].parameters())
        first, *others = self._parameters_in_order
        torch._foreach_copy_(self._converted_weights, [first / 255, *others])

    def flat(self, obs: Tensor) -> Tensor:
        """Observations without pixels as the first layer takes them, [B, inputs] float32."""
        return nn.functional.one_hot(obs, self.num_states).float() if self.num_states else obs.float().flatten(1)

    def _variables(self, obs: Tensor, space: PixelsAndVariables) -> Tensor:
        """The variables below the pixels, scaled, oldest frame first, [B, stack_num * num_variables] float32."""
        rows = obs[:, :: self.channels_per_frame, space.height :].flatten(2)
        return rows[:, :, : space.num_variables].flatten(1) / VARIABLE_SCALE

    def _features(self, obs: Tensor, variables: Tensor | None, converted: nn.Sequential | None = None) -> Tensor:
        """The layers' output; of pixels, conv(x / 255, w) is computed as conv(x, w / 255), which scales less.

        converted: the layers to use, the first of which scales already.
        """
        if not self.pixels:
            return self.layers(obs)
        layers = converted or self.layers
        first = layers[0]
        assert isinstance(first, nn.Conv2d)
        weight = first.weight if converted else first.weight / 255
        features = nn.functional.conv2d(obs, weight, first.bias, first.stride, first.padding)
        for index, layer in itertools.islice(enumerate(layers), 1, None):
            if variables is not None and index == self.last_linear:
                features = torch.cat([features, variables.to(features.dtype)], dim=1)
            features = layer(features)
        return features


def normalisation(layer: nn.Module) -> list[nn.Module]:
    """Layer normalisation (Ba, Kiros & Hinton 2016) of what a layer gives; nothing after one without weights.

    That of a convolution runs over channels and places together, with a gain and a bias for each channel.
    """
    if isinstance(layer, nn.Conv2d):
        return [nn.GroupNorm(1, layer.out_channels)]
    return [nn.LayerNorm(layer.out_features)] if isinstance(layer, nn.Linear) else []


def mlp(num_inputs: int, config: NetworkConfig) -> list[nn.Module]:
    """Fully connected layers."""
    activation: Activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[config.activation]
    layers: list[nn.Module] = []
    for size in config.hidden_sizes:
        layers += [nn.Linear(num_inputs, size), activation()]
        num_inputs = size
    return layers


def _check_own(name: str, layers: list[nn.Module], pixels: bool) -> None:
    """Raise ConfigError where the layers of a plugin's network are not those that a torso can use."""
    if not any(isinstance(layer, nn.Linear) for layer in layers):
        raise ConfigError(
            f"the network {name} has no linear layer", "network, plugins", "end with one and its activation"
        )
    if pixels and not isinstance(layers[0], nn.Conv2d):  # which takes over the scaling of pixels
        raise ConfigError(f"the network {name} begins with no convolution", "network, plugins", "put one first")


class QNetwork(nn.Module):
    """Values of every action, [B, A] float32; with `dueling`, value plus mean-subtracted advantage (Wang et al. 2016,
    eq. 9)."""

    def __init__(self, torso: Torso, num_actions: int, dueling: bool) -> None:
        super().__init__()
        self.torso = torso
        self.advantage = nn.Linear(torso.num_features, num_actions)
        self.value = nn.Linear(torso.num_features, 1) if dueling else None
        self.fused: FullyConnected | None = None
        if torso.in_one_go and dueling:
            torso.fused = FullyConnected([list(torso.layers.parameters())], torso.activation, linear_end=False)
        elif torso.in_one_go:
            layers = [*torso.layers.parameters(), *self.advantage.parameters()]
            self.fused = FullyConnected([layers], torso.activation, linear_end=True)

    def forward(self, obs: Tensor) -> Tensor:
        """Values of a batch of observations."""
        if self.fused is not None:
            return self.fused(self.torso.flat(obs))[0]
        features = self.torso(obs)
        advantage = self.advantage(features)
        if self.value is None:
            return advantage
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


class ActorCritic(nn.Module):
    """A policy's outputs and the value of a batch of observations. Pixels share one torso; vectors get one each."""

    def __init__(self, make_torso: Callable[[], Torso], distribution: Distribution, critic: bool = True) -> None:
        """Without `critic` there is no value, which then reads 0."""
        super().__init__()
        self.torso = make_torso()
        self.value_torso = make_torso() if critic and not self.torso.pixels else None
        num_dimensions = distribution.num_outputs // 2 if distribution.has_deviation else distribution.num_outputs
        self.policy = orthogonal(nn.Linear(self.torso.num_features, num_dimensions), 0.01)
        self.value = orthogonal(nn.Linear(self.torso.num_features, 1), 1.0) if critic else None
        self.log_std = nn.Parameter(torch.zeros(num_dimensions)) if distribution.has_deviation else None
        self.fused: FullyConnected | None = None
        if self.torso.in_one_go:
            layers = [[*self.torso.layers.parameters(), *self.policy.parameters()]]
            if self.value_torso is not None and self.value is not None:
                layers.append([*self.value_torso.layers.parameters(), *self.value.parameters()])
            self.fused = FullyConnected(layers, self.torso.activation, linear_end=True)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the policy [B, O] and values [B], float32."""
        if self.fused is not None:
            outputs, *values = self.fused(self.torso.flat(obs))
        else:
            features = self.torso(obs)
            outputs = self.policy(features)
            values = [] if self.value is None else [self.value(self.value_torso(obs) if self.value_torso else features)]
        if self.log_std is not None:
            outputs = torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)
        return outputs, values[0].squeeze(-1) if values else outputs.new_zeros(outputs.shape[0])


def build(seed: int, make: Callable[[], Any], device: torch.device) -> Any:
    """Make a network whose weights depend on the seed alone, leaving torch's global generator as it was."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several round orthogonal weights differently
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make().to(device)
    finally:
        torch.set_num_threads(num_threads)


def num_parameters(network: nn.Module) -> int:
    """Count of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
