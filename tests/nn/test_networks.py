"""Networks: pixels scaled once, the right torso, the dueling head, first weights that only the seed decides."""

import itertools
from unittest.mock import Mock

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from rltrain.app import resolve
from rltrain.config.algorithms import DQNConfig
from rltrain.config.environments import GymConfig
from rltrain.config.network import OWN, SMALLEST_FRAME, NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.errors import ConfigError
from rltrain.nn import cnns, distributions, networks, optimizers, own_layers, weights
from rltrain.nn.trained import Trained

PIXELS = spaces.Box(0, 255, (1, 60, 80), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,), np.float32)
STATES = spaces.Discrete(5)
THREE = distributions.of(spaces.Discrete(3))
CPU = torch.device("cpu")


def torso(space: gymnasium.Space, stack_num: int = 1, dtype: torch.dtype = torch.float32, init=True, **fields):
    name = "small_cnn" if len(space.shape or ()) == 3 else "mlp"
    return networks.Torso(space, stack_num, NetworkConfig(**{"name": name} | fields), dtype, init)


@pytest.mark.parametrize("name", networks.CNNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_scaled_to_one_and_only_once(name, dtype):
    obs = torch.randint(0, 256, (2, 4, 60, 80), dtype=torch.uint8)
    module = networks.build(0, lambda: torso(PIXELS, 4, dtype, init=False, name=name), CPU)
    with torch.inference_mode():
        got, wanted = module(obs), module.layers(obs.float() / 255)
        never, twice = module.layers(obs.float()), module.layers(obs.float() / 255**2)
    tolerance = wanted.abs().max() * (1e-5 if dtype == torch.float32 else 0.05)
    assert (got - wanted).abs().max() < tolerance
    assert (got - never).abs().max() > 10 * tolerance
    assert (got - twice).abs().max() > 2 * tolerance


def test_pixels_that_were_scaled_already_are_refused():
    with pytest.raises(AssertionError):
        torso(PIXELS)(torch.rand(1, 1, 60, 80))


def test_vectors_are_not_scaled_and_states_become_one_hot():
    vectors, states = torso(VECTOR), torso(STATES)
    for module, obs, wanted in (
        (vectors, torch.full((1, 4), 7.0), [[7.0] * 4]),
        (states, torch.tensor([2]), [[0.0, 0.0, 1.0, 0.0, 0.0]]),
    ):
        assert torch.allclose(module(obs), module.layers(torch.tensor(wanted)), atol=1e-6)


def resolved(monkeypatch, space, network="auto", device="cpu"):
    """The network of a run whose environment shows `space`."""
    monkeypatch.setattr(resolve.registry, "spaces", lambda config: (space, spaces.Discrete(2)))
    config = RunConfig(DQNConfig(), GymConfig("test", id="test", kwargs={}), NetworkConfig(network), device=device)
    monkeypatch.setattr("rltrain.nn.device.resolve_device", torch.device)
    return resolve.resolve(config).network.name


def frames(height, width):
    return spaces.Box(0, 255, (1, height, width), np.uint8)


@pytest.mark.parametrize(
    ("space", "device", "chosen"),
    [
        (frames(84, 84), "cpu", "small_cnn"),
        (frames(84, 84), "cuda", "nature_cnn"),
        (PIXELS, "cuda:1", "nature_cnn"),
        (frames(35, 84), "cuda", "small_cnn"),
        (frames(84, 19), "cpu", "impala_cnn"),
        (VECTOR, "cuda", "mlp"),
        (STATES, "cpu", "mlp"),
    ],
)
def test_auto_becomes_a_name_that_the_run_keeps(space, device, chosen, monkeypatch):
    assert resolved(monkeypatch, space, device=device) == chosen


@pytest.mark.parametrize("name", ["nature_cnn", "small_cnn", "course_cnn"])
def test_frames_too_small_for_a_network_are_refused_with_the_size_that_fits(name, monkeypatch):
    side = SMALLEST_FRAME[name]
    assert resolved(monkeypatch, frames(side, 90), name) == name
    for shape in ((side - 1, 90), (90, side - 1)):
        with pytest.raises(
            ConfigError, match=f"frames of at least {side} x {side} pixels, but .* has {shape[0]} x {shape[1]}"
        ):
            resolved(monkeypatch, frames(*shape), name)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", networks.CNNS)
def test_the_smallest_frame_is_the_smallest_that_the_layers_take(name):
    side = SMALLEST_FRAME[name]
    assert torso(frames(side, 90), name=name)(torch.zeros(2, 1, side, 90, dtype=torch.uint8)).isfinite().all()
    with pytest.raises(RuntimeError):
        torso(frames(side - 1, 90), name=name)(torch.zeros(2, 1, side - 1, 90, dtype=torch.uint8))


PARAMETERS = {  # for 4 x 84 x 84, worked by hand: weights + biases of each layer
    # 84 -> 20 -> 9 -> 7
    "nature_cnn": (4 * 32 * 64 + 32) + (32 * 64 * 16 + 64) + (64 * 64 * 9 + 64) + (64 * 7 * 7 * 512 + 512),
    # 84 -> 20 -> 9
    "small_cnn": (4 * 16 * 64 + 16) + (16 * 32 * 16 + 32) + (32 * 9 * 9 * 256 + 256),
    # 84 -> 20 -> 9 -> 3
    "course_cnn": (4 * 32 * 64 + 32) + (32 * 64 * 16 + 64) + (64 * 128 * 16 + 128) + (128 * 3 * 3 * 512 + 512),
    # 84 -> 42 -> 21 -> 11, and in each section one convolution and four of the residual blocks
    "impala_cnn": (4 * 16 * 9 + 16)
    + 4 * (16 * 16 * 9 + 16)
    + (16 * 32 * 9 + 32)
    + 4 * (32 * 32 * 9 + 32)
    + (32 * 32 * 9 + 32)
    + 4 * (32 * 32 * 9 + 32)
    + (32 * 11 * 11 * 256 + 256),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", networks.CNNS)
def test_each_network_has_the_layers_of_its_paper_and_learns_in_both_precisions(name, dtype):
    module = torso(frames(84, 84), 4, dtype, init=False, name=name)
    assert networks.num_parameters(module) == PARAMETERS[name]
    obs = torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8)
    features = module(obs)
    assert features.shape == (3, module.num_features)
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in module.parameters())


