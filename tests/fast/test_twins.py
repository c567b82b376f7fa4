"""The oracle of `fast`: every twin gives the values and the gradients of its plain function.

Each twin has a check, a function of a twin, that compares it with the plain function in 200 random cases or more: in
fp32 to 1e-6 of the numbers that are added up, in bf16 to a few of its roundings. A control hands every check a twin
with an error that is planted, which it must find.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from kernel_tape import pretend_cuda
from torch import nn

from rltrain.config.algorithms import A2CConfig
from rltrain.config.network import SMALLEST_FRAME, NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.errors import NonFiniteError
from rltrain.fast import accelerate as fast
from rltrain.fast import cnn, graphs, losses, mlp, optimizers
from rltrain.math import losses as plain_losses
from rltrain.math import returns
from rltrain.nn import device as devices
from rltrain.nn import distributions, layout, networks, recording
from rltrain.nn import optimizers as plain_optimizers
from rltrain.nn.trained import Trained

CASES = 200
CPU = torch.device("cpu")
FP32, BF16 = torch.float32, torch.bfloat16
TOLERANCE = {FP32: 1e-6, BF16: 4 * 2**-8}
"""Relative; eight roundings of fp32, and four of bf16, whose last bit is 2^-8."""

CHECKED = {
    "td_loss", "ppo_loss", "gae", "make", "clip_gradients", "prepare", "channels_last", "recorded",
}  # fmt: skip


def test_every_twin_has_its_check():
    assert {function.__name__ for function, _ in fast.TWINS} == CHECKED


def test_they_are_switched_in_one_place():
    for on in (True, False, True):
        fast.accelerate(on)
        assert [function.current for function, _ in fast.TWINS] == [
            twin if on else function.plain for function, twin in fast.TWINS
        ]


def generators(seed, num_cases=CASES):
    """A generator for each case, which its number alone decides."""
    return (np.random.default_rng((seed, case)) for case in range(num_cases))


def close(ours, plain, tolerance, scale=0.0, what=""):
    """Equal up to a part of the plain number's size, or of `scale`: the size of what was added up to it.

    What is not finite is not finite in both; NaN and infinities are not told apart.
    """
    assert (ours.shape, ours.dtype) == (plain.shape, plain.dtype), what
    ours, plain = ours.detach().double(), plain.detach().double()
    finite = plain.isfinite()
    assert torch.equal(ours.isfinite(), finite), f"{what}: finite in one of both: {ours} {plain}"
    off = (ours - plain)[finite].abs() - tolerance * (plain[finite].abs() + scale)
    worst = int(off.argmax()) if off.numel() else 0
    ours, plain = ours[finite], plain[finite]
    assert not (off > 0).any(), f"{what}: {ours[worst]}, not {plain[worst]}, {int((off > 0).sum())} of {off.numel()}"


def values_and_gradients(function, inputs, *args):
    """Outputs of a function, and the gradients of its inputs under the sum of outputs in random proportions."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    outputs = function(*inputs, *args)
    moving = [value for value in outputs if value.requires_grad]
    rng = np.random.default_rng(0)
    weights = [torch.from_numpy(rng.uniform(0.5, 1.5, value.shape)).to(value.dtype) for value in moving]
    total = sum((value * weight).sum() for value, weight in zip(moving, weights, strict=True))
    return outputs, torch.autograd.grad(total, inputs)


def nudged(twin, by, gradient):
    """The twin with an error: its first output, or the gradient of it, is too large by a part `by`."""

    def wrong(*args):
        first, *others = twin(*args)
        still = first.detach()
        return (first + by * (first - still) if gradient else first + by * still, *others)

    return wrong


def finds(check, twin, *args):
    """The control."""
    with pytest.raises(AssertionError):
        check(twin, *args)


# Losses.

BATCHES = (1, 2, 5, 32, 257)


