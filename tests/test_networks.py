"""Networks: pixels scaled once, the right torso, the dueling head, first weights that only the seed decides."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain import networks
from rltrain.config import NetworkConfig

PIXELS = spaces.Box(0, 255, (1, 60, 80), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,), np.float32)
STATES = spaces.Discrete(5)
CPU = torch.device("cpu")


def torso(space: gymnasium.Space, stack_num: int = 1, dtype: torch.dtype = torch.float32, init=True, **fields):
    return networks.Torso(space, stack_num, NetworkConfig(**fields), dtype, init)


def first_input(module: networks.Torso, obs: torch.Tensor) -> torch.Tensor:
    """What the first layer gets."""
    seen = []
    hook = module.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module(obs)
    hook.remove()
    return seen[0].float()


@pytest.mark.parametrize("name", ["auto", "nature_cnn", "small_cnn"])
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
    assert first_input(torso(VECTOR), torch.full((1, 4), 7.0)).tolist() == [[7.0] * 4]
    assert first_input(torso(STATES), torch.tensor([2])).tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("space", "name", "chosen", "features"),
    [
        (spaces.Box(0, 255, (1, 84, 84), np.uint8), "auto", "nature_cnn", 512),
        (PIXELS, "auto", "small_cnn", 256),
        (PIXELS, "nature_cnn", "nature_cnn", 512),
        (VECTOR, "auto", "mlp", 64),
        (STATES, "auto", "mlp", 64),
    ],
)
def test_auto_chooses_by_the_observation(space, name, chosen, features):
    built = torso(space, name=name)
    assert (built.name, built.num_features) == (chosen, features)


@pytest.mark.parametrize("shape", [(1, 36, 36), (3, 60, 80), (1, 84, 84), (3, 240, 320)])
def test_every_frame_size_from_36_pixels_up_fits(shape):
    obs = torch.zeros(2, 4 * shape[0], *shape[1:], dtype=torch.uint8)
    assert torso(spaces.Box(0, 255, shape, np.uint8), 4, init=False, name="nature_cnn")(obs).shape == (2, 512)


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
    actor_critic = networks.ActorCritic(lambda: torso(PIXELS, 1, torch.bfloat16, init=False), spaces.Discrete(3))
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


def test_bf16_agrees_with_fp32_to_its_own_precision():
    obs = torch.randint(0, 256, (8, 1, 60, 80), dtype=torch.uint8)
    exact, rounded = (
        networks.build(3, lambda dtype=dtype: torso(PIXELS, 1, dtype, init=False), CPU)(obs)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("action_space", "outputs"), [(spaces.Discrete(6), 6), (spaces.Box(-2, 2, (3,), np.float32), 3)]
)
def test_actor_critic_has_an_output_for_each_action_and_one_value(action_space, outputs):
    network = networks.ActorCritic(lambda: torso(VECTOR), action_space)
    policy, value = network(torch.zeros(5, 4))
    assert policy.shape == (5, outputs)
    assert value.shape == (5,)
    assert network.continuous == (network.log_std is not None)


def test_pixels_share_a_torso_and_vectors_do_not():
    shared = networks.ActorCritic(lambda: torso(PIXELS), spaces.Discrete(2))
    apart = networks.ActorCritic(lambda: torso(VECTOR), spaces.Discrete(2))
    assert shared.value_torso is None
    apart(torch.zeros(1, 4))[1].sum().backward()
    assert all(parameter.grad is None for parameter in apart.torso.parameters())


def test_the_first_policy_is_nearly_uniform():
    network = networks.build(0, lambda: networks.ActorCritic(lambda: torso(VECTOR), spaces.Discrete(4)), CPU)
    probability = network(torch.randn(64, 4))[0].softmax(dim=-1)
    assert (probability - 0.25).abs().max() < 0.02
