"""REINFORCE: whole episodes and nothing else, the gradient that theory gives, and a stop in the middle of a batch."""

import os
import signal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from states import differences

from rltrain.algos import reinforce
from rltrain.algos.reinforce import Reinforce, play_batch
from rltrain.app.train import train
from rltrain.buffers.rollout import ReturnBatch
from rltrain.errors import Stopped
from rltrain.run import checkpoint
from rltrain.run.run import Run

VECTOR, TWO = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)


@pytest.fixture
def played(config, tmp_path, monkeypatch):
    """One batch, its run and its pool's share of steps."""
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "envs"))

    def call(env, seed=0, **fields):
        run_config = config("reinforce", env=env, **fields)
        run = Run(run_config, tmp_path, None)
        try:
            agent = Reinforce(run_config, *run.spaces, 0)
            return play_batch(agent.actor, run, run_config.algo, run.generator("actions"), seed), run, agent
        finally:
            run.close()
            run.logger.close()

    return call


def test_the_gradient_of_a_two_armed_bandit_is_the_analytic_one_and_a_baseline_lowers_its_variance(config):
    # pi(right) = p; rewards 1 and 3: the loss's gradient by the logit of right is -p (1 - p) (3 - 1).
    logit, rewards, num_samples = 0.4, np.array([1.0, 3.0]), 100_000
    p = 1 / (1 + np.exp(-logit))
    analytic = -p * (1 - p) * (rewards[1] - rewards[0])
    deviations = []
    for baseline in (False, True):
        run_config = config(
            "reinforce", baseline=baseline, normalize_advantage=False, max_grad_norm=1e9, optimizer="rmsprop",
            learning_rate=1e-9, gamma=1.0,
        )  # fmt: skip
        agent = Reinforce(run_config, VECTOR, TWO, 0)
        network = agent.actor.network
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.policy.bias[1] = logit
            if baseline:
                network.value.bias.fill_(p * rewards[1] + (1 - p) * rewards[0])
        obs = torch.zeros(num_samples, 1)
        action = agent.actor.act(obs, np.random.default_rng(0))[0].clone()
        returns = torch.from_numpy(rewards.astype(np.float32))[action]
        agent.update(ReturnBatch(obs, action, returns))
        # By hand, sample by sample: -(1[right] - p) (G - b).
        b = p * rewards[1] + (1 - p) * rewards[0] if baseline else 0.0
        each = -((action.numpy() == 1) - p) * (returns.numpy() - b)
        error = each.std() / np.sqrt(num_samples)
        mean = agent.learner.trained.gradients()["policy.bias"][1].item()
        assert mean == pytest.approx(each.mean(), rel=1e-4)
        assert abs(mean - analytic) < 3 * error
        assert error < 0.01 * abs(analytic), "the control: three errors are a narrow band"
        deviations.append(each.std())
    assert deviations[1] < 0.5 * deviations[0]


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("num_samples", [2, 1000])
def test_a_batch_of_equal_returns_stays_finite_and_moves_nothing(num_samples, baseline, config):
    agent = Reinforce(config("reinforce", baseline=baseline, value_weight=0.0), VECTOR, TWO, 0)
    before = [parameter.clone() for parameter in agent.actor.network.parameters()]
    # 100.1 is no binary fraction: the mean of a thousand differs from it in its last digit.
    agent.update(
        ReturnBatch(torch.zeros(num_samples, 1), torch.zeros(num_samples).long(), torch.full((num_samples,), 100.1))
    )
    assert agent.learner.metrics()["train/grad_norm"] < 1e-6
    for old, new in zip(before, agent.actor.network.parameters(), strict=True):
        assert new.isfinite().all()
        assert torch.allclose(old, new, atol=1e-6)


@pytest.mark.parametrize("baseline", [False, True])
def test_a_batch_of_one_step_is_learned_from(baseline, config):
    """Bug: the return of a single step normalised to 0."""
    agent = Reinforce(config("reinforce", baseline=baseline, value_weight=0.0), VECTOR, TWO, 0)
    agent.update(ReturnBatch(torch.zeros(1, 1), torch.zeros(1).long(), torch.full((1,), 5.0)))
    assert agent.learner.metrics()["train/grad_norm"] > 1


