"""The layers of networks that plugins register: they are made, and tried before the first step.

Layers that a torso cannot use are refused by what they compute, so that an error names the network and nothing trains
wrongly in silence.
"""

import copy
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rltrain.config.network import OWN
from rltrain.config.user_code import describe
from rltrain.errors import ConfigError
from rltrain.nn.layout import fill_gaps, is_dense
from rltrain.system import global_random, notices
from rltrain.system.out_of_memory import is_shortage

_WHERE = "network, plugins"

_NUM_CALLS = 10
"""How often layers are called to see whether they change by that: some do in each call, some in every few."""

_made: WeakSet[nn.Module] = WeakSet()
"""The layers that networks have got."""


def make(name: str, inputs: Any) -> list[nn.Module]:
    """Return the layers that a plugin's function makes for `inputs`. Raises ConfigError for layers of no torso.

    inputs: the shape of pixels [C, H, W], or the number of inputs.
    """
    made: Any = OWN[name](inputs)
    layers = list(made) if isinstance(made, Iterable) else [made]
    if wrong := [layer for layer in layers if not isinstance(layer, nn.Module)]:
        what = f"the function of the network {name} returns {wrong[0]!r} instead of a torch module"
        raise ConfigError(what, _WHERE, "return a list of modules: [nn.Linear(num_inputs, 64), nn.ReLU()]")
    if not any(isinstance(layer, nn.Linear) for layer in layers):
        fix = "let the layers end with a linear layer and its activation"
        raise ConfigError(f"the network {name} has no linear layer", _WHERE, fix)
    if not isinstance(inputs, int) and not isinstance(layers[0], nn.Conv2d):  # its weights take over the scaling
        raise ConfigError(f"the network {name} does not begin with a convolution", _WHERE, "put a nn.Conv2d first")
    modules = [module for layer in layers for module in layer.modules()]
    if norms := [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]:
        kind = type(norms[0]).__name__
        what = f"the network {name} has {kind}, with which a value depends on the other samples of its batch"
        raise ConfigError(what, _WHERE, "use nn.LayerNorm or nn.GroupNorm")
    if any(layer in _made and any(each.requires_grad for each in layer.parameters()) for layer in layers):
        what = f"the function of the network {name} returns the same layers each time, which networks would share"
        raise ConfigError(what, _WHERE, "make new layers in each call")
    if wrong := [key for key, value in nn.Sequential(*layers).state_dict().items() if not isinstance(value, Tensor)]:
        what = f"the network {name} has a state that no checkpoint can hold: {wrong[0]}"
        raise ConfigError(what, _WHERE, "let get_extra_state return a tensor")
    _refuse_shared_memory(name, nn.Sequential(*layers))
    fill_gaps(parameter for layer in layers for parameter in layer.parameters())
    _made.update(layers)
    return layers


