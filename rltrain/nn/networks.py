"""Networks: torsos that compute features of observations, and the heads of agents.

Pixels are uint8; only the torso scales them, by dividing the weights of its first convolution by 255. Torsos compute in
the run's precision. Heads stay in fp32: bf16 loses too much precision in values and probabilities.
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
from rltrain.nn import own_layers
from rltrain.nn.cnns import CNNS, Activation
from rltrain.nn.distributions import Distribution
from rltrain.nn.layout import channels_last
from rltrain.nn.trained import FlatParameters
from rltrain.system.accelerable import accelerable

VARIABLE_SCALE = 100.0
"""Divides the game variables of an observation: health, armour and ammunition go up to 100 or 200."""


def obs_shape(frame_space: gymnasium.Space, stack_num: int) -> tuple[int, ...]:
    """Return the shape of one stacked observation. Frames and vectors are concatenated along their first axis."""
    shape = tuple(frame_space.shape or ())
    return (shape[0] * stack_num, *shape[1:]) if shape else ()


def orthogonal(layer: nn.Module, gain: float) -> nn.Module:
    """Set orthogonal weights and zero biases (Saxe et al. 2014), as usual for actor-critics. Return the layer."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    weight = torch.empty_like(layer.weight, memory_format=torch.contiguous_format)  # torch draws into no other
    with torch.no_grad():
        layer.weight.copy_(nn.init.orthogonal_(weight, gain))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Torso(nn.Module):
    """Compute features [B, num_features] float32 of observations [B, *obs_shape] in the environment's dtype.

    Game variables below the pixels of each stacked frame are additional inputs of the last linear layer.
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
        num_inputs = self.num_states or math.prod(shape)
        inputs: Any = (shape[0], *pixel_shape(frame_space)[1:]) if self.pixels else num_inputs
        if self.name in OWN:
            layers = own_layers.make(self.name, inputs)
            made = nn.Sequential(*layers)
        elif self.pixels:
            layers = CNNS[self.name](inputs)
        else:
            layers = mlp(num_inputs, config)
        if layer_norm:
            layers = [part for layer in layers for part in (layer, *normalisation(layer))]
        linears = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        self.last_linear = linears[-1]
        last = layers[self.last_linear]
        assert isinstance(last, nn.Linear)
        self.num_features = last.out_features
        if self.variable_space is not None:
            if self.name in OWN and (type(last) is not nn.Linear or not last.weight.requires_grad):
                what = f"game variables would replace the last linear layer of the network {self.name}"
                fix = "end with a nn.Linear that is trained, or use env.game_variables=[]"
                raise ConfigError(f"{what}, a {type(last).__name__} of its own", "network, plugins", fix)
            num_inputs = last.in_features + stack_num * self.variable_space.num_variables
            layers[self.last_linear] = nn.Linear(num_inputs, self.num_features, bias=last.bias is not None)
        self.layers = nn.Sequential(*layers)
        self._scales_weights = False
        given: dict[str, Tensor] = {}
        if self.name in OWN:
            observations = own_layers.observations(frame_space, stack_num)
            own_layers.try_features(self, observations)
            others = own_layers.made_with_other_seeds(self.name, inputs)
            given = own_layers.given_weights(others)
            numbers = self.split(observations)[0].float() if self.pixels else self.flat(observations)
            own_layers.require_whole_state(self.name, made, others, numbers)
            own_layers.tell_of_hidden_state(self.name, others[0], numbers)
        self._scales_weights = self.pixels and _is_plain(self.layers[0])
        if init:
            for path, layer in self.layers.named_modules():
                is_given = path in given and torch.equal(layer.weight, given[path])
                if isinstance(layer, nn.Linear | nn.Conv2d) and not is_given:
                    orthogonal(layer, math.sqrt(2))
        if self.pixels:
            self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, obs: Tensor) -> Tensor:
        """Return the features of observations, [B, num_features] float32."""
        inputs, variables = self.split(obs) if self.pixels else (self.flat(obs), None)
        if self.dtype == torch.float32:
            return self.features(inputs, variables)
        # Each call casts the weights once. A cache of theirs would go stale where somebody else's autocast is left on.
        with torch.autocast(obs.device.type, self.dtype, cache_enabled=False):
            features = self.features(inputs, variables)
        return features.float()

    def flat(self, obs: Tensor) -> Tensor:
        """Return vectors or one-hot states as the input of the first layer, [B, inputs] float32."""
        return nn.functional.one_hot(obs, self.num_states).float() if self.num_states else obs.float().flatten(1)

    def split(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the pixels, [B, C, H, W] from 0 to 255 in the torso's dtype, and the scaled variables, if any."""
        assert obs.dtype == torch.uint8, "pixels must be uint8: only the torso scales them"
        variables = None
        if self.variable_space is not None:
            obs, variables = obs[:, :, : self.variable_space.height], self._variables(obs, self.variable_space)
        # First the layout, then the dtype: this takes half the time, because a uint8 pixel is one byte.
        return channels_last(obs).to(self.dtype), variables

    def features(self, inputs: Tensor, variables: Tensor | None, scaling: nn.Sequential | None = None) -> Tensor:
        """Return the output of the layers. conv(x, w / 255) scales pixels, which is faster than conv(x / 255, w).

        scaling: layers that replace the torso's own. The weights of their first layer are divided by 255 already.
        """
        if not self.pixels:
            return self.layers(inputs)
        layers = scaling or self.layers
        first = layers[0]
        assert isinstance(first, nn.Conv2d)
        if scaling or self._scales_weights:
            features = first._conv_forward(inputs, first.weight if scaling else first.weight / 255, first.bias)
        else:
            features = first(inputs / 255)
        for index, layer in itertools.islice(enumerate(layers), 1, None):
            if variables is not None and index == self.last_linear:
                features = torch.cat([features, variables.to(features.dtype)], dim=1)
            features = layer(features)
        return features

    def _variables(self, obs: Tensor, space: PixelsAndVariables) -> Tensor:
        """Return the scaled game variables, oldest frame first, [B, stack_num * num_variables] float32."""
        rows = obs[:, :: self.channels_per_frame, space.height :].flatten(2)
        return rows[:, :, : space.num_variables].flatten(1) / VARIABLE_SCALE