def check_td_loss(twin, dtype):
    corners = 0
    for case, rng in enumerate(generators(1)):
        size, num_actions = int(rng.choice(BATCHES)), int(rng.integers(1, 8))
        q = torch.from_numpy(rng.normal(0, rng.choice([0.1, 1, 30]), (size, num_actions))).to(dtype)
        action = torch.from_numpy(rng.integers(num_actions, size=size))
        delta = [None, 1.0, 0.25, 10.0][case % 4]
        error = torch.from_numpy(rng.normal(0, rng.choice([0.1, 1, 30]), size)).to(dtype)
        chosen = q.gather(-1, action[:, None]).squeeze(-1)
        if case % 3 == 0:  # Huber's corner, where only exact numbers are
            chosen = torch.from_numpy(rng.integers(-3, 4, size)).to(dtype)
            q = q.scatter(-1, action[:, None], chosen[:, None])
            error = torch.from_numpy(rng.choice([-1, 1], size) * (delta or 1.0)).to(dtype)
            corners += size
        target = chosen + error
        if case % 5 == 0:
            target[rng.integers(size)] = [math.inf, -math.inf, math.nan][case // 5 % 3]
        weight = torch.from_numpy(rng.uniform(0, 1, size)).to(dtype) if case % 2 else None
        if weight is not None and case % 7 == 0:
            weight[rng.integers(size)] = 0.0
        results = []
        for function in (plain_losses.td_loss.plain, twin):
            outputs, (gradient,) = values_and_gradients(function, [q], action, target, weight, delta)
            assert [value.requires_grad for value in outputs] == [True, False]
            results.append([*outputs, gradient])
        (loss, td_error, gradient), (our_loss, our_td_error, our_gradient) = results
        close(our_td_error, td_error, 0.0, what=f"td error, case {case}")
        close(our_loss, loss, TOLERANCE[dtype], what=f"loss, case {case}")
        close(our_gradient, gradient, TOLERANCE[dtype], what=f"gradient, case {case}")
    assert corners > CASES


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_td_loss(dtype):
    check_td_loss(losses.td_loss, dtype)


@pytest.mark.parametrize(("dtype", "by"), [(FP32, 1e-5), (BF16, 0.1)])
@pytest.mark.parametrize("gradient", [False, True])
def test_control_td_loss(dtype, by, gradient):
    finds(check_td_loss, nudged(losses.td_loss, by, gradient), dtype)
    finds(check_td_loss, lambda q, a, y, w, d: losses.td_loss(q, a, y, w, d and d * (1 - by)), dtype)

    def blind(q, action, target, weight, delta):
        """Steps by delta where the error is infinite."""
        loss, td_error = losses.td_loss(q, action, target, weight, delta)
        still, _ = losses.td_loss(q, action, target.clamp(-1e30, 1e30), weight, delta)
        return still + (loss - still).detach(), td_error

    finds(check_td_loss, blind, dtype)


@pytest.mark.parametrize("function", [plain_losses.td_loss.plain, losses.td_loss])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.5])])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_slope_of_an_infinite_error_is_nan_under_hubers_loss(function, weight, bad):
    """Plainly because of 0 * inf in the branch that is not taken; a slope of 1 would be stepped by."""
    q = torch.zeros(2, 3, requires_grad=True)
    function(q, torch.tensor([0, 1]), torch.tensor([0.5, bad]), weight, 1.0)[0].backward()
    assert q.grad[1, 1].isnan() and q.grad[0, 0] == -0.25
    assert q.grad.flatten()[[1, 2, 3, 5]].tolist() == [0.0] * 4


def ppo_case(case, rng, dtype):
    """Tensors [B] that gradients flow into, those that they do not, and the numbers; many at a bound exactly."""
    size = int(rng.choice(BATCHES))

    def normal(spread):
        return torch.from_numpy(rng.normal(0, spread, size)).to(dtype)

    old_log_prob, old_value, advantage = normal(1) - 1, normal(3), normal(1)
    log_prob, value = old_log_prob + normal(0.3), old_value + normal(0.3)
    value_target, entropy = value + normal(1), normal(1).abs()
    clip_range, clip_value_range = float(rng.uniform(0.01, 0.5)), [None, 0.2, 0.5][case % 3]
    if case % 4 == 0:  # one ratio lies on the bound
        place = int(rng.integers(size))
        ratio = (log_prob - old_log_prob).exp()[place].item()
        clip_range = abs(ratio - 1.0) or clip_range
    if case % 5 == 0:  # as in the first minibatch of a rollout
        log_prob, value = old_log_prob.clone(), old_value.clone()
    if case % 7 == 0:
        advantage[rng.integers(size)] = 0.0
    if case % 6 == 1 and clip_value_range:  # values at the bound, beyond it, and as far from the target either way
        old_value = torch.from_numpy(rng.integers(-2, 3, size)).to(dtype)
        value = old_value + torch.from_numpy(rng.choice([-1, -0.5, 0, 0.5, 1], size)).to(dtype)
        value_target = old_value + torch.from_numpy(rng.choice([-0.75, 0, 0.75], size)).to(dtype)
        clip_value_range = 0.5
    if case % 11 == 0:
        clip_range = torch.tensor(clip_range)
    numbers = (clip_range, clip_value_range, float(rng.uniform(0, 1)), float(rng.choice([0.0, 0.01, 0.1])))
    return [log_prob, entropy, value], (old_log_prob, old_value, advantage, value_target), numbers


