"""PPO: what a rollout holds at an episode's end, and what its first update must look like."""

import importlib
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.algos.parts.collector import Collector
from rltrain.algos.ppo import PPO
from rltrain.buffers.rollout import Rollout
from rltrain.math.returns import gae

QUICK = {"num_steps": 16, "batch_size": 32, "num_epochs": 2}


@pytest.fixture
def played(collected):
    """One rollout of 20 steps of the loop in 2 environments, with its agent."""
    return lambda **kwargs: collected(PPO, "ppo", lambda agent: agent.actor, **kwargs)


@pytest.mark.parametrize("terminates", [False, True])
def test_the_two_masks_and_the_true_successors_value(terminates, played):
    rollout, agent = played(counts=True, terminates=terminates)
    ends = torch.zeros(20, 2)
    ends[[7, 15]] = 1
    assert torch.equal(rollout.trace, 1 - ends)
    assert torch.allclose(rollout.discount, 0.98 * (1 - ends if terminates else torch.ones(20, 2)))
    assert rollout.obs[:, 0, 0].tolist() == [t % 8 for t in range(20)]
    # The successor of the last step of an episode is 8, which the policy never sees, and not the reset's 0.
    successor = np.array([[t % 8 + 1] for t in range(20)], np.float32)
    wanted = agent.actor.value(successor)
    of_reset = agent.actor.value(np.zeros((1, 1), np.float32))
    assert abs(wanted[7] - of_reset) > 1e-3, "the control: the two can be told apart"
    counted = rollout.discount[:, 0] > 0
    assert torch.allclose(rollout.next_value[counted, 0], wanted[counted], atol=1e-6)


def test_no_double_precision_is_sent_to_the_device(played, monkeypatch):
    """Bug: MPS has none, and refuses it."""
    sent = []
    for place in ("algos.parts.collector", "nn.distributions", "buffers.rollout"):
        original = importlib.import_module(f"rltrain.{place}").to_device

        def watched(array, device, original=original):
            sent.append(array.dtype)
            return original(array, device)

        monkeypatch.setattr(f"rltrain.{place}.to_device", watched)
    played(counts=True)
    assert np.float32 in sent and np.float64 not in sent


def test_values_and_log_probabilities_are_those_of_the_policy_that_acted(played):
    rollout, agent = played(counts=True)
    outputs, value = agent.actor.network(rollout.flat("obs"))
    assert torch.allclose(rollout.flat("value"), value, atol=1e-6)
    chosen = outputs.log_softmax(-1).gather(-1, rollout.flat("action")[:, None]).squeeze(-1)
    assert torch.allclose(rollout.flat("log_prob"), chosen, atol=1e-6)


@pytest.mark.parametrize(("reward", "clip", "learned"), [(3.0, None, 3.0), (3.0, 1.0, 1.0)])
def test_clipped_rewards_are_learned_from_and_raw_ones_reported(reward, clip, learned, config, watched):
    run_config = config(
        "ppo", env="loop:Loop-v0", kwargs={"reward": reward}, num_envs=2, reward_clip=clip, **QUICK, steps=32
    )
    rollouts = []
    original = Collector.collect

    def keep(self):
        rollouts.append(original(self))
        return rollouts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Collector, "collect", keep)
        seen, _ = watched(run_config, lambda run, agent, parts: list(run.statistics.recent))
    assert rollouts[0].reward.unique().tolist() == [learned]
    assert set(seen[-1]) == {(8 * reward, 8)}


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_ratio_is_one_in_the_first_minibatch_of_every_rollout(env, config, watched, monkeypatch):
    updates = []
    original = PPO.update

    def update(self, batch, clip_range, entropy_weight):
        with torch.no_grad():
            log_prob, _, _ = self.actor.evaluate(batch.obs, batch.action)
        off = (log_prob - batch.log_prob).expm1().abs().max().item()
        original(self, batch, clip_range, entropy_weight)
        updates.append((off, self.learner.metrics()))

    monkeypatch.setattr(PPO, "update", update)
    watched(
        config("ppo", env=env, num_envs=4, num_steps=32, batch_size=32, num_epochs=4, learning_rate=1e-2, steps=256)
    )
    assert len(updates) == 2 * 16
    for rollout in range(2):
        (off, first), *later = updates[16 * rollout : 16 * (rollout + 1)]
        assert off < 2e-6, "a few roundings of a float32"
        assert abs(first["train/approx_kl"]) < 1e-6
        assert first["train/clip_fraction"] == 0
        assert max(metrics["train/approx_kl"] for _, metrics in later) > 1e-4, "the control: the policy does move"


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 45, 51), (True, 1, 7.47)])
def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not(terminates, low, high, config, watched):
    run_config = config(
        "ppo", env="loop:Loop-v0", kwargs={"terminates": terminates}, num_envs=4, num_steps=16, batch_size=64,
        num_epochs=10, gamma=0.98, learning_rate=2e-2, max_grad_norm=1e3, steps=6400,
    )  # fmt: skip
    _, agent = watched(run_config)
    assert low <= agent.actor.value(np.ones((1, 1), np.float32)).item() <= high