def normalisation(layer: nn.Module) -> list[nn.Module]:
    """Return the layer normalisation (Ba, Kiros & Hinton 2016) that follows a layer. Empty if the layer has no weights.

    After a convolution it normalises over channels and positions together, with a gain and a bias for each channel.
    """
    if isinstance(layer, nn.Conv2d):
        return [nn.GroupNorm(1, layer.out_channels)]
    return [nn.LayerNorm(layer.out_features)] if isinstance(layer, nn.Linear) else []


def mlp(num_inputs: int, config: NetworkConfig) -> list[nn.Module]:
    """Return fully connected layers with the sizes and the activation of the config."""
    activation: Activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[config.activation]
    layers: list[nn.Module] = []
    for size in config.hidden_sizes:
        layers += [nn.Linear(num_inputs, size), activation()]
        num_inputs = size
    return layers


def _is_plain(layer: nn.Module) -> bool:
    """Return true for a convolution that computes `nn.Conv2d._conv_forward` with its weight, and nothing besides."""
    methods = ("forward", "_conv_forward")
    is_torch = [getattr(getattr(layer, name), "__func__", None) is getattr(nn.Conv2d, name) for name in methods]
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return all(is_torch) and not any(hooks)


class QNetwork(nn.Module):
    """A network of action values, [B, A] float32.

    With `dueling`, Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a') (Wang et al. 2016, eq. 9).
    """

    flat_parameters: FlatParameters | None = None

    def __init__(self, torso: Torso, num_actions: int, dueling: bool) -> None:
        super().__init__()
        self.torso = torso
        self.advantage = nn.Linear(torso.num_features, num_actions)
        self.value = nn.Linear(torso.num_features, 1) if dueling else None

    def forward(self, obs: Tensor) -> Tensor:
        """Return the action values of observations, [B, A] float32."""
        features = self.torso(obs)
        advantage = self.advantage(features)
        if self.value is None:
            return advantage  # without dueling: Q itself
        return self.value(features) + advantage - advantage.mean(dim=-1, keepdim=True)


class ActorCritic(nn.Module):
    """A policy and a value head. For pixels they share one torso; for vectors each has its own."""

    flat_parameters: FlatParameters | None = None

    def __init__(self, make_torso: Callable[[], Torso], distribution: Distribution, critic: bool = True) -> None:
        """critic: false for a network without a value head, whose values are 0."""
        super().__init__()
        self.torso = make_torso()
        self.value_torso = make_torso() if critic and not self.torso.pixels else None
        num_dimensions = distribution.num_outputs // 2 if distribution.has_deviation else distribution.num_outputs
        self.policy = orthogonal(nn.Linear(self.torso.num_features, num_dimensions), 0.01)
        self.value = orthogonal(nn.Linear(self.torso.num_features, 1), 1.0) if critic else None
        self.log_std = nn.Parameter(torch.zeros(num_dimensions)) if distribution.has_deviation else None

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy's outputs [B, O] and the values [B], float32."""
        outputs, value = self.heads(obs)
        if self.log_std is not None:
            outputs = torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)
        return outputs, outputs.new_zeros(outputs.shape[0]) if value is None else value.squeeze(-1)

    def heads(self, obs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of the heads: policy [B, O] (Gaussian: the means [B, A]), and value [B, 1] or None."""
        features = self.torso(obs)
        outputs = self.policy(features)
        if self.value is None:
            return outputs, None
        return outputs, self.value(self.value_torso(obs) if self.value_torso else features)


@accelerable  # twin: fast/mlp.py and fast/cnn.py
def prepare(network: Any) -> None:
    """Prepare a new network for use. The plain function does nothing; its twin replaces the forward pass."""


def build(seed: int, make: Callable[[], Any], device: torch.device, fuse: bool = True) -> Any:
    """Return `make()` on the device, with weights that depend on the seed alone. Keeps torch's global generator.

    fuse: call `prepare` on the network.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the rounding of orthogonal weights depends on the number of threads
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
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