def check_ppo_loss(twin, dtype):
    kinds = {"ties of the ratio": 0, "ties of the value": 0, "clipped": 0}
    for case, rng in enumerate(generators(2, 2 * CASES)):
        inputs, fixed, numbers = ppo_case(case, rng, dtype)
        results = [
            values_and_gradients(function, inputs, *fixed, *numbers) for function in (plain_losses.ppo_loss.plain, twin)
        ]
        (outputs, gradients), (our_outputs, our_gradients) = results
        assert [value.requires_grad for value in our_outputs] == [True, False, False, False]
        size = len(fixed[0])
        # What is added up to the loss, and subtracted in the gradients.
        scale = float((outputs[1].abs() + outputs[2].abs() + outputs[3].abs()).detach() + fixed[2].abs().mean())
        for ours, plain in zip(our_outputs, outputs, strict=True):
            close(ours, plain, TOLERANCE[dtype], scale, f"values, case {case}")
        error_size = float((inputs[2].abs() + fixed[3].abs()).max())
        ratio, bound = (inputs[0] - fixed[0]).exp(), 1.0 + numbers[0]
        if dtype == BF16:  # a ratio beyond the bound may round to the same gain: autograd takes half of its gradient
            kept = ratio.clamp(2 - bound, bound)
            gradients[0][(ratio * fixed[2] == kept * fixed[2]) & (ratio != kept)] *= 2
        for ours, plain, large in zip(our_gradients, gradients, (0.0, 0.0, error_size / size), strict=True):
            close(ours, plain, TOLERANCE[dtype], large, f"gradients, case {case}")
        kinds["ties of the ratio"] += int(((ratio == bound) | (ratio == 2 - bound)).sum())
        kinds["clipped"] += int((gradients[0] == 0).sum())
        if numbers[1]:
            kept = fixed[1] + (inputs[2] - fixed[1]).clamp(-numbers[1], numbers[1])
            held_equal = ((kept - fixed[3]).abs() == (inputs[2] - fixed[3]).abs()) & (kept != inputs[2])
            kinds["ties of the value"] += int(held_equal.sum())
    assert all(count > 20 for count in kinds.values()), kinds


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_ppo_loss(dtype):
    check_ppo_loss(losses.ppo_loss, dtype)


@pytest.mark.parametrize(("dtype", "by"), [(FP32, 1e-4), (BF16, 0.2)])
def test_control_ppo_loss(dtype, by):
    def other(place, change):
        return lambda *args: losses.ppo_loss(*args[:place], change(args[place]), *args[place + 1 :])

    finds(check_ppo_loss, nudged(losses.ppo_loss, by, False), dtype)
    finds(check_ppo_loss, nudged(losses.ppo_loss, by, True), dtype)
    finds(check_ppo_loss, other(7, lambda clip_range: clip_range * (1 - by)), dtype)
    finds(check_ppo_loss, other(8, lambda clip_value_range: clip_value_range and clip_value_range * (1 - by)), dtype)
    finds(check_ppo_loss, other(9, lambda value_weight: value_weight * (1 + by)), dtype)
    finds(check_ppo_loss, other(10, lambda entropy_weight: -entropy_weight), dtype)


# Optimizers.


class Bag(nn.Module):
    """Parameters of random shapes."""

    def __init__(self, rng):
        super().__init__()
        shapes = [tuple(rng.integers(1, 9, rng.integers(0, 4))) for _ in range(rng.integers(1, 5))]
        tensors = [torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32)) for shape in shapes]
        tensors = [value.to(memory_format=torch.channels_last) if value.dim() == 4 else value for value in tensors]
        self.tensors = nn.ParameterList(map(nn.Parameter, tensors))


def set_gradients(bags, rng, scale):
    """The same random ones everywhere; one in ten parameters has none, and some are 0."""
    for parameters in zip(*(bag.tensors for bag in bags), strict=True):
        gradient = torch.from_numpy(rng.normal(0, scale, parameters[0].shape).astype(np.float32))
        gradient = gradient * (rng.random() > 0.1)
        has_one = rng.random() > 0.1
        for parameter in parameters:
            parameter.grad = gradient.clone() if has_one else None


