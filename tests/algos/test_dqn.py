"""DQN: what reaches the loss, when the target network follows, what is counted in which unit."""

import copy
import csv
import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.algos.dqn import DQN
from rltrain.buffers.batch import Batch
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.nn.trained import Trained
from rltrain.run import checkpoint

VECTOR, TWO = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2)
QUICK = {"batch_size": 8, "learning_starts": 40, "train_every_steps": 4}


def make_batch(size=8, weight=1.0, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.standard_normal((2, size, 4)).astype(np.float32)
    reward = rng.standard_normal(size).astype(np.float32)
    discount, weights = np.full(size, 0.9, np.float32), np.full(size, weight, np.float32)
    return Batch(obs, rng.integers(2, size=size), reward, discount, next_obs, weights, np.arange(size))


def parameters(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


def test_the_target_network_is_copied_at_exactly_every_period(config):
    agent = DQN(config("dqn", target_period_updates=3), VECTOR, TWO, 0)
    assert torch.equal(parameters(agent.online), parameters(agent.target))
    copied = []
    for number in range(1, 11):
        before = parameters(agent.target)
        agent.update(make_batch(seed=number))
        if not torch.equal(parameters(agent.target), before):
            copied.append(number)
            assert torch.equal(parameters(agent.online), parameters(agent.target))
    assert copied == [3, 6, 9]


@pytest.mark.parametrize("num_envs", [1, 4])
def test_updates_and_target_copies_fall_on_the_same_steps_for_any_number_of_environments(num_envs, config, watched):
    run_config = config("dqn", num_envs=num_envs, steps=100, target_period_updates=5, **QUICK)
    seen, _ = watched(
        run_config, lambda run, agent, parts: (run.step, agent.learner.num_updates, parameters(agent.target))
    )
    changed = [
        (step, updates)
        for (_, _, before), (step, updates, after) in itertools.pairwise(seen)
        if not torch.equal(before, after)
    ]
    assert changed == [(56, 5), (76, 10), (96, 15)]  # the first update at step 40, one every 4 steps
    assert seen[-1][:2] == (100, 16)


def tables(agent, online, target):
    """Let hand-written values stand in for the networks; observations are state numbers."""
    agent.online = torch.nn.Embedding.from_pretrained(torch.tensor(online), freeze=False)
    agent.target = torch.nn.Embedding.from_pretrained(torch.tensor(target))
    agent.learner.trained = Trained(agent.online)


@pytest.mark.parametrize(("double", "expected"), [(True, [0.5 * 3 + 1 - 1, 1 - 4]), (False, [0.5 * 9 + 1 - 1, 1 - 4])])
def test_double_dqn_judges_the_online_choice_by_the_target_network(double, expected, config):
    agent = DQN(config("dqn", double=double), VECTOR, TWO, 0)
    tables(agent, [[1.0, 2.0], [4.0, 8.0]], [[0.0, 0.0], [9.0, 3.0]])
    state, action = np.array([0, 1]), np.array([0, 0])
    one = np.ones(2, np.float32)
    batch = Batch(state, action, one, np.array([0.5, 0.0], np.float32), np.array([1, 1]), one, state)
    td_error = agent.update(batch)
    assert td_error.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_importance_weights_reach_the_loss(loss, config):
    agent = DQN(config("dqn", loss=loss), VECTOR, TWO, 0)
    before = parameters(agent.online)
    agent.update(make_batch(weight=0.0))
    assert agent.learner.metrics()["train/loss"] == 0
    assert torch.equal(parameters(agent.online), before)
    losses = []
    for weight in (1.0, 0.5):
        agent = DQN(config("dqn", loss=loss), VECTOR, TWO, 0)
        agent.update(make_batch(weight=weight))
        losses.append(agent.learner.metrics()["train/loss"].item())
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0] / 2)


def test_the_td_errors_reach_the_priorities_and_beta_rises_to_one(config, watched):
    run_config = config("dqn", prioritized=True, steps=100, priority_beta_start=0.4, **QUICK)
    seen, _ = watched(run_config, lambda run, agent, parts: (run.step, parts["replay"].beta, parts["replay"]))
    replay = seen[-1][2]
    assert isinstance(replay, PrioritizedReplay)
    assert len(np.unique(replay.priorities[replay.priorities > 0])) > 20, "every transition has the first priority"
    beta = {step: value for step, value, _ in seen}
    assert (beta[40], beta[72], beta[100]) == pytest.approx((0.4 + 0.6 * 0.4, 0.4 + 0.6 * 0.72, 1.0))