def test_the_gradient_at_ratio_1_is_the_one_worked_by_hand(config):
    """Bugs: the entropy punished, a weight that nothing reads. The numbers are A2C's: at ratio 1 both losses agree."""
    agent, _ = make_pair(config, normalize_advantage=False, value_weight=0.5, entropy_weight=0.1, max_grad_norm=1e9)
    network = agent.actor.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.policy.bias.copy_(torch.tensor([1.0, 3.0]).log())
        network.value.bias.fill_(1.0)
    rollout = Rollout(2, 1, (1,), torch.float32, (), torch.int64)
    rollout.action[:] = torch.tensor([[0], [1]])
    rollout.log_prob[:] = torch.tensor([[0.25], [0.75]]).log()
    advantage = torch.tensor([[1.25], [1.5]])
    agent.update(rollout.whole(advantage, advantage + 1), 0.2, agent.config.entropy_weight)
    # Of -ratio * A: -(1 - 1/4) * 1.25 and -(0 - 1/4) * 1.5, mean -.28125; of the entropy -.1 * .2059898.
    gradients = agent.learner.trained.gradients()
    assert gradients["policy.bias"].tolist() == pytest.approx([-0.3018490, 0.3018490], rel=1e-5)
    assert gradients["value.bias"].tolist() == pytest.approx([-0.6875])  # .5 * mean(1 - R)


@pytest.fixture
def scheduled(monkeypatch):
    """Those of all updates, with the weights of the entropy."""
    seen, original = [], PPO.update

    def update(self, batch, clip_range, entropy_weight):
        seen.append((clip_range, entropy_weight))
        original(self, batch, clip_range, entropy_weight)

    monkeypatch.setattr(PPO, "update", update)
    return seen


@pytest.mark.parametrize("num_envs", [2, 4])
def test_schedules_count_agent_steps_whatever_the_number_of_environments(num_envs, config, watched, scheduled):
    seen, _ = watched(
        config(
            "ppo", num_envs=num_envs, steps=256, num_steps=64 // num_envs, batch_size=64, num_epochs=1,
            learning_rate=1e-3, learning_rate_end=0.0, clip_range=0.2, clip_range_end=0.1,
            entropy_weight=0.04, entropy_weight_end=0.0,
        ),
        lambda run, agent, parts: (run.step - 64, agent.learner.learning_rate, *scheduled[-1]),
    )  # fmt: skip
    assert np.array(seen) == pytest.approx(
        np.array([(64 * k, 1e-3 * (1 - k / 4), 0.2 - 0.1 * k / 4, 0.04 * (1 - k / 4)) for k in range(4)])
    )


def test_the_learning_rate_falls_from_its_first_to_its_last_value(config):
    run_config = config("ppo", steps=100, learning_rate=1e-3, learning_rate_end=1e-4, **QUICK)
    agent = PPO(run_config, spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2), 0)
    seen = []
    for step in (0, 50, 100):
        agent.learner.anneal_learning_rate(step)
        seen.append(agent.learner.learning_rate)
    assert seen == pytest.approx([1e-3, 5.5e-4, 1e-4])


def test_without_an_end_everything_stays(config, watched, scheduled):
    run_config = config("ppo", num_envs=2, steps=128, **QUICK)
    seen, _ = watched(run_config, lambda run, agent, parts: (agent.learner.learning_rate, *scheduled[-1]))
    assert len(seen) == 4 and set(seen) == {(2.5e-4, 0.2, 0.01)}