def test_a_residual_block_adds_to_what_it_got_and_leaves_it_alone():
    block, x = cnns.Residual(2), torch.randn(1, 2, 5, 5)
    before = x.clone()
    assert not torch.equal(block(x), x)
    torch.nn.init.zeros_(block.second.weight)
    torch.nn.init.zeros_(block.second.bias)
    assert torch.equal(block(x), before)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", networks.CNNS)
def test_orthogonal_weights_reach_every_layer(name):
    module = torso(frames(84, 84), 4, name=name)
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == {"nature_cnn": 4, "small_cnn": 3, "course_cnn": 4, "impala_cnn": 16}[name]
    assert not any(layer.bias.any() for layer in layers)


@pytest.mark.parametrize("name", list(networks.CNNS))
@pytest.mark.parametrize("channels", [1, 3])
def test_variables_of_every_stacked_frame_join_the_last_linear_layer(name, channels):
    """Bugs: the rows seen by the convolutions; only the newest frame's values; those of a colour channel; a missing or
    doubled scale; a value beside its weight. Two rows, as 81 variables do not fit below 80 pixels."""
    space, stack_num, num = PixelsAndVariables(channels, 60, 80, 81), 2, 81
    plain = torso(spaces.Box(0, 255, (channels, 60, 80), np.uint8), stack_num, name=name)
    both = torso(space, stack_num, name=name)
    weight = both.layers[both.last_linear].weight
    num_pixel_inputs = weight.shape[1] - stack_num * num
    state = plain.state_dict()
    state[f"layers.{both.last_linear}.weight"] = torch.cat(
        [state[f"layers.{both.last_linear}.weight"], weight.detach()[:, num_pixel_inputs:]], dim=1
    )
    both.load_state_dict(state)
    obs = torch.randint(0, 256, (5, stack_num * channels, 62, 80), dtype=torch.uint8)
    seen = []
    both.layers[both.last_linear].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    plain.layers[both.last_linear].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        both(obs)
        plain(obs[:, :, :60].contiguous())
    assert torch.equal(seen[0][:, :num_pixel_inputs], seen[1])
    wanted = [obs[:, frame * channels, 60 + i // 80, i % 80] for frame in range(stack_num) for i in range(num)]
    assert torch.allclose(seen[0][:, num_pixel_inputs:], torch.stack(wanted, dim=1) / 100)


def test_variables_reach_the_features_in_bf16_and_get_a_gradient():
    module = torso(PixelsAndVariables(1, 60, 80, 2), 1, torch.bfloat16)
    obs = torch.zeros(2, 1, 61, 80, dtype=torch.uint8)
    obs[1, 0, 60, 1] = 100
    features = module(obs)
    assert not torch.equal(features[0], features[1])
    features.sum().backward()
    assert module.layers[module.last_linear].weight.grad[:, -1].abs().sum() > 0


@pytest.mark.parametrize("name", ["mlp", *networks.CNNS])
def test_layer_normalisation_follows_every_layer_with_weights(name):
    space = VECTOR if name == "mlp" else frames(84, 84)
    module = networks.Torso(space, 4, NetworkConfig(name), torch.float32, init=False, layer_norm=True)
    obs = torch.rand(3, 16) * 9 if name == "mlp" else torch.randint(0, 256, (3, 4, 84, 84), dtype=torch.uint8)
    pairs = list(itertools.pairwise(module.layers))
    weighted = [(layer, after) for layer, after in pairs if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == {"mlp": 2, "nature_cnn": 4, "small_cnn": 3, "course_cnn": 4, "impala_cnn": 4}[name]
    seen = []
    for _, after in weighted:
        after.register_forward_hook(lambda _, args, output: seen.append(output.flatten(1).clone()))
    module(obs)
    for output in seen:
        assert output.mean(dim=1).tolist() == pytest.approx([0] * 3, abs=1e-4)
        assert output.std(dim=1, correction=0).tolist() == pytest.approx([1] * 3, abs=1e-2)
    assert len(seen) == len(weighted)


def test_frames_are_stacked_along_their_first_axis():
    assert networks.obs_shape(PIXELS, 4) == (4, 60, 80)
    assert networks.obs_shape(VECTOR, 3) == (12,)
    assert networks.obs_shape(STATES, 1) == ()


def test_dueling_subtracts_the_mean_advantage():
    network = networks.QNetwork(torso(VECTOR, hidden_sizes=[8]), 3, dueling=True)
    obs = torch.randn(6, 4)
    features = network.torso(obs)
    value, advantage = network.value(features), network.advantage(features)
    assert torch.allclose(network(obs).mean(dim=-1), value.squeeze(-1), atol=1e-6)
    assert torch.allclose(network(obs), value + advantage - advantage.mean(-1, keepdim=True))
    assert not torch.allclose(network(obs), value + advantage - advantage.amax(-1, keepdim=True))
    with torch.no_grad():
        before = network(obs)
        network.advantage.bias += 5  # means nothing once the mean is subtracted
        assert torch.allclose(network(obs), before, atol=1e-5)


def test_without_dueling_there_is_no_value_stream():
    assert networks.QNetwork(torso(VECTOR), 3, dueling=False).value is None


def q_network(space=VECTOR):
    return networks.QNetwork(torso(space, init=False), 3, dueling=True)


def test_the_seed_alone_decides_the_first_weights():
    torch.manual_seed(0)
    first = networks.build(5, q_network, CPU)
    torch.manual_seed(99)
    again, other = networks.build(5, q_network, CPU), networks.build(6, q_network, CPU)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(left, right) for left, right, _ in pairs)
    assert not any(torch.equal(left, right) for left, _, right in pairs)


def test_building_leaves_the_global_generators_as_they_were():
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    networks.build(5, q_network, CPU)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    q_network()
    assert not torch.equal(torch.random.get_rng_state(), torch_state), "the control draws from it"


def test_bf16_ends_before_the_heads():
    actor_critic = networks.ActorCritic(lambda: torso(PIXELS, 1, torch.bfloat16, init=False), THREE)
    q = networks.QNetwork(torso(PIXELS, 1, torch.bfloat16, init=False), 3, dueling=True)
    obs = torch.randint(0, 256, (2, 1, 60, 80), dtype=torch.uint8)
    inside = []
    q.torso.layers[1].register_forward_hook(lambda module, args, output: inside.append(output.dtype))
    outputs = [q.torso(obs), q(obs), *actor_critic(obs)]
    assert inside[0] == torch.bfloat16
    assert {output.dtype for output in outputs} == {torch.float32}
    assert {parameter.dtype for parameter in q.parameters()} == {torch.float32}
    q(obs).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in q.parameters())


def test_weights_converted_once_follow_every_change_of_the_parameters():
    """Bug: acting goes on with the weights of the last update, or of before a checkpoint was loaded."""
    module = networks.build(0, lambda: torso(PIXELS, 4, torch.bfloat16), CPU)
    optimizer = optimizers.make("adam", Trained(module), 0.01, 1e-8)
    obs = torch.randint(0, 256, (3, 4, 60, 80), dtype=torch.uint8)

    def acting() -> torch.Tensor:
        with torch.inference_mode():
            return module(obs)

    first = acting()
    assert torch.equal(first, module(obs)), "without gradients the same numbers as with them"
    module(obs).sum().backward()
    optimizer.step()
    assert torch.equal(acting(), module(obs)) and not torch.equal(acting(), first)
    module.load_state_dict({name: value / 2 for name, value in module.state_dict().items()})
    assert torch.equal(acting(), module(obs))


def test_bf16_agrees_with_fp32_to_its_own_precision():
    obs = torch.randint(0, 256, (8, 1, 60, 80), dtype=torch.uint8)
    exact, rounded = (
        networks.build(3, lambda dtype=dtype: torso(PIXELS, 1, dtype, init=False), CPU)(obs)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("action_space", "outputs"), [(spaces.Discrete(6), 6), (spaces.Box(-2, 2, (3,), np.float32), 6)]
)
def test_actor_critic_has_an_output_for_each_action_and_one_value(action_space, outputs):
    network = networks.ActorCritic(lambda: torso(VECTOR), distributions.of(action_space))
    policy, value = network(torch.zeros(5, 4))
    assert policy.shape == (5, outputs)
    assert value.shape == (5,)
    assert isinstance(action_space, spaces.Box) == (network.log_std is not None)


def test_pixels_share_a_torso_and_vectors_do_not():
    shared = networks.ActorCritic(lambda: torso(PIXELS), THREE)
    apart = networks.build(0, lambda: networks.ActorCritic(lambda: torso(VECTOR), THREE), CPU)
    assert shared.value_torso is None
    apart(torch.ones(1, 4))[1].sum().backward()
    gradients = Trained(apart).gradients()
    assert all(gradient.any() == name.startswith("value") for name, gradient in gradients.items())


def test_the_first_policy_is_nearly_uniform():
    network = networks.build(0, lambda: networks.ActorCritic(lambda: torso(VECTOR), THREE), CPU)
    probability = network(torch.randn(64, 4))[0].softmax(dim=-1)
    assert (probability - 1 / 3).abs().max() < 0.02


def test_first_weights_do_not_depend_on_the_number_of_threads():
    """Bug: the first run in a process begins with other weights than the second, which has found fewer threads."""
    before, made = torch.get_num_threads(), []
    try:
        for num_threads in (2, 1):
            torch.set_num_threads(num_threads)
            layer = networks.build(0, lambda: networks.orthogonal(torch.nn.Linear(64, 64), 1.0), torch.device("cpu"))
            made.append(layer.weight.detach())
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*made)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float64])
def test_weights_of_another_dtype_are_refused(dtype):
    """Bug: weights that torch rounds or cuts when it loads them."""
    network = torso(VECTOR)
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"layers.*not torch.float32"):
        weights.load(network, state)
    weights.load(network, network.state_dict())