@pytest.mark.parametrize("micro_batch_size", [1, 3, 8, 100])
def test_parts_of_a_batch_add_up_to_the_whole(micro_batch_size, config):
    batch = dataclasses.replace(make_batch(), weight=np.linspace(0.1, 1, 8, dtype=np.float32))
    whole = DQN(config("dqn", double=True), VECTOR, TWO, 0)
    parted = DQN(dataclasses.replace(config("dqn", double=True), micro_batch_size=micro_batch_size), VECTOR, TWO, 0)
    error, same_error = whole.update(batch), parted.update(batch)
    metrics, same_metrics = whole.learner.metrics(), parted.learner.metrics()
    assert same_error.tolist() == pytest.approx(error.tolist(), abs=1e-6)
    assert same_metrics.keys() == metrics.keys()
    for tag, value in metrics.items():
        assert float(same_metrics[tag]) == pytest.approx(float(value), abs=1e-6), tag
    torch.testing.assert_close(parameters(parted.online), parameters(whole.online), atol=1e-6, rtol=0)


def test_the_loss_is_the_one_that_was_chosen(config):
    batch = dataclasses.replace(make_batch(), reward=np.full(8, 100, np.float32))
    huber, squared = (DQN(config("dqn", loss=loss), VECTOR, TWO, 0) for loss in ("huber", "squared"))
    error = huber.update(batch).abs().numpy()
    assert error.tolist() == squared.update(batch).abs().tolist()
    assert error.min() > 1
    assert huber.learner.metrics()["train/loss"].item() == pytest.approx((error - 0.5).mean(), rel=1e-5)
    assert squared.learner.metrics()["train/loss"].item() == pytest.approx((0.5 * error**2).mean(), rel=1e-5)