def check_optimizers(twin, name, ahead=False, num_cases=CASES):
    """12 steps in each case."""
    for case, rng in enumerate(generators(4, num_cases)):
        plain_bag = Bag(rng)
        bag = copy.deepcopy(plain_bag)
        learning_rate, eps = float(10 ** rng.uniform(-5, -1)), float(10 ** rng.uniform(-8, -3))
        plain = plain_optimizers.make.plain(name, Trained(plain_bag), learning_rate, eps)
        trained = Trained(bag)
        ours = twin(name, trained, learning_rate, eps)
        assert (trained.deferred is not None) == ahead
        scale, moved = 10 ** rng.uniform(-6, 2), 0.0
        for step in range(12):
            set_gradients((plain_bag, bag), rng, scale)
            if step == 6:
                for optimizer in (plain, ours):
                    plain_optimizers.set_learning_rate(optimizer, learning_rate / 3)
            before = [parameter.detach().clone() for parameter in plain_bag.tensors]
            plain.step()
            ours.step()
            pairs = zip(plain_bag.tensors, before, strict=True)
            moved += max((parameter.detach() - old).abs().max().item() for parameter, old in pairs)
        for parameter, wanted in zip(bag.tensors, plain_bag.tensors, strict=True):
            close(parameter, wanted, TOLERANCE[FP32], moved, f"parameters, case {case}")
            assert ours.state[parameter].keys() == plain.state[wanted].keys()
            for key, value in plain.state[wanted].items():
                size = float(value.abs().max())
                close(ours.state[parameter][key], value, TOLERANCE[FP32], size, f"{key}, case {case}")


@pytest.mark.parametrize(("name", "num_cases"), [("adam", CASES), ("rmsprop", CASES), ("radam", 20)])
def test_optimizers(name, num_cases):
    """RAdam has no twin of its own."""
    check_optimizers(optimizers.make, name, num_cases=num_cases)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_optimizers_that_are_not_waited_for(name, monkeypatch):
    monkeypatch.setattr(devices, "runs_ahead", lambda device: True)
    check_optimizers(optimizers.make, name, ahead=True)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_control_optimizers(name):
    make = optimizers.make
    finds(check_optimizers, lambda name, trained, rate, eps: make(name, trained, rate * (1 + 1e-4), eps), name)
    finds(check_optimizers, lambda name, trained, rate, eps: make(name, trained, rate, eps * 1.01), name)

    def forgetful(name, trained, rate, eps):
        optimizer = make(name, trained, rate, eps)
        decay = {"betas": (0.9, 0.998)} if name == "adam" else {"alpha": 0.98}
        optimizer.param_groups[0].update(decay)
        return optimizer

    finds(check_optimizers, forgetful, name)


def check_clipping(twin, ahead):
    clipped = 0
    for case, rng in enumerate(generators(5)):
        bags = [Bag(rng)]
        bags.append(copy.deepcopy(bags[0]))
        trained = [Trained(bag) for bag in bags]
        optimizers.make("adam", trained[1], 0.1, 1e-8)  # what is not waited for has its place there
        assert (trained[1].deferred is not None) == ahead
        set_gradients(bags, rng, 10 ** rng.uniform(-4, 4))
        if all(parameter.grad is None for parameter in bags[0].tensors):
            continue
        parts = [parameter.grad.flatten() for parameter in bags[0].tensors if parameter.grad is not None]
        norm = torch.cat(parts).norm().item()
        largest = [norm * 0.5, norm * 1.5, norm, 1e-3, 1e9][case % 5] or 1.0
        norms = [
            function(each, largest)
            for function, each in zip((plain_optimizers.clip_gradients.plain, twin), trained, strict=True)
        ]
        clipped += norm > largest
        close(norms[1], norms[0], TOLERANCE[FP32], what=f"norm, case {case}")
        for wanted, parameter in zip(*(bag.tensors for bag in bags), strict=True):
            assert (parameter.grad is None) == (wanted.grad is None)
            if wanted.grad is not None:
                close(parameter.grad, wanted.grad, TOLERANCE[FP32], what=f"gradients, case {case}")
        plain_optimizers.check_finite(trained[1])
    assert CASES / 4 < clipped < CASES