class Recurrent(nn.GRU):
    """A layer that returns a tuple."""


class WhileTraining(nn.Module):
    """A layer that mixes the observations of a batch, in updates alone."""

    def forward(self, x):
        return x - 1e-3 * x.mean(0) if self.training else x


class Features(nn.Module):
    """Random features: a tensor that torch does not know, or a buffer."""

    def __init__(self, num_inputs, persistent=None):
        super().__init__()
        numbers = torch.randn(num_inputs, 8)
        if persistent is None:
            self.numbers = numbers
        else:
            self.register_buffer("numbers", numbers, persistent=persistent)

    def forward(self, x):
        return x @ self.numbers


class Listed(nn.Module):
    """Layers in a list of Python's, which torch does not know."""

    def __init__(self, num_inputs):
        super().__init__()
        self.layers = [nn.Linear(num_inputs, 8)]

    def forward(self, x):
        return self.layers[0](x)


class Extra(nn.Linear):
    """A layer with a state that is no tensor."""

    def get_extra_state(self):
        return {"calls": 0}


class Categories(nn.Embedding):
    """A layer for whole numbers in the bounds of the space."""

    def forward(self, x):
        return super().forward(x.long()).flatten(1)


class Siren(nn.Linear):
    """A layer that turns the last digit of its input into another result."""

    def forward(self, x):
        return torch.sin(300 * super().forward(x))