def _refuse_shared_memory(name: str, layers: nn.Module) -> None:
    """Raise ConfigError for a parameter with gaps that has numbers of another one: `fill_gaps` would part them."""
    parameters = [(key, each) for key, each in layers.named_parameters() if not is_lazy(each)]
    for key, each in parameters:
        if is_dense(each):
            continue
        for other, its in parameters:
            if its is not each and its.layout == torch.strided and its.numel() and _overlap(each, its):
                what = f"the parameters {key} and {other} of the network {name} share numbers"
                fix = "use one nn.Parameter in both places, or a copy: nn.Parameter(part.clone())"
                raise ConfigError(what, _WHERE, fix)


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Return True if two tensors have an element in common."""
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
        return False
    places = []
    for tensor in (one, other):
        place = torch.tensor(tensor.storage_offset())
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            place = place[..., None] + torch.arange(size) * stride
        places.append(place.flatten())
    return bool(torch.isin(*places).any())


def observations(frame_space: gymnasium.Space, stack_num: int) -> Tensor:
    """Return three different stacked observations of a space, [3, *obs_shape]: uint8 pixels, int64 or float32."""
    low: Any = 0.0
    high: Any
    if isinstance(frame_space, gymnasium.spaces.Discrete):
        high, shape, dtype = float(frame_space.n - 1), (), torch.int64
    else:
        assert isinstance(frame_space, gymnasium.spaces.Box)
        # Some bounds are infinite, or stand for it.
        low, high = (
            np.concatenate([np.where(np.abs(bound) < 1e4, bound, other)] * stack_num)
            for bound, other in ((frame_space.low, -1.0), (frame_space.high, 1.0))
        )
        shape, dtype = low.shape, torch.uint8 if low.ndim == 3 else torch.float32
    numbers = np.random.default_rng(0).uniform(low, np.maximum(low, high), (3, *shape))
    return torch.as_tensor(numbers if dtype == torch.float32 else numbers.round()).to(dtype)


def try_features(torso: Any, observations: Tensor) -> None:
    """Raise ConfigError if the layers of a torso do not turn observations [B, *obs_shape] into features.

    They must not change the observations, nor let the features of one depend on the others.

    torso: a `networks.Torso`, which is left as it is.
    """
    layers, modes = torso.layers, [(module, module.training) for module in torso.layers.modules()]
    try:
        torso.layers = copy.deepcopy(layers)  # a try may change a state
    except Exception:  # torch's old weight_norm
        layers.eval()
    try:
        with torch.inference_mode(False), torch.no_grad(), global_random.preserved():
            for _ in range(2):  # as in updates, and as in evaluations
                for num_obs in (1, 2):
                    _try(torso, torch.zeros_like(observations[:num_obs]))
                if _mixes(torso, observations):
                    what = f"the features of an observation in the network {torso.name} depend on others of its batch"
                    fix = "let means, norms and softmax run over the features, dim=-1, not over the batch, dim=0"
                    raise ConfigError(what, _WHERE, fix)
                torso.layers.eval()
    finally:
        torso.layers = layers
        for module, training in modes:
            module.training = training


def _try(torso: Any, obs: Tensor) -> None:
    """Raise ConfigError if a torso does not compute features of `obs`, or changes it."""
    before = obs._version  # torch counts the changes
    try:
        found = torso(obs)
        fits = found.shape == (len(obs), torso.num_features) and found.dtype == torch.float32
        wrong = "" if fits else f"returns {found.dtype} of shape {list(found.shape)}"
    except Exception as error:
        if is_shortage(error):
            raise
        wrong = f"does not compute: {describe(error)}"
    if wrong:
        where = f"for observations of shape {list(obs.shape)}"
        fix = f"let it return float32 of shape {[len(obs), torso.num_features]}, as its last linear layer does"
        raise ConfigError(f"the network {torso.name} {wrong}, {where}", _WHERE, fix)
    if obs._version != before:
        what = f"the network {torso.name} changes its input, which are the stored observations"
        fix = "write x = x / scale, not x /= scale; set inplace=True only behind a linear layer"
        raise ConfigError(what, _WHERE, fix)


def _mixes(torso: Any, obs: Tensor) -> bool:
    """Return True if the first of two observations has other features beside another one.

    The same kernels compute both pairs, so nothing else changes a bit. obs: three observations. False for layers that
    cannot compute these, or change from call to call, as spectral normalisation does while it trains.
    """
    found = [_computed(torso, torch.cat([obs[:1], obs[index : index + 1]])) for index in (1, 1, 2, 2, 1)]
    first, again, other, other_again, last = found
    is_steady = all(_are_equal(*pair) for pair in ((first, again), (other, other_again), (first, last)))
    return is_steady and not _are_equal(first[:1], other[:1])  # type: ignore[index]


def _computed(layers: nn.Module, inputs: Tensor) -> Tensor | None:
    """Return what layers compute from a copy of `inputs`, with fixed generators; None if they cannot."""
    with global_random.fixed():
        try:
            return layers(inputs.clone())
        except Exception as error:
            if is_shortage(error):
                raise
            return None


def _are_equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Return True if both were computed and are equal, where NaN is equal to NaN."""
    return one is not None and other is not None and torch.equal(one.nan_to_num(), other.nan_to_num())