def every_step_is_stored_once_within_its_episode(num_envs, num_steps, config, watched, monkeypatch):
    """Of a game whose observation is (episode, t) and whose reward is t."""
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "envs"))
    fields = {"learning_starts": 10**9, "replay_capacity": 2 * num_steps, "train_every_steps": 4, "batch_size": 8}
    run_config = config("dqn", env="counter:Counter-v0", num_envs=num_envs, steps=num_steps, **fields)
    seen, _ = watched(run_config, lambda run, agent, parts: (run.step, parts["replay"].size, parts))
    assert all(step == size for step, size, _ in seen)
    replay, envs = seen[-1][2]["replay"], seen[-1][2]["environments"]
    stored = replay.gather(np.flatnonzero(replay.valid), np.ones(replay.size, np.float32))
    assert (stored.next_obs[:, 0] == stored.obs[:, 0]).all(), "a transition spans two episodes"
    assert (stored.next_obs[:, 1] == stored.obs[:, 1] + 1).all()
    assert (stored.reward == stored.next_obs[:, 1]).all()
    (folder,) = {path.parent for path in Path(run_config.run_dir).rglob("episodes.csv")}
    finished = list(csv.DictReader((folder / "episodes.csv").read_text().splitlines()))
    assert replay.size == sum(int(row["length"]) for row in finished) + int(envs.frame[:, 1].sum()) >= num_steps
    assert len(finished) > num_steps / 20
    # The game ends by both kinds of end, each about as often.
    assert 0.2 < (stored.discount == 0).sum() / len(finished) < 0.8


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_every_step_is_stored_once_within_its_episode(num_envs, config, watched, monkeypatch):
    every_step_is_stored_once_within_its_episode(num_envs, 5000, config, watched, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_every_one_of_a_hundred_thousand_steps_is_stored_once(num_envs, config, watched, monkeypatch):
    every_step_is_stored_once_within_its_episode(num_envs, 100_000, config, watched, monkeypatch)


@pytest.mark.parametrize("num_envs", [1, 4])
def test_epsilon_falls_with_agent_steps_whatever_the_number_of_environments(num_envs, config, watched):
    fields = {"epsilon_start": 0.9, "epsilon_end": 0.1, "exploration_fraction": 0.5, **QUICK, "learning_starts": 8}
    seen, _ = watched(
        config("dqn", num_envs=num_envs, steps=400, **fields),
        lambda run, agent, parts: (run.step - num_envs, run.statistics.latest["rollout/exploration_rate"]),
    )
    epsilon = dict(seen)
    assert epsilon[0] == epsilon[4] == 1.0, "random until learning starts"
    assert epsilon[8] == pytest.approx(0.9 - 0.8 * 8 / 200)
    assert epsilon[100] == pytest.approx(0.5)
    assert epsilon[200] == epsilon[396] == 0.1


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_schedules_go_on_after_a_resume_as_if_nothing_had_happened(num_envs, config, watched):
    def look(run, agent, parts):
        return run.step, (run.statistics.latest["rollout/exploration_rate"], parts["replay"].beta)

    fields = {"prioritized": True, "epsilon_start": 0.9, "epsilon_end": 0.1, "exploration_fraction": 0.75, **QUICK}
    run_config = config("dqn", num_envs=num_envs, steps=400, **fields)
    run_config = dataclasses.replace(run_config, checkpoint_every_steps=200)
    whole = dict(watched(run_config, look)[0])
    (folder,) = {path.parent for path in Path(run_config.run_dir).rglob("config.yaml")}
    rest = dict(watched(run_config, look, folder, checkpoint.load(folder, "200"))[0])
    assert min(rest) == 200 + num_envs
    assert rest == {step: values for step, values in whole.items() if step > 200}
    # The first step after the resume chose its action at step 200; beta is that of the last update, every 4 steps.
    assert rest[200 + num_envs][0] == pytest.approx(0.9 - 0.8 * 200 / 300)
    assert rest[204][1] == pytest.approx(0.4 + 0.6 * 204 / 400)
    assert rest[400] == (0.1, 1.0)


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_learning_rate_falls_with_agent_steps_or_stays(num_envs, config, watched):
    def look(run, agent, parts):
        return run.step, agent.learner.learning_rate

    fields = {"num_envs": num_envs, "steps": 400, "learning_rate": 1e-2, **QUICK}
    falling = dict(watched(config("dqn", learning_rate_end=1e-3, **fields), look)[0])
    assert (falling[40], falling[200], falling[400]) == pytest.approx((1e-2 - 9e-3 * 0.1, 5.5e-3, 1e-3))
    assert {rate for _, rate in watched(config("dqn", **fields), look)[0]} == {1e-2}


def test_epsilon_is_a_coin_for_each_environment(config):
    agent = DQN(config("dqn"), VECTOR, spaces.Discrete(1000), 0)
    obs = np.zeros((4000, 4), np.float32)
    greedy = agent.act(obs, 0.0, np.random.default_rng(0))
    assert len(np.unique(greedy)) == 1
    explored = agent.act(obs, 0.25, np.random.default_rng(0)) != greedy
    assert abs(explored.mean() - 0.25) < 0.03


def test_clipped_and_scaled_rewards_are_learned_from(config, watched):
    fields = {**QUICK, "reward_scale": 0.5, "reward_clip": 0.25}
    seen, _ = watched(config("dqn", steps=60, **fields), lambda run, agent, parts: parts["replay"].sample(32).reward)
    assert set(seen[-1].tolist()) == {0.25}
    seen, _ = watched(config("dqn", steps=60, **QUICK), lambda run, agent, parts: parts["replay"].sample(32).reward)
    assert set(seen[-1].tolist()) == {1.0}


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 45, 51), (True, 1, 7.47)])
def test_a_time_limit_is_bootstrapped_through_and_a_termination_is_not(terminates, low, high, config, watched):
    fields = {"gamma": 0.98, "n_step": 8, "learning_rate": 1e-2, "target_period_updates": 20, "max_grad_norm": 1e3}
    run_config = config(
        "dqn", env="loop:Loop-v0", kwargs={"terminates": terminates}, steps=2400, num_envs=2, **QUICK | fields
    )
    _, agent = watched(run_config)
    value = agent.online(torch.ones(1, 1)).max().item()
    assert low <= value <= high


def test_an_agent_comes_back_from_its_state(config):
    agent, other = DQN(config("dqn"), VECTOR, TWO, 0), DQN(config("dqn"), VECTOR, TWO, 1)
    for seed in range(3):
        agent.update(make_batch(seed=seed))
    other.load_state_dict(copy.deepcopy(agent.state_dict()))  # it shares the optimizer's tensors
    for one in (agent, other):
        one.update(make_batch(seed=9))
    assert torch.equal(parameters(agent.online), parameters(other.online))
    assert torch.equal(parameters(agent.target), parameters(other.target))
    assert agent.learner.num_updates == other.learner.num_updates == 4