@pytest.mark.parametrize("ahead", [False, True])
def test_clipping(ahead, monkeypatch):
    monkeypatch.setattr(devices, "runs_ahead", lambda device: ahead)
    check_clipping(optimizers.clip_gradients, ahead)


@pytest.mark.parametrize("ahead", [False, True])
def test_control_clipping(ahead, monkeypatch):
    monkeypatch.setattr(devices, "runs_ahead", lambda device: ahead)
    finds(check_clipping, lambda trained, norm: optimizers.clip_gradients(trained, norm * (1 - 1e-5)), ahead)
    finds(check_clipping, lambda trained, norm: optimizers.clip_gradients(trained, norm) * (1 + 1e-5), ahead)


@pytest.mark.parametrize("ahead", [False, True])
def test_both_ways_of_clipping_tell_of_a_gradient_that_is_not_finite(ahead, monkeypatch):
    monkeypatch.setattr(devices, "runs_ahead", lambda device: ahead)
    for rng, bad in zip(generators(6, 30), itertools.cycle([math.inf, -math.inf, math.nan]), strict=False):
        bag = Bag(rng)
        trained = Trained(bag)
        optimizers.make("adam", trained, 0.1, 1e-8)
        for parameter in bag.tensors:
            parameter.grad = torch.ones_like(parameter)
        index = int(rng.integers(len(bag.tensors)))
        bag.tensors[index].grad.view(-1)[0] = bad
        with pytest.raises(NonFiniteError, match=rf"the gradient of tensors\.{index} is not finite"):
            optimizers.clip_gradients(trained, 1.0)
            assert ahead, "on the processor it is told at once"
            plain_optimizers.check_finite(trained)


# Networks.


MANY = 16


def outputs_of(network, obs):
    outputs = network(obs)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def learned(network, obs):
    """Outputs, and the gradient of every parameter under random proportions of them."""
    outputs = outputs_of(network, obs)
    rng = np.random.default_rng(0)
    total = sum((value * torch.from_numpy(rng.normal(0, 1, value.shape)).float()).sum() for value in outputs)
    total.backward()
    return outputs, Trained(network).gradients()


def check_network(twin, make, many, size, tolerance, few, what):
    """Forwards and backwards on the first `size` of `many` observations, and without gradients on some of them.

    One output may be next to 0, sums of large numbers as it is: `many` tell the size of outputs.
    """
    plain = networks.build(7, make, CPU, fuse=False)
    with torch.no_grad():  # biases too decide what comes through
        generator = torch.Generator().manual_seed(3)
        for parameter in plain.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    network = copy.deepcopy(plain)
    twin(network)
    obs = many[:size]
    with torch.no_grad():
        sizes = [float(outputs.abs().max()) for outputs in outputs_of(plain, many)]
        for rows in (obs, obs[:few], obs[:1]):
            for ours, wanted, scale in zip(outputs_of(network, rows), outputs_of(plain, rows), sizes, strict=True):
                close(ours, wanted, tolerance, scale, f"{what}, acting")
    outputs, gradients = learned(plain, obs)
    our_outputs, our_gradients = learned(network, obs)
    for ours, wanted, scale in zip(our_outputs, outputs, sizes, strict=True):
        close(ours, wanted, tolerance, scale, f"{what}, learning")
    assert our_gradients.keys() >= gradients.keys() and len(gradients) > 2
    for name, gradient in our_gradients.items():
        wanted = gradients.get(name, torch.zeros_like(gradient))  # plainly none where the loss does not reach
        close(gradient, wanted, tolerance, float(wanted.abs().max()), f"{what}, gradient of {name}")
    with torch.inference_mode():  # and after an update
        for module in (plain, network):
            for parameter in module.parameters():
                parameter.mul_(0.9)
        for ours, wanted, scale in zip(outputs_of(network, obs), outputs_of(plain, obs), sizes, strict=True):
            close(ours, wanted, tolerance, scale, f"{what}, after an update")


ACTIONS = (spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,), np.float32))
HEADS = {
    "q": lambda torso, action: networks.QNetwork(torso(), 4, dueling=False),
    "dueling": lambda torso, action: networks.QNetwork(torso(), 4, dueling=True),
    "actor-critic": lambda torso, action: networks.ActorCritic(torso, distributions.of(action)),
    "actor": lambda torso, action: networks.ActorCritic(torso, distributions.of(action), critic=False),
}


