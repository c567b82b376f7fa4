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

from rltrain.config import NetworkConfig

Activation = Callable[[], nn.Module]


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


def choose(shape: tuple[int, ...]) -> str:
    """What network=auto stands for: by the observation alone, so that a checkpoint fits on every device."""
    if len(shape) != 3:
        return "mlp"
    return "nature_cnn" if shape[1] * shape[2] >= 84 * 84 else "small_cnn"


class Torso(nn.Module):
    """Observation to features: [B, *obs_shape] in its stored dtype to [B, num_features] float32."""

    def __init__(
        self, frame_space: gymnasium.Space, stack_num: int, config: NetworkConfig, dtype: torch.dtype, init: bool
    ) -> None:
        super().__init__()
        shape = obs_shape(frame_space, stack_num)
        self.dtype = dtype
        self.pixels = len(shape) == 3
        self.num_states = int(frame_space.n) if isinstance(frame_space, gymnasium.spaces.Discrete) else 0
        self.name = name = choose(shape) if config.name == "auto" else config.name
        if self.pixels:
            layers = {"nature_cnn": nature_cnn, "small_cnn": small_cnn}[name](shape)
        else:
            layers = mlp(self.num_states or math.prod(shape), config)
        self.layers = nn.Sequential(*layers)
        if init:
            for layer in layers:
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    orthogonal(layer, math.sqrt(2))
        if self.pixels:
            self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.large_layers = name == "nature_cnn"
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        self.num_features = linears[-1].out_features

    def forward(self, obs: Tensor) -> Tensor:
        """Features of a batch of observations."""
        if self.pixels:
            assert obs.dtype == torch.uint8, "pixels are scaled here and nowhere else"
            # The layout is changed while a pixel is one byte: half the time of changing it after the conversion.
            obs = obs.contiguous(memory_format=torch.channels_last).to(self.dtype)
        elif self.num_states:
            obs = nn.functional.one_hot(obs, self.num_states).float()
        else:
            obs = obs.float().flatten(1)
        if self.dtype == torch.float32:
            return self._features(obs)
        with torch.autocast(obs.device.type, self.dtype):
            features = self._features(obs)
        return features.float()

    def _features(self, obs: Tensor) -> Tensor:
        """The layers' output; of pixels, conv(x / 255, w) is computed as conv(x, w / 255), which scales less."""
        if not self.pixels:
            return self.layers(obs)
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        features = nn.functional.conv2d(obs, first.weight / 255, first.bias, first.stride)
        for layer in itertools.islice(self.layers, 1, None):
            features = layer(features)
        return features


def mlp(num_inputs: int, config: NetworkConfig) -> list[nn.Module]:
    """Fully connected layers."""
    activation: Activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[config.activation]
    layers: list[nn.Module] = []
    for size in config.hidden_sizes:
        layers += [nn.Linear(num_inputs, size), activation()]
        num_inputs = size
    return layers


def nature_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """The network of Mnih et al. 2015, extended data table 1, for frames of any size from 36 pixels up."""
    return _cnn(shape, [(32, 8, 4), (64, 4, 2), (64, 3, 1)], 512)


def small_cnn(shape: tuple[int, ...]) -> list[nn.Module]:
    """A quarter of the arithmetic, for processors without an accelerator (the network of Mnih et al. 2013)."""
    return _cnn(shape, [(16, 8, 4), (32, 4, 2)], 256)


def _cnn(shape: tuple[int, ...], convolutions: list[tuple[int, int, int]], width: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels, height, columns = shape
    for out_channels, kernel, stride in convolutions:
        layers += [nn.Conv2d(channels, out_channels, kernel, stride), nn.ReLU(inplace=True)]
        channels = out_channels
        height, columns = ((side - kernel) // stride + 1 for side in (height, columns))
    return [*layers, nn.Flatten(), nn.Linear(channels * height * columns, width), nn.ReLU(inplace=True)]


class QNetwork(nn.Module):
    """Values of every action, [B, A] float32; with `dueling`, value plus mean-subtracted advantage (Wang et al. 2016,
    eq. 9)."""

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
    """Policy parameters and value of a batch of observations. Pixels share one torso; vectors get one each."""

    def __init__(self, make_torso: Callable[[], Torso], action_space: gymnasium.Space) -> None:
        super().__init__()
        self.torso = make_torso()
        self.value_torso = None if self.torso.pixels else make_torso()
        self.continuous = isinstance(action_space, gymnasium.spaces.Box)
        num_outputs = math.prod(action_space.shape) if self.continuous else int(action_space.n)  # type: ignore
        self.policy = orthogonal(nn.Linear(self.torso.num_features, num_outputs), 0.01)
        self.value = orthogonal(nn.Linear(self.torso.num_features, 1), 1.0)
        self.log_std = nn.Parameter(torch.zeros(num_outputs)) if self.continuous else None

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, A] (or means, for continuous actions) and values [B], float32."""
        features = self.torso(obs)
        value_features = features if self.value_torso is None else self.value_torso(obs)
        return self.policy(features), self.value(value_features).squeeze(-1)


def build(seed: int, make: Callable[[], Any], device: torch.device) -> Any:
    """Make a network whose weights depend on the seed alone, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device)


def num_parameters(network: nn.Module) -> int:
    """Count of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