def test_the_gradient_is_the_one_worked_by_hand(config):
    """Bugs: the entropy punished, a weight that nothing reads, a baseline that learns from its own advantage."""
    fields = {"normalize_advantage": False, "value_weight": 0.5, "entropy_weight": 0.1, "max_grad_norm": 1e9}
    agent = Reinforce(config("reinforce", baseline=True, **fields), VECTOR, TWO, 0)
    network = agent.actor.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.policy.bias.copy_(torch.tensor([1.0, 3.0]).log())
        network.value.bias.fill_(1.0)
    agent.update(ReturnBatch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([2.25, 2.5])))
    # By the logit of action 0: -(1 - 1/4) * 1.25 and -(0 - 1/4) * 1.5, mean -.28125; the entropy's -.1 * .2059898.
    gradients = agent.learner.trained.gradients()
    assert gradients["policy.bias"].tolist() == pytest.approx([-0.3018490, 0.3018490], rel=1e-5)
    assert gradients["value.bias"].tolist() == pytest.approx([-0.6875])  # .5 * mean(1 - G)


def test_scaled_and_clipped_rewards_are_learned_from_and_raw_ones_reported(played):
    fields = {"kwargs": {"reward": 3.0}, "num_envs": 1, "batch_size": 16, "gamma": 0.0}
    for more, learned in (({}, 3.0), ({"reward_scale": 0.5}, 1.5), ({"reward_scale": 0.5, "reward_clip": 1.0}, 1.0)):
        batch, run, _ = played("loop:Loop-v0", **fields, **more)
        assert batch.returns.unique().tolist() == [learned]
        assert set(run.statistics.recent) == {(24.0, 8)}


def test_a_learned_baseline_is_subtracted(config):
    agent = Reinforce(config("reinforce", baseline=True, normalize_advantage=False), VECTOR, TWO, 0)
    obs, action = torch.tensor([[0.5], [-0.5]]), torch.tensor([0, 1])
    returns = agent.actor.value(obs.numpy()).clone()
    agent.update(ReturnBatch(obs, action, returns))
    metrics = agent.learner.metrics()
    assert metrics["train/policy_gradient_loss"] == pytest.approx(0, abs=1e-6)
    assert metrics["train/value_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_a_batch_is_whole_episodes_each_once_and_none_after_an_environments_share(num_envs, played, monkeypatch):
    finished, advance = [[] for _ in range(num_envs)], Run.advance

    def note(self, num_steps, episodes):
        for episode in episodes:
            finished[episode.env_index].append(episode.length_steps)
        advance(self, num_steps, episodes)

    monkeypatch.setattr(Run, "advance", note)
    batch, run, _ = played("counter:Counter-v0", num_envs=num_envs, batch_size=600, gamma=1.0)
    share = -(-600 // num_envs)
    steps = batch.obs.long().numpy()
    assert 600 <= len(steps) <= run.step
    taken = 0
    # Environments differ by what their episodes were: split the rows by where (episode 0, t 0) begins them.
    pool_rows = rows_of_each(batch, num_envs)
    for lengths, rows in zip(finished, pool_rows, strict=True):
        episode, t = steps[rows].T
        assert (episode[0], t[0]) == (0, 0)
        begins = np.flatnonzero(t == 0)
        assert np.array_equal(episode[begins], np.arange(len(begins))), "in order, each once, none left out"
        follow = np.flatnonzero(t != 0)
        assert np.array_equal(t[follow], t[follow - 1] + 1)
        assert np.array_equal(episode[follow], episode[follow - 1])
        # Reward t + 1 in each step: the return is the sum of what is left of this very episode.
        ends = np.append(begins[1:], len(rows))
        assert (ends - begins).tolist() == lengths[: len(begins)], "the last one too is played to its end"
        for begin, end in zip(begins, ends, strict=True):
            rewards = t[begin:end] + 1
            assert batch.returns[rows[begin:end]].tolist() == pytest.approx(np.cumsum(rewards[::-1])[::-1])
        assert len(rows) >= share
        assert begins[-1] < share, "the last episode began before the share was done"
        taken += len(rows)
    assert taken == len(steps)


def rows_of_each(batch, num_envs):
    """The rows of each environment: a batch is ordered by time, then environment, and one that is done drops out."""
    obs = batch.obs.long().numpy()
    last = {}
    rows = [[] for _ in range(num_envs)]
    row = 0
    active = list(range(num_envs))
    while row < len(obs):
        still = []
        for env in active:
            if row == len(obs):
                break
            seen = tuple(obs[row])
            follows = env not in last or seen in ((last[env][0], last[env][1] + 1), (last[env][0] + 1, 0))
            if follows:
                rows[env].append(row)
                last[env] = seen
                still.append(env)
                row += 1
        active = still
    return [np.array(part) for part in rows]


@pytest.mark.parametrize("baseline", [False, True])
def test_a_time_limit_is_bootstrapped_with_a_baseline_and_never_joined_to_the_next_episode(baseline, played):
    batch, _, agent = played(
        "loop:Loop-v0", kwargs={"counts": True}, num_envs=1, batch_size=16, gamma=0.5, baseline=baseline
    )
    assert batch.obs.flatten().tolist() == [*range(8), *range(8)]
    beyond = agent.actor.value(np.full((1, 1), 8, np.float32)).item() if baseline else 0.0
    assert not baseline or abs(beyond) > 1e-3, "the control: there is something to bootstrap from"
    wanted = [2 - 0.5 ** (7 - t) + 0.5 ** (8 - t) * beyond for t in range(8)]
    assert batch.returns.tolist() == pytest.approx(wanted * 2)


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 45, 51), (True, 1, 7.47)])
def test_the_baseline_of_an_endless_loop_is_its_value(terminates, low, high, config, watched):
    run_config = config(
        "reinforce", env="loop:Loop-v0", kwargs={"terminates": terminates}, num_envs=4, batch_size=32, gamma=0.98,
        baseline=True, learning_rate=2e-2, max_grad_norm=1e3, steps=6400,
    )  # fmt: skip
    _, agent = watched(run_config)
    assert low <= agent.actor.value(np.ones((1, 1), np.float32)).item() <= high