SHARED = nn.Linear(4, 8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda n: [nn.Linear(n, 8), nn.BatchNorm1d(8)], "has BatchNorm1d, with which a value depends on the other"),
        (lambda n: [nn.Linear(n, 8), nn.AvgPool1d(2)], r"returns torch.float32 of shape \[1, 4\].*shape \[1, 8\]"),
        (lambda n: [nn.Linear(n, 8), nn.Flatten(0)], r"returns torch.float32 of shape \[8\]"),
        (lambda n: [nn.Linear(n, 8), Recurrent(8, 8)], "does not compute: AttributeError"),
        (lambda n: [nn.Linear(n + 1, 8)], "does not compute: RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        (lambda n: None, "returns None instead of a torch module"),
        (lambda n: [nn.Linear(n, 8), torch.relu], "returns <built-in method relu .* instead of a torch module"),
        (lambda n: [SHARED, nn.ReLU()], "returns the same layers each time"),
        (lambda n: [nn.Linear(n, 8), nn.Softmax(0)], "depend on others of its batch"),
        (lambda n: [nn.Linear(n, 8), WhileTraining()], "depend on others of its batch"),
        (lambda n: [nn.Hardtanh(inplace=True), nn.Linear(n, 8)], "changes its input"),
        (lambda n: [nn.Dropout(0.5, inplace=True), nn.Linear(n, 8)], "changes its input"),
        # Bugs: each command and each player had other features; a checkpoint that no command could load.
        (
            lambda n: [Features(n, persistent=False), nn.Linear(8, 8)],
            "is in no checkpoint",
        ),
        (lambda n: [Features(n), nn.Linear(8, 8)], "is in no checkpoint"),
        (lambda n: [Listed(n), nn.Linear(8, 8)], "is in no checkpoint"),
        (lambda n: [Extra(n, 8)], "a state that no checkpoint can hold: 0._extra_state"),
    ],
)
@pytest.mark.parametrize("init", [True, False])  # of actor-critics, and of networks of action values
def test_layers_of_a_plugin_that_no_torso_can_use_are_refused(init, make, said, monkeypatch):
    """Bug: they end as a bug of rltrain; those that all networks share make the target network learn."""
    monkeypatch.setitem(OWN, "wrong", make)
    with pytest.raises(ConfigError, match=said) as refused:
        for _ in range(2):
            torso(VECTOR, name="wrong", init=init)
    assert "the network wrong" in str(refused.value) or "the function of the network wrong" in str(refused.value)