def made_with_other_seeds(name: str, inputs: Any) -> list[nn.Sequential]:
    """Return what a plugin's function makes for `inputs` with two other seeds. The global generators are kept."""
    found = []
    for number in (1, 2):
        with global_random.preserved():
            global_random.seed(torch.initial_seed() ^ number)
            made: Any = OWN[name](inputs)
        found.append(nn.Sequential(*(made if isinstance(made, Iterable) else [made])))
    return found


def given_weights(others: list[nn.Sequential]) -> dict[str, Tensor]:
    """Return the weights of layers that were made with another seed, by the paths of the modules.

    Those that are the same with every seed were trained before.
    """
    weights: dict[str, Any] = {path: getattr(layer, "weight", None) for path, layer in others[0].named_modules()}
    return {path: weight.detach().clone() for path, weight in weights.items() if _is_weight(weight)}


def require_whole_state(name: str, layers: nn.Module, others: list[nn.Sequential], inputs: Tensor) -> None:
    """Raise ConfigError if layers compute something else than others with the same state.

    Such are random features that are no buffer, or layers in a list of Python's. Each process, and each later command,
    would have others. Only those of other seeds compute, because a first batch may change layers.

    layers: those of the network. others: two that were made with other seeds. inputs: of the first layer.
    """
    handed_out = set(layers.modules()) & {module for other in others for module in other.modules()}
    modes = {module: module.training for module in handed_out}  # a plugin hands out the same ones in each call
    tensors = [each for module in handed_out for each in (*module.parameters(False), *module.buffers(False))]
    kept = [(each, each.detach().clone()) for each in tensors if not is_lazy(each)]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for other in others:
                other.load_state_dict(layers.state_dict())
            first, again, second = [_computed(each.eval(), inputs) for each in (others[0], *others)]
    except Exception as error:  # layers without numbers yet, or with shapes that are drawn
        if is_shortage(error):
            raise
        return
    finally:
        for module, training in modes.items():
            module.training = training
        for each, value in kept:
            each.detach().copy_(value)
    if _are_equal(first, again) and second is not None and not _are_equal(first, second):
        what = f"a part of the network {name} is in no checkpoint: it computes other features with equal weights"
        fix = "keep layers in nn.ModuleList, and random numbers by self.register_buffer(NAME, numbers)"
        raise ConfigError(what, _WHERE, fix)


def tell_of_hidden_state(name: str, layers: nn.Sequential, inputs: Tensor) -> None:
    """Warn if layers compute something else when they are called again in the state of before.

    Such are a count that is no buffer, what a layer remembers from the last call, and noise of a generator of its own.

    layers: some that no network uses. inputs: of the first layer.
    """
    states = [(module, module.training) for module in layers.modules()]
    try:
        with torch.inference_mode(False), torch.no_grad():
            state = copy.deepcopy(layers.state_dict())
            found: dict[bool, list[Tensor | None]] = {True: [], False: []}
            for training in (False, *[True] * _NUM_CALLS, False):
                layers.load_state_dict(state)
                found[training].append(_computed(layers.train(training), inputs))
            layers.load_state_dict(state)
    except Exception as error:  # layers without numbers yet, or that add buffers in their first call
        if is_shortage(error):
            raise
        return
    finally:
        for module, training in states:
            module.training = training
    changing = [mode for mode, (first, *more) in found.items() if not all(_are_equal(first, each) for each in more)]
    if found[True][0] is not None and changing:
        what = f"a part of the network {name} changes from call to call and is in no checkpoint"
        who = "evaluations and resumed runs begin" if False in changing else "a resumed run begins"
        fix = "keep counts and memory by self.register_buffer(NAME, tensor), and draw noise by torch.rand"
        notices.warn_once(f"{what}: {who} without it; {fix}")


def _is_weight(value: Any) -> bool:
    return isinstance(value, Tensor) and not is_lazy(value)