def check_mlps(twin, dtype):
    kinds = itertools.cycle(itertools.product(HEADS, ("tanh", "relu"), ACTIONS))
    for case, (rng, (head, activation, action)) in enumerate(zip(generators(7), kinds, strict=False)):
        sizes = rng.integers(4, 65, rng.integers(1, 4)).tolist()
        config = NetworkConfig("mlp", hidden_sizes=sizes, activation=activation)
        size = int(rng.choice([1, 2, mlp.FEW, mlp.FEW + 1, 64, 200]))
        if case % 5 == 0:
            space = spaces.Discrete(int(rng.integers(2, 20)))
            obs = torch.from_numpy(rng.integers(space.n, size=max(size, MANY)))
        else:
            space = spaces.Box(-9, 9, tuple(rng.integers(1, 9, rng.integers(1, 3))), np.float32)
            obs = torch.from_numpy(rng.normal(0, 1, (max(size, MANY), *space.shape)).astype(np.float32))

        def torso(space=space, config=config):
            return networks.Torso(space, 1, config, dtype, init=True)

        what = f"{head} of {sizes} {activation}, batch {size}, case {case}"
        tolerance = TOLERANCE[dtype]
        check_network(twin, lambda h=head, t=torso, a=action: HEADS[h](t, a), obs, size, tolerance, mlp.FEW, what)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_mlps(dtype):
    check_mlps(fast.fuse, dtype)