class Noisy(nn.Linear):
    """A layer that draws numbers, so that no two calls agree."""

    def forward(self, x):
        return super().forward(x) + torch.rand(len(x), 1)


class NoisyOfNumPy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + float(np.random.standard_normal())


class Settling(nn.Linear):
    """A layer that computes something else from its fifth call on, as iterations do that come to rest."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + (self.calls >= 5))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [Noisy(n, 8)],
        lambda n: [NoisyOfNumPy(n, 8)],  # bug: "a part is in no checkpoint", and there was none
        lambda n: [Settling(n, 8)],  # bug: it was taken for one that mixes the batch
        lambda n: [nn.Linear(n, 8), nn.LayerNorm(8), nn.Softmax(-1)],
        lambda n: [Categories(10, 8), nn.Linear(8 * n, 8)],
        lambda n: [Siren(n, 64), Siren(64, 64), nn.Linear(64, 8)],
        lambda n: [Features(n, persistent=True), nn.Linear(8, 8)],
        lambda n: [parametrizations.spectral_norm(nn.Linear(n, 8)), parametrizations.weight_norm(nn.Linear(8, 8))],
        lambda n: [spectral_norm(nn.Linear(n, 8)), nn.Dropout()],
    ],
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_layers_that_compute_each_observation_by_itself_are_taken(make, precision, monkeypatch):
    monkeypatch.setitem(OWN, "own", make)
    made = torso(spaces.Box(0, 9, (4,), np.float32), name="own", dtype=precision)
    assert made(torch.ones(3, 4)).shape == (3, 8)


class Counting(nn.Linear):
    """A layer that grows from call to call, for as long as it trains."""

    def __init__(self, inputs, outputs, *, where, every=1):
        super().__init__(inputs, outputs)
        self.every = every
        if where == "buffer":
            self.register_buffer("calls", torch.tensor(0))
        else:
            self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
        return super().forward(x) * min(1, 0.01 * (float(self.calls) // self.every))


class Remembering(nn.Linear):
    """A layer that keeps what it computed last; `is_used` says whether the next call depends on it."""

    is_used = True
    last = 0.0

    def forward(self, x):
        found = super().forward(x) + self.is_used * self.last
        self.last = found.detach().mean()
        return found


class Showing(Remembering):
    is_used = False


class NoisyInTraining(nn.Linear):
    """A layer with a generator of its own, which rests in evaluations."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.generator = np.random.default_rng()

    def forward(self, x):
        return super().forward(x) + (float(self.generator.normal()) if self.training else 0)


