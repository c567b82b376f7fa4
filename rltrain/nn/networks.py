"""Torsos that read observations and the heads that agents put on them.

Pixels arrive as uint8 and are scaled to [0, 1] here, in one place. Torsos compute in the run's precision, heads in
fp32: values and probabilities lose too much in bf16.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from rltrain.config.network import OWN, NetworkConfig
from rltrain.envs.spaces import PixelsAndVariables, pixel_shape
from rltrain.errors import ConfigError
from rltrain.nn.cnns import CNNS, Activation
from rltrain.nn.distributions import Distribution
from rltrain.nn.layout import channels_last
from rltrain.nn.trained import FlatParameters
from rltrain.system.accelerable import accelerable

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

    flat_parameters: FlatParameters | None = None

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
        self.layer_norm = layer_norm
        self.activation = config.activation
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

    def forward(self, obs: Tensor) -> Tensor:
        """Features of a batch of observations."""
        inputs, variables = self.split(obs) if self.pixels else (self.flat(obs), None)
        if self.dtype == torch.float32:
            return self.features(inputs, variables)
        with torch.autocast(obs.device.type, self.dtype):
            features = self.features(inputs, variables)
        return features.float()

    def flat(self, obs: Tensor) -> Tensor:
        """Observations without pixels as the first layer takes them, [B, inputs] float32."""
        return nn.functional.one_hot(obs, self.num_states).float() if self.num_states else obs.float().flatten(1)

    def split(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The pixels [B, C, H, W] in the torso's dtype, 0 to 255, and the variables below them."""
        assert obs.dtype == torch.uint8, "pixels are scaled here and nowhere else"
        variables = None
        if self.variable_space is not None:
            obs, variables = obs[:, :, : self.variable_space.height], self._variables(obs, self.variable_space)
        # The layout is changed while a pixel is one byte: half the time of changing it after the conversion.
        return channels_last(obs).to(self.dtype), variables

    def features(self, inputs: Tensor, variables: Tensor | None, scaling: nn.Sequential | None = None) -> Tensor:
        """The layers' output. Of pixels, conv(x / 255, w) is computed as conv(x, w / 255), which scales less.

        scaling: layers to use in place of the torso's own, the first of which scales already.
        """
        if not self.pixels:
            return self.layers(inputs)
        layers = scaling or self.layers
        first = layers[0]
        assert isinstance(first, nn.Conv2d)
        weight = first.weight if scaling else first.weight / 255
        features = nn.functional.conv2d(inputs, weight, first.bias, first.stride, first.padding)
        for index, layer in itertools.islice(enumerate(layers), 1, None):
            if variables is not None and index == self.last_linear:
                features = torch.cat([features, variables.to(features.dtype)], dim=1)
            features = layer(features)
        return features

    def _variables(self, obs: Tensor, space: PixelsAndVariables) -> Tensor:
        """The variables below the pixels, scaled, oldest frame first, [B, stack_num * num_variables] float32."""
        rows = obs[:, :: self.channels_per_frame, space.height :].flatten(2)
        return rows[:, :, : space.num_variables].flatten(1) / VARIABLE_SCALE


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
    """Values of every action, [B, A] float32.

    With `dueling`, value plus mean-subtracted advantage (Wang et al. 2016, eq. 9).
    """

    flat_parameters: FlatParameters | None = None

    def __init__(self, torso: Torso, num_actions: int, dueling: bool) -> None:
        super().__init__()
        self.torso = torso
        self.advantage = nn.Linear(torso.num_features, num_actions)
        self.value = nn.Linear(torso.num_features, 1) if dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """Values of a batch of observations."""
        features = self.torso(obs)
        advantage = self.advantage(features)
        if self.value is None:
            return advantage
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


class ActorCritic(nn.Module):
    """A policy's outputs and the value of a batch of observations. Pixels share one torso; vectors get one each."""

    flat_parameters: FlatParameters | None = None

    def __init__(self, make_torso: Callable[[], Torso], distribution: Distribution, critic: bool = True) -> None:
        """Without `critic` the value is always 0."""
        super().__init__()
        self.torso = make_torso()
        self.value_torso = make_torso() if critic and not self.torso.pixels else None
        num_dimensions = distribution.num_outputs // 2 if distribution.has_deviation else distribution.num_outputs
        self.policy = orthogonal(nn.Linear(self.torso.num_features, num_dimensions), 0.01)
        self.value = orthogonal(nn.Linear(self.torso.num_features, 1), 1.0) if critic else None
        self.log_std = nn.Parameter(torch.zeros(num_dimensions)) if distribution.has_deviation else None

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the policy [B, O] and values [B], float32."""
        outputs, value = self.heads(obs)
        if self.log_std is not None:
            outputs = torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)
        return outputs, outputs.new_zeros(outputs.shape[0]) if value is None else value.squeeze(-1)

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the linear heads give: of the policy [B, O or O / 2], and of the critic [B, 1] if there is one."""
        features = self.torso(obs)
        outputs = self.policy(features)
        if self.value is None:
            return outputs, None
        return outputs, self.value(self.value_torso(obs) if self.value_torso else features)


@accelerable
def prepare(network: Any) -> None:
    """Make a new network ready for use: nothing to do. The twin swaps its forward pass."""


def build(seed: int, make: Callable[[], Any], device: torch.device, fuse: bool = True) -> Any:
    """Make a network whose weights depend on the seed alone, leaving torch's global generator as it was.

    fuse: let `fast` compute its layers in one go.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several round orthogonal weights differently
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = make().to(device)
    finally:
        torch.set_num_threads(num_threads)
    if fuse:
        prepare(network)
    return network


def num_parameters(network: nn.Module) -> int:
    """Count of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