def check_cnns(twin, name, dtype):
    side = SMALLEST_FRAME[name] if name != "impala_cnn" else 12
    for case, rng in enumerate(generators(8, CASES // 4)):
        height, width = side + int(rng.integers(0, 9)), side + int(rng.integers(0, 9))
        channels, stack_num = [(1, 4), (1, 1), (3, 2), (1, 2)][case % 4]
        num_variables = int(rng.choice([0, 0, 3]))
        space = (
            PixelsAndVariables(channels, height, width, num_variables)
            if num_variables
            else spaces.Box(0, 255, (channels, height, width), np.uint8)
        )
        rows = space.shape[1]
        size, shape = int(rng.choice([1, 2, 5])), (MANY, stack_num * channels, rows, width)
        obs = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        if case % 3 == 0:
            obs = obs.contiguous(memory_format=torch.channels_last)  # as they lie in a rollout
        config = NetworkConfig(name)

        def torso(space=space, stack_num=stack_num, config=config):
            return networks.Torso(space, stack_num, config, dtype, init=True)

        head = list(HEADS)[case % len(HEADS)]
        what = f"{head} of {name}, {shape}, {num_variables} variables, case {case}"
        check_network(twin, lambda h=head, t=torso: HEADS[h](t, ACTIONS[0]), obs, size, TOLERANCE[dtype], 2, what)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("name", networks.CNNS)
def test_cnns(name, dtype):
    check_cnns(fast.fuse, name, dtype)


def wrong_gradient(change):
    """What `fuse` makes, with a gradient changed on the way back."""

    def twin(network):
        fast.fuse(network)
        for module in network.modules():
            tensor = module.flat_parameters.joined if getattr(module, "flat_parameters", None) else None
            for parameter in [tensor] if tensor is not None else module.parameters(recurse=False):
                parameter.register_hook(change)

    return twin


def late_weights(network):
    """Bug: acting goes on with what was converted once."""
    fast.fuse(network)
    for module in network.modules():
        if isinstance(module.__dict__.get("forward"), cnn.FusedTorso):
            fused = module.forward
            kept = fused._convert()
            fused._in_low_precision = lambda kept=kept: kept


@pytest.mark.parametrize("dtype", [FP32])
def test_control_mlps(dtype):
    finds(check_mlps, wrong_gradient(lambda gradient: gradient * (1 + 1e-5)), dtype)

    def other_activation(network):
        fast.fuse(network)
        for module in network.modules():
            if getattr(module, "flat_parameters", None):
                module.flat_parameters.activation = "relu"

    finds(check_mlps, other_activation, dtype)


@pytest.mark.parametrize(("dtype", "by"), [(FP32, 1e-4), (BF16, 0.1)])
@pytest.mark.parametrize("name", ["small_cnn", "nature_cnn"])
def test_control_cnns(name, dtype, by):
    finds(check_cnns, wrong_gradient(lambda gradient: gradient * (1 + by)), name, dtype)
    if dtype == BF16:
        finds(check_cnns, late_weights, name, dtype)


# Layout, advantages and graphs.


def check_channels_last(twin):
    for rng in generators(9):
        shape = (int(rng.integers(1, 6)), int(rng.choice([1, 3, 4, 4, 8])), *map(int, rng.integers(1, 90, 2)))
        obs = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        kind = rng.integers(3)
        if kind == 1:
            obs = obs.contiguous(memory_format=torch.channels_last)
        elif kind == 2:
            obs = obs[:, :, : max(1, shape[2] - 1), max(0, min(1, shape[3] - 1)) :]
        ours, plain = twin(obs), layout.channels_last.plain(obs)
        assert torch.equal(ours, plain) and ours.dtype == torch.uint8
        assert ours.is_contiguous(memory_format=torch.channels_last)


def test_channels_last():
    check_channels_last(cnn.channels_last)


def test_control_channels_last():
    finds(check_channels_last, lambda obs: obs)
    finds(check_channels_last, lambda obs: layout.channels_last.plain(obs.flip(1)))


def check_gae(twin):
    """Rollouts of few shapes, as a run has, so that they are recorded and replayed where that is possible."""
    shapes = [(1, 1), (7, 3), (16, 2), (16, 5)]
    for case, rng in enumerate(generators(10)):
        shape = shapes[case % len(shapes)]
        terminated = rng.random(shape) < 0.1
        truncated = rng.random(shape) < 0.1
        arrays = [rng.normal(0, 1, shape), 0.99 * (1 - terminated), 1.0 * ~(terminated | truncated)]
        arrays += [rng.normal(0, 1, shape), rng.normal(0, 1, shape)]
        tensors = [torch.from_numpy(array.astype(np.float32)) for array in arrays]
        gae_lambda = float(rng.choice([0.0, 0.95, 1.0]))
        plain = returns.gae.plain(*tensors, gae_lambda)
        ours = twin(*tensors, gae_lambda=gae_lambda) if case % 2 else twin(*tensors, gae_lambda)
        assert not ours.requires_grad
        close(ours, plain, TOLERANCE[FP32], float(plain.abs().max()), f"case {case}")


def test_advantages():
    check_gae(graphs.gae)


def test_advantages_recorded(monkeypatch):
    recorded = pretend_cuda(monkeypatch)
    check_gae(graphs.gae)
    assert len(recorded) == 4


def test_control_advantages(monkeypatch):
    finds(check_gae, lambda *args, **kwargs: graphs.gae(*args, **kwargs) * (1 + 1e-5))
    pretend_cuda(monkeypatch)
    monkeypatch.setattr(graphs, "_copy_to_static", fill_once)
    finds(check_gae, graphs.gae)


def fill_once(fixed, value, device, filled=set()):  # noqa: B006
    """Bug: a replay computes with the inputs of the recording."""
    if id(fixed) not in filled:
        filled.add(id(fixed))
        FILL(fixed, value, device)


FILL = graphs._copy_to_static


def check_recorded(twin):
    """An update by three numbers, two of which change from call to call, and what it returns."""
    config = RunConfig(algo=A2CConfig())
    for rng in generators(11, 20):
        results = []
        size, seed = int(rng.integers(1, 5)), int(rng.integers(1000))
        for maker in (recording.recorded.plain, twin):
            state = torch.zeros(size)

            def update(x, y, factor, state=state):
                y = torch.as_tensor(y)
                state.mul_(0.9).add_(x * factor + y)
                return {"sum": state.sum()}, state * 2

            function = maker(update, config, CPU, [state])
            case = np.random.default_rng(seed)
            outputs = []
            for _ in range(10):
                x, y = torch.from_numpy(case.normal(size=size)).float(), case.normal(size=size).astype(np.float32)
                outputs.append(function(x=x, y=y, factor=float(case.normal())))
            results.append([*outputs, state])
        torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


def test_recorded(monkeypatch):
    check_recorded(graphs.recorded)
    recorded = pretend_cuda(monkeypatch)
    check_recorded(graphs.recorded)
    assert len(recorded) == 20


def test_control_recorded(monkeypatch):
    pretend_cuda(monkeypatch)

    def once_more(function, *args):
        graph = graphs.recorded(function, *args)
        return lambda **inputs: (graph(**inputs), graph(**inputs))[1]

    finds(check_recorded, once_more)
    monkeypatch.setattr(graphs, "_copy_to_static", fill_once)
    finds(check_recorded, graphs.recorded)