def test_continuous_actions_are_bounded_for_the_environment_alone(config):
    bounds = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
    agent = PPO(config("ppo", **QUICK), spaces.Box(-1, 1, (3,), np.float32), bounds, 0)
    with torch.no_grad():
        agent.actor.network.log_std.fill_(3.0)
    sampled, outputs, _ = agent.actor.act(torch.zeros(50, 3), np.random.default_rng(0))
    given = agent.actor.for_env(sampled)
    assert sampled.abs().max() > 2
    assert all(bounds.contains(action) for action in given)
    assert np.array_equal(given, np.clip(sampled.numpy(), bounds.low, bounds.high))
    # What is learned from is the density of what was sampled: of a normal distribution at (sampled - 0) / e^3.
    wanted = -0.5 * (sampled / math.exp(3)).square() - 3 - 0.5 * math.log(2 * math.pi)
    mean = outputs[:, :2]
    assert mean.abs().max() < 1e-6
    assert torch.allclose(agent.actor.log_prob(outputs, sampled), wanted.sum(-1), atol=1e-4)


def test_sampling_follows_the_probabilities(config):
    agent = PPO(config("ppo", **QUICK), spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3), 0)
    logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(20_000, 1)
    share = torch.bincount(agent.actor.distribution.sample(logits, np.random.default_rng(0)), minlength=3) / 20_000
    assert torch.allclose(share, logits[0].softmax(-1), atol=0.015)


def test_advantages_are_normalised_over_the_minibatch(config, played):
    rollout, _ = played(counts=True)
    advantage = gae(rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, 0.95)
    losses = []
    for scale in (1.0, 100.0):
        run_config = config("ppo", entropy_weight=0.0, value_weight=0.0, num_envs=2, num_steps=20, batch_size=40)
        agent = PPO(run_config, spaces.Box(0, 8, (1,), np.float32), spaces.Discrete(2), 3)
        agent.update(rollout.whole(scale * advantage + scale, scale * advantage), 0.2, agent.config.entropy_weight)
        losses.append(agent.learner.metrics()["train/grad_norm"].item())
    assert losses[0] > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def make_pair(config, **fields):
    """Agents with the same weights that learn from whole minibatches and from parts of 7."""
    agents = []
    for micro_batch_size in (None, 7):
        run_config = config("ppo", num_envs=2, num_steps=20, batch_size=40, **fields)
        run_config.micro_batch_size = micro_batch_size
        agents.append(PPO(run_config, spaces.Box(0, 8, (1,), np.float32), spaces.Discrete(2), 3))
    return agents


def test_gradients_of_parts_add_up_and_advantages_are_normalised_over_the_whole_minibatch(config, played):
    rollout, _ = played(counts=True)
    # Advantages that differ between the parts: normalised in each part, they would all look alike.
    advantage = torch.linspace(-3, 5, 40).reshape(20, 2)
    gradients = []
    for agent in make_pair(config):
        agent.update(rollout.whole(advantage, advantage), 0.2, agent.config.entropy_weight)
        metrics = agent.learner.metrics()
        parts = [gradient.flatten() for gradient in agent.learner.trained.gradients().values()]
        gradients.append(torch.cat([metrics["train/loss"][None], *parts]))
    assert gradients[0].abs().max() > 0.01
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(("sign", "moves"), [(1, False), (-1, True)])
def test_a_ratio_of_two_moves_the_policy_only_where_that_helps(sign, moves, config, played):
    rollout, _ = played(counts=True)
    agent, _ = make_pair(config, normalize_advantage=False, value_weight=0.0, entropy_weight=0.0)
    with torch.no_grad():
        rollout.log_prob[:] = agent.actor.evaluate(rollout.flat("obs"), rollout.flat("action"))[0].view(20, 2)
    rollout.log_prob -= math.log(2)  # the policy that acted found each action half as likely
    advantage = torch.full((20, 2), float(sign))
    agent.update(rollout.whole(advantage, advantage), 0.2, agent.config.entropy_weight)
    metrics = agent.learner.metrics()
    assert metrics["train/clip_fraction"] == 1
    assert (metrics["train/grad_norm"] > 1e-3) == moves
    assert metrics["train/grad_norm"] == 0 or moves


@pytest.mark.parametrize(("clip_value_range", "moves"), [(None, True), (10.0, True), (0.1, False)])
def test_a_value_that_has_moved_far_enough_moves_no_further(clip_value_range, moves, config, played):
    rollout, _ = played(counts=True)
    agent, _ = make_pair(config, entropy_weight=0.0, clip_value_range=clip_value_range)
    with torch.no_grad():
        value = agent.actor.network(rollout.flat("obs"))[1].view(20, 2)
    rollout.value[:] = value - 1  # the values have risen by 1 since; the returns lie 1 further
    agent.update(rollout.whole(torch.zeros(20, 2), rollout.value + 2), 0.2, agent.config.entropy_weight)
    assert (agent.learner.trained.gradients()["value.bias"].abs().item() > 0.1) == moves