class OneHot(nn.Linear):
    """A layer for whole numbers below 3, which the observations of a try are not."""

    def forward(self, x):
        return super().forward(nn.functional.one_hot(x.long()[:, 0], 3).float())


class LateBuffer(nn.Linear):
    """Random features that no state has, and a buffer that begins with the first call."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.frequencies = torch.randn(inputs)

    def forward(self, x):
        if self.training and not hasattr(self, "calls"):
            self.register_buffer("calls", torch.tensor(0))
        return super().forward(torch.sin(x * self.frequencies + 1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda n: [Counting(n, 8, where="attribute")], "evaluations and resumed runs begin"),
        (lambda n: [Counting(n, 8, where="attribute", every=8)], "evaluations and resumed runs begin"),
        (lambda n: [Remembering(n, 8)], "evaluations and resumed runs begin"),
        (lambda n: [NoisyInTraining(n, 8)], "a resumed run begins"),
        (lambda n: [Counting(n, 8, where="buffer")], ""), (lambda n: [Showing(n, 8)], ""),
        (lambda n: [Settling(n, 8)], ""), (lambda n: [Noisy(n, 8), nn.Dropout(0.5)], ""),
    ],
)  # fmt: skip
def test_what_layers_keep_from_call_to_call_outside_of_buffers_is_told(make, told, monkeypatch, capsys):
    """Bug: a final evaluation of 63 and an `eval` of 11 for the same agent, as a count began at 0 again."""
    monkeypatch.setitem(OWN, "own", make)
    for _ in range(2):
        torso(VECTOR, name="own")
    err = capsys.readouterr().err
    assert err.count(f"changes from call to call and is in no checkpoint: {told}") == err.count("warning") == bool(told)


def test_layers_that_cannot_compute_a_try_are_not_told_to_remember(capsys):
    own_layers.tell_of_hidden_state("own", nn.Sequential(OneHot(3, 8)), torch.full((2, 4), 7.0))
    assert capsys.readouterr().err == ""


def test_a_buffer_that_begins_with_a_call_hides_no_features_that_are_in_no_checkpoint(monkeypatch):
    monkeypatch.setitem(OWN, "own", lambda n: [LateBuffer(n, 8)])
    with pytest.raises(ConfigError, match="is in no checkpoint: it computes other features"):
        torso(VECTOR, name="own")


def test_weights_in_bfloat16_are_those_of_the_last_update_beside_an_autocast_of_somebody_else():
    """Bug: with autocast left on by an environment, torch never cleared its cache of cast weights."""
    made = torso(VECTOR, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        before = made(torch.ones(1, 4))
        with torch.no_grad():
            made.layers[0].weight.mul_(2)
        assert not torch.equal(made(torch.ones(1, 4)), before)


def test_layers_of_a_plugin_are_tried_without_a_trace(monkeypatch):
    """Its modes, its first weights and those of the heads are what they were without the try."""
    frozen, shared = nn.Dropout().eval(), nn.Dropout()  # bug: those that each call returns stayed without dropout
    monkeypatch.setitem(OWN, "tried", lambda n: [nn.Linear(n, 8), shared, frozen])
    monkeypatch.setattr(own_layers, "try_features", plain := Mock())
    monkeypatch.setattr(own_layers, "require_whole_state", Mock())
    made = [networks.build(3, lambda: networks.QNetwork(torso(VECTOR, name="tried"), 2, False), CPU)]
    monkeypatch.undo()
    monkeypatch.setitem(OWN, "tried", lambda n: [nn.Linear(n, 8), shared, frozen])
    made.append(networks.build(3, lambda: networks.QNetwork(torso(VECTOR, name="tried"), 2, False), CPU))
    assert plain.call_count == 1
    for left, right in zip(*(network.state_dict().values() for network in made), strict=True):
        assert torch.equal(left, right)
    assert [layer.training for layer in made[1].torso.layers] == [True, True, False]


class ActNorm(nn.Module):
    """Takes its scale from the first batch (Kingma & Dhariwal 2018)."""

    def __init__(self):
        super().__init__()
        self.scale, self.started = nn.Parameter(torch.zeros(8)), False

    def forward(self, x):
        if not self.started:
            self.scale.data.copy_(1 / (x.std(0, unbiased=False) + 1))
            self.started = True
        return x * self.scale


def test_layers_that_wait_for_their_first_batch_still_wait(monkeypatch):
    """Bug: the numbers with which layers are tried were their first batch, and then forgotten."""
    monkeypatch.setitem(OWN, "waiting", lambda n: [nn.Linear(n, 8), ActNorm(), nn.Linear(8, 8)])
    made = torso(VECTOR, name="waiting", init=False)
    assert not made.layers[1].started
    made(torch.randn(9, 4))
    assert made.layers[1].started and made.layers[1].scale.min() > 0


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding": 1, "padding_mode": "circular"}, {"groups": 2}])
def test_the_first_convolution_of_a_plugin_has_all_its_options(options, monkeypatch):
    """Bug: it is computed without its dilation, in silence."""
    space = spaces.Box(0, 255, (2, 10, 10), np.uint8)
    first = nn.Conv2d(2, 4, 3, **options)
    size = first(torch.zeros(1, 2, 10, 10)).numel()
    monkeypatch.setitem(OWN, "wide", lambda shape: [first, nn.Flatten(), nn.Linear(size, 8)])
    pixels = torch.randint(0, 256, (3, 2, 10, 10), dtype=torch.uint8)
    network = torso(space, name="wide")
    assert torch.allclose(network(pixels), network.layers(pixels / 255), atol=1e-5)


class Scaled(nn.Module):
    """A linear layer with one bias for all units, and weights that are columns of a larger matrix."""

    def __init__(self, inputs, dense):
        super().__init__()
        torch.manual_seed(0)
        whole, bias = torch.randn(8, 2 * inputs), torch.zeros(1).expand(8)
        self.weight = nn.Parameter(whole[:, :inputs].clone() if dense else whole[:, :inputs])
        self.bias = nn.Parameter(bias.clone() if dense else bias)

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def test_parameters_with_gaps_learn_as_those_without(monkeypatch):
    """Bugs: torch's fused optimizer walks over the gaps: another training in silence, or a segmentation fault."""
    learned = []
    for dense in (True, False):
        monkeypatch.setitem(OWN, "own", lambda n, dense=dense: [Scaled(n, dense), nn.Tanh(), nn.Linear(8, 8)])
        torch.manual_seed(1)
        made = torso(VECTOR, name="own")
        optimizer = torch.optim.Adam(made.parameters(), lr=0.1, fused=True)
        for _ in range(3):
            optimizer.zero_grad()
            made(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()
        learned.append([each.detach().clone() for each in made.parameters()])
    assert all(map(torch.equal, *learned))


class Graph(nn.Linear):
    """A layer with a sparse buffer, a view of its weights as a buffer, and parameters that are disjoint columns."""

    def __init__(self, inputs):
        super().__init__(inputs, 8)
        whole = torch.randn(8, 2 * inputs)
        self.left, self.right = nn.Parameter(whole[:, :inputs]), nn.Parameter(whole[:, inputs:])
        self.none = nn.Parameter(torch.zeros(8, 0))
        self.register_buffer("seen", self.weight.detach()[:, :2], persistent=False)
        self.register_buffer("edges", torch.eye(inputs).to_sparse_csr(), persistent=False)

    def forward(self, x):
        return super().forward(x) + x @ (self.left + self.right).t()


def test_buffers_and_disjoint_columns_are_left_as_they_are(monkeypatch):
    """Bugs: a traceback for sparse ones; a view that no longer followed its weights; columns that were refused."""
    monkeypatch.setitem(OWN, "own", lambda n: [Graph(n)])
    made = torso(VECTOR, name="own").layers[0]
    assert made.seen.data_ptr() == made.weight.data_ptr() and made.left.is_contiguous()


def test_a_parameter_that_is_a_part_of_another_one_is_refused(monkeypatch):
    def layers(n):
        first, second = nn.Linear(n, 8), nn.Linear(n - 1, 8)
        second.weight = nn.Parameter(first.weight.detach()[:, 1:])
        return [first, nn.Linear(8, n - 1), second]

    monkeypatch.setitem(OWN, "own", layers)
    with pytest.raises(ConfigError, match=r"the parameters 2.weight and 0.weight of the network own share numbers"):
        torso(VECTOR, name="own")


def test_a_convolution_in_channels_last_begins_with_the_same_weights(monkeypatch):
    """Bug: torch draws orthogonal weights into contiguous memory alone, so the training ended in a traceback."""
    space, weights_ = spaces.Box(0, 255, (2, 10, 10), np.uint8), []
    for to in (torch.contiguous_format, torch.channels_last):
        monkeypatch.setitem(
            OWN, "own", lambda shape, to=to: [nn.Conv2d(2, 4, 3).to(memory_format=to), nn.Flatten(), nn.Linear(256, 8)]
        )
        torch.manual_seed(0)
        weights_.append(torso(space, name="own", init=True).layers[0].weight)
    assert weights_[1].is_contiguous(memory_format=torch.channels_last) and torch.equal(*weights_)


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class Standardising(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / weight.flatten(1).std(1).view(-1, 1, 1, 1), bias)


def doubled(layer):
    layer.forward = lambda x: 2 * nn.Conv2d.forward(layer, x)
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: Standardised(2, 4, 3), lambda: Standardising(2, 4, 3), lambda: spectral_norm(nn.Conv2d(2, 4, 3)),
        lambda: doubled(nn.Conv2d(2, 4, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_convolution_of_a_plugin_is_called_as_it_is(make, dtype, monkeypatch):
    """Bug: its own forward and its hooks were left out, in silence."""
    torch.manual_seed(0)  # spectral normalisation may begin with a tiny norm, and results of hundreds
    monkeypatch.setitem(OWN, "ones own", lambda shape: [make(), nn.Flatten(), nn.Linear(4 * 8 * 8, 8)])
    pixels = torch.randint(0, 256, (3, 2, 10, 10), dtype=torch.uint8)
    network = torso(spaces.Box(0, 255, (2, 10, 10), np.uint8), name="ones own", dtype=dtype, init=False).eval()
    assert torch.allclose(network(pixels), network.layers(pixels / 255), atol=1e-4 if dtype == torch.float32 else 0.05)


TRAINED = torch.arange(32.0).view(8, 4)


def trained(num_inputs, is_frozen):
    first = nn.Linear(num_inputs, 8)
    first.weight.data.copy_(TRAINED)
    return [first.requires_grad_(not is_frozen), nn.Sequential(nn.Linear(8, 6, bias=False)), nn.Linear(6, 6)]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_weights_that_a_plugin_has_trained_before_stay_and_others_are_orthogonal(is_frozen, monkeypatch):
    """Bugs: a frozen layer was random for ever; a layer without bias ended as a bug of rltrain."""
    monkeypatch.setitem(OWN, "trained before", lambda n: trained(n, is_frozen))
    for seed in (0, 1):
        network = networks.build(seed, lambda: torso(VECTOR, name="trained before"), CPU)
        assert torch.equal(network.layers[0].weight, TRAINED) and network.layers[0].bias.any()
        weight = network.layers[1][0].weight
        assert torch.allclose(weight @ weight.T, 2 * torch.eye(6), atol=1e-5)
        assert not network.layers[2].bias.any()


@pytest.mark.parametrize("last", [lambda n: nn.Linear(n, 8).requires_grad_(False), lambda n: Own(n, 8)])
def test_game_variables_replace_no_layer_of_ones_own(last, monkeypatch):
    """Bug: its forward, or its weights, were left out in silence."""
    monkeypatch.setitem(OWN, "last", lambda shape: [nn.Conv2d(1, 2, 9), nn.Flatten(), last(2 * 52 * 72)])
    with pytest.raises(ConfigError, match="game variables would replace the last linear layer of the network last, a"):
        torso(PixelsAndVariables(1, 60, 80, 2), name="last")


class Own(nn.Linear):
    """A linear layer of one's own."""