def test_a_stop_in_the_middle_of_a_batch_gives_it_up_and_a_resumed_run_plays_it_again(config, tmp_path, monkeypatch):
    run_config = config("reinforce", num_envs=2, batch_size=200, steps=2000)
    train(run_config, tmp_path / "whole")

    steps, advance = [0], Run.advance

    def stop_later(self, num_steps, episodes):
        advance(self, num_steps, episodes)
        steps[0] += 1
        if steps[0] == 450:
            self.on_signal(signal.SIGTERM, None)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Run, "advance", stop_later)
        train(run_config, tmp_path / "stopped")
    assert steps == [450], "the control: it stopped at once"
    step, state = checkpoint.load(tmp_path / "stopped")
    assert 0 < step < 900 - 2, "the control: in the middle of a batch"
    train(run_config, tmp_path / "stopped", (step, state))
    (_, whole), (_, resumed) = (checkpoint.load(tmp_path / name) for name in ("whole", "stopped"))
    for state in (whole, resumed):
        state["run"] = {name: state["run"][name] for name in ("num_episodes", "recent")}
    assert differences(whole, resumed) == []
    assert (tmp_path / "whole" / "episodes.csv").read_text() == (tmp_path / "stopped" / "episodes.csv").read_text()


def test_gradients_of_small_parts_add_up_to_those_of_the_batch(config):
    rng = np.random.default_rng(0)
    batch = ReturnBatch(
        torch.from_numpy(rng.standard_normal((50, 1)).astype(np.float32)),
        torch.from_numpy(rng.integers(2, size=50)),
        torch.from_numpy(rng.standard_normal(50).astype(np.float32)),
    )
    gradients = []
    for micro_batch_size in (None, 7):
        run_config = config("reinforce", baseline=True, entropy_weight=0.01)
        run_config.micro_batch_size = micro_batch_size
        agent = reinforce.make_agent(run_config, VECTOR, TWO, 0)
        agent.update(batch)
        metrics = agent.learner.metrics()
        parts = [gradient.flatten() for gradient in agent.learner.trained.gradients().values()]
        gradients.append(torch.cat([metrics["train/loss"][None], *parts]))
    assert gradients[0].abs().max() > 0.01
    assert torch.allclose(*gradients, atol=1e-6)
