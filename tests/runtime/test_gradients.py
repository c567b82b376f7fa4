"""The gradients of processes that share a minibatch are those of the whole minibatch."""

import gymnasium
import numpy as np
import pytest
import torch
from threads import together

from rltrain.algos.a2c import A2C
from rltrain.algos.parts.minibatches import epochs, normalized
from rltrain.algos.ppo import PPO
from rltrain.algos.pqn import PQN
from rltrain.buffers.rollout import ReturnBatch, Rollout
from rltrain.config.algorithms import A2CConfig, PPOConfig, PQNConfig
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.runtime.group import Alone
from rltrain.runtime.share import Share

FRAMES = gymnasium.spaces.Box(0, 255, (1, 36, 36), np.uint8)
VECTORS = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
ACTIONS = gymnasium.spaces.Discrete(3)
STEPS, ENVS = 4, 5


def agent_of(algo, pixels, precision):
    kind, settings = {
        "ppo": (PPO, PPOConfig(batch_size=STEPS * ENVS, num_epochs=1, max_grad_norm=1e9)),
        "a2c": (A2C, A2CConfig(normalize_advantage=True, max_grad_norm=1e9)),
        "pqn": (PQN, PQNConfig(batch_size=STEPS * ENVS, num_epochs=1, max_grad_norm=1e9)),
    }[algo]
    network = NetworkConfig("small_cnn" if pixels else "mlp")
    env = GymConfig("test", id="test", stack_num=1)
    config = RunConfig(settings, env, network, device="cpu", precision=precision)
    return kind(config, FRAMES if pixels else VECTORS, ACTIONS, 0)


def data(pixels):
    """What a rollout of all environments holds, and advantages whose mean differs from environment to environment."""
    rng = np.random.default_rng(5)
    space = FRAMES if pixels else VECTORS
    obs = rng.integers(0, 256, (STEPS, ENVS, *space.shape)) if pixels else rng.normal(size=(STEPS, ENVS, *space.shape))
    fields = {name: rng.normal(size=(STEPS, ENVS)).astype(np.float32) for name in ("value", "advantage")}
    fields["advantage"] += np.arange(ENVS, dtype=np.float32)
    fields["log_prob"] = np.full((STEPS, ENVS), -1.1, np.float32)
    return {"obs": obs.astype(space.dtype), "action": rng.integers(3, size=(STEPS, ENVS)), **fields}


def rollout_of(agent, values, rows):
    actor = getattr(agent, "actor", agent)
    obs = values["obs"][:, rows]
    rollout = Rollout(STEPS, obs.shape[1], obs.shape[2:], torch.from_numpy(obs).dtype, (), torch.int64, actor.device)
    for t in range(STEPS):
        rollout.put_obs(t, obs[t])
    for name in ("action", "log_prob", "value"):
        getattr(rollout, name).copy_(torch.from_numpy(values[name][:, rows]))
    return rollout, torch.from_numpy(values["advantage"][:, rows].copy())


def update(algo, agent, rollout, advantage, group, share):
    """One update as in the algorithm's `train`; returns the gradients by name."""
    agent.learner.join(group, share.weight)
    returns = advantage + rollout.value
    indices = list(epochs(rollout, agent.config, np.random.default_rng(2), group, share)) if algo != "a2c" else []
    if algo == "ppo":
        agent.update(rollout.minibatch(indices[0], advantage, returns), 0.2, agent.config.entropy_weight)
    elif algo == "pqn":
        flat = rollout.flat("action")[indices[0]], returns.flatten()[indices[0]]
        agent.learner.step(agent.loss, ReturnBatch(rollout.obs_at(indices[0]), *flat))
    else:
        advantage = normalized(advantage, group)
        agent.learner.step(agent.loss, rollout.whole(advantage, returns))
    return {name: gradient.clone() for name, gradient in agent.learner.trained.gradients().items()}


@pytest.mark.parametrize(("pixels", "precision", "atol"), [(False, "fp32", 1e-6), (True, "bf16", 1e-2)])
@pytest.mark.parametrize("algo", ["ppo", "a2c", "pqn"])
@pytest.mark.parametrize("size", [2, 5])
def test_gradients_of_parts_are_those_of_the_whole(algo, pixels, precision, atol, size):
    """Bugs: a mean of means over unequal parts (5 environments in 2 processes); advantages normalised in each part."""
    values = data(pixels)
    agent = agent_of(algo, pixels, precision)
    whole = update(algo, agent, *rollout_of(agent, values, slice(None)), Alone(), Share.of(0, 1, ENVS))

    agents = [agent_of(algo, pixels, precision) for _ in range(size)]  # not in threads, which share torch's generator

    def part(group):
        share, own = Share.of(group.rank, group.size, ENVS), agents[group.rank]
        return update(algo, own, *rollout_of(own, values, share.rows), group, share)

    parts = together(size, part)
    assert whole.keys() == parts[0].keys() and max(float(each.abs().max()) for each in whole.values()) > 1e-2
    for name, gradient in whole.items():
        for found in parts:
            torch.testing.assert_close(
                found[name], gradient, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
            )
            assert torch.equal(found[name], parts[0][name]), "every process steps by the same gradient"


def test_equal_advantages_become_0_and_not_the_noise_of_their_mean():
    parts = together(2, lambda group: normalized(torch.full((3,), 0.1), group))
    assert float(torch.cat(parts).abs().max()) < 1e-6
