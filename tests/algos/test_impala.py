"""IMPALA: what players saw and did, how far they lag behind, and the update against those of A2C and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from states import differences

from rltrain.algos.parts.actor import Actor
from rltrain.algos.parts.players import LocalFleet, Player, make_actor
from rltrain.app.train import train
from rltrain.buffers.chunk import Trajectories, stacks, successors
from rltrain.config.algorithms import IMPALAConfig
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.envs.pool import TimeStep
from rltrain.envs.stepper import Stepper
from rltrain.errors import ConfigError
from rltrain.fast.accelerate import accelerate
from rltrain.nn import weights as network_weights
from rltrain.run import checkpoint
from rltrain.runtime.share import Share


class Pictures:
    """A pool of random pictures; games end at random, and lives are lost in between."""

    def __init__(self, num_envs: int, stack_num: int) -> None:
        self.num_envs, self.stack_num = num_envs, stack_num
        self.frame_space, self.action_space = spaces.Box(0, 255, (1, 4, 4), np.uint8), spaces.Discrete(3)
        self.random = np.random.default_rng(0)

    def reset(self, seed):
        return self._frames()

    def step(self, action):
        kind = np.where(self.random.random(self.num_envs) < 0.3, self.random.integers(1, 4, self.num_envs), 0)
        next_obs, first, reward = self._frames(), kind >= 2, self.random.random(self.num_envs, np.float32)
        obs = np.where(first[:, None, None, None], self._frames(), next_obs)
        return TimeStep(obs, next_obs, reward, (kind == 1) | (kind == 2), kind == 3, first)

    def _frames(self):
        return self.random.integers(1, 256, (self.num_envs, 1, 4, 4), np.uint8)


def player(stack_num=4, num_steps=6):
    """A player of random pictures, and its configuration."""
    env = GymConfig("pictures", id="Pictures-v0", stack_num=stack_num)
    network = NetworkConfig("impala_cnn")
    config = RunConfig(IMPALAConfig(num_steps=num_steps), env, network, device="cpu", precision="fp32")
    pool = Pictures(3, stack_num)
    policy = make_actor(config, pool.frame_space, pool.action_space, Share(0, 3, 3))
    return Player(policy, pool, num_steps, np.random.default_rng(1), 0), config


@pytest.mark.parametrize("stack_num", [1, 4])
def test_a_chunk_holds_what_was_acted_on_bit_for_bit(stack_num, monkeypatch):
    """Bugs: a frame too many or too few in a chunk; the successor of the wrong step; the log-probabilities of other
    weights than those that were given."""
    saw, ends = [], []
    act, step = Actor.act, Stepper.step

    def seen(self, obs, generator):
        saw.append(obs.numpy().copy())
        return act(self, obs, generator)

    def ended(self, action):
        timestep, next_obs = step(self, action)
        ends.extend(next_obs[timestep.truncated] if next_obs is not None else [])
        return timestep, next_obs

    monkeypatch.setattr(Actor, "act", seen)
    monkeypatch.setattr(Stepper, "step", ended)
    one, config = player(stack_num)
    learning = Actor(config, one.stepper.pool.frame_space, one.stepper.pool.action_space, seed=5)
    weights = network_weights.read(learning.network)
    num_lives = 0
    for version in range(6):
        saw.clear()
        ends.clear()
        chunk = one.play(weights, version)
        obs = stacks(torch.from_numpy(chunk.frame), torch.from_numpy(chunk.first))
        assert obs.numpy().tobytes() == np.stack([*saw, one.stepper.obs]).tobytes()
        assert chunk.frame.shape == (stack_num + 6, 3, 1, 4, 4) and chunk.frame.dtype == np.uint8
        cut = torch.from_numpy(chunk.truncated)
        made = successors(obs[:-1][cut], torch.from_numpy(chunk.last_frame))
        assert len(made) == len(ends) and made.numpy().tobytes() == b"".join(end.tobytes() for end in ends)
        with torch.no_grad():
            expected, _, _ = learning.evaluate(obs[:-1].flatten(0, 1), torch.from_numpy(chunk.action).flatten())
        np.testing.assert_allclose(chunk.log_prob.flatten(), expected.numpy(), atol=1e-6)
        assert chunk.version == version
        num_lives += int((chunk.terminated & ~chunk.first[1:]).sum())
    assert num_lives > 3, "the control: some stacks go on where a life was lost"


def test_weights_are_sent_by_the_networks_order_whatever_the_layout(config):
    """Bug: the flat tensor of a fused network, whose order differs from that of plain modules."""
    run_config, networks = config("impala", env="Pendulum-v1", num_envs=2), []
    for fast in (True, False):
        accelerate(fast)
        space = spaces.Box(-1, 1, (3,), np.float32)
        networks.append(Actor(run_config, space, spaces.Box(-2, 2, (1,), np.float32), seed=int(fast)).network)
    one, other = networks
    weights = network_weights.read(one)
    assert not np.array_equal(weights, network_weights.read(other))
    network_weights.write(other, weights)
    assert differences(one.state_dict(), other.state_dict()) == []
    obs = torch.rand(50, 3)
    with torch.no_grad():
        torch.testing.assert_close(one(obs), other(obs))
    with pytest.raises(ValueError, match="do not fit"):
        network_weights.write(other, weights[1:])


def test_a_local_fleet_lags_by_so_many_updates():
    class Recorder:
        def play(self, weights, version):
            assert weights[0] == version
            return version

    for lag, expected in ((0, [0, 1, 2, 3, 4]), (1, [0, 0, 1, 2, 3]), (3, [0, 0, 0, 0, 1])):
        fleet, played = LocalFleet(Recorder(), lag), []
        for version in range(5):
            fleet.publish(np.full(2, version, np.float32), version)
            played += fleet.chunks()
        assert played == expected


def test_the_lag_is_real_and_is_told(config, watched):
    """Bugs: a player that acts with the learner's own weights; a lag of other length than `policy_lag`."""

    def look(run, agent, parts):
        metrics = agent.learner.metrics()
        if run.config.algo.policy_lag == 0:
            assert metrics["train/clip_fraction"] == 0
        return run.statistics.latest["train/policy_lag"], float(metrics["train/approx_kl"])

    for lag in (0, 3):
        run_config = config("impala", num_envs=4, num_steps=8, steps=320, policy_lag=lag, learning_rate=1e-2)
        seen, _ = watched(run_config, look)
        lags, kls = zip(*seen, strict=True)
        assert lags == tuple(min(lag, update) for update in range(10))
        assert kls[0] < 1e-9
        assert (max(kls) < 1e-9) == (lag == 0)


@pytest.mark.parametrize(
    ("env", "kwargs", "steps"),
    [
        ("CartPole-v1", {}, 630),
        ("loop:Loop-v0", {"counts": True}, 210),
        ("loop:Loop-v0", {"counts": True, "terminates": True}, 210),
    ],
)
def test_without_lag_it_is_a2c(env, kwargs, steps, config, watched):
    """The ratios are 1, so targets and advantages are those of A2C. Bugs: a truncation that does not bootstrap, or not
    from its true successor; the mean over other rows."""
    same = {"env": env, "kwargs": kwargs, "num_envs": 3, "num_steps": 7, "steps": steps, "optimizer": "adam"}

    def trained(algo, **fields):
        _, agent = watched(config(algo, **same, **fields, learning_rate=3e-3, reward_clip=0.7))
        assert agent.learner.num_updates == steps // 21
        return network_weights.read(agent.network)

    a2c = trained("a2c")
    np.testing.assert_allclose(trained("impala", policy_lag=0), a2c, atol=2e-5)
    if steps == 630:
        other = trained("impala", policy_lag=3)
        assert np.abs(other - a2c).max() > 5e-4, "the control: with a lag it is another algorithm"


def by_hand(agent):
    """Two steps of correctness by hand: policy 2/3, 1/3 and value .5 everywhere, so its biases alone have gradients."""
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.zero_()
        agent.network.policy.bias.copy_(torch.tensor([2.0, 1.0]).log())
        agent.network.value.bias.fill_(0.5)
    return Trajectories(
        obs=torch.zeros(3, 1, 4),
        action=torch.tensor([[0], [1]]),
        log_prob=torch.tensor([[1 / 3], [2 / 3]]).log(),  # ratios 2 and .5
        reward=torch.tensor([[1.0], [2.0]]),
        discount=torch.full((2, 1), 0.9),
        trace=torch.ones(2, 1),
        cut_value=torch.zeros(2, 1),
    )


def test_the_gradient_is_the_one_worked_by_hand(config, watched):
    run_config = config("impala", num_envs=1, num_steps=2, steps=2, entropy_weight=0.0, max_grad_norm=1e9)
    _, agent = watched(run_config)
    agent.learner.compute_gradients(agent.loss, by_hand(agent))
    # Errors 1 (1 + .9 * .5 - .5) = .95 and .5 (2 + .9 * .5 - .5) = .975; v_1 = 1.475, v_0 = 1.45 + .9 * .975 = 2.3275.
    # A_1 = .975, A_0 = 1 + .9 * 1.475 - .5 = 1.8275. By the logit of action 0 of -log pi * A: -(1 - 2/3) * 1.8275 and
    # -(0 - 2/3) * .975; mean .0204167. By the value: .5 * mean(.5 - v) = .5 * -1.40125.
    gradients = agent.learner.trained.gradients()
    assert gradients.pop("policy.bias").tolist() == pytest.approx([0.0204167, -0.0204167], rel=1e-4)
    assert gradients.pop("value.bias").tolist() == pytest.approx([-0.700625])
    assert all(gradient.abs().max() == 0 for gradient in gradients.values())
    metrics = agent.learner.metrics()
    assert metrics["train/clip_fraction"].item() == 0.5
    assert metrics["train/value_loss"].item() == pytest.approx((1.8275**2 + 0.975**2) / 4)


def test_gradients_of_some_trajectories_add_up_to_those_of_the_chunk(config, watched):
    weights = []
    for micro_batch_size in (None, 3):
        run_config = config("impala", num_envs=7, num_steps=6, steps=420, learning_rate=1e-3)
        _, agent = watched(replace(run_config, micro_batch_size=micro_batch_size))
        weights.append(network_weights.read(agent.network))
    np.testing.assert_allclose(*weights, atol=1e-5)


def test_a_resumed_run_is_the_one_that_never_stopped(config, tmp_path):
    """Bugs: a resumed player that acts with the learner's own weights; environments or random numbers begun anew."""
    states = []
    for name, stops in (("whole", [240]), ("resumed", [70, 240])):
        for steps in stops:
            restored = checkpoint.load(tmp_path / name) if steps > stops[0] else None
            train(config("impala", num_envs=2, num_steps=5, steps=steps, policy_lag=3), tmp_path / name, restored)
        states.append(checkpoint.load(tmp_path / name)[1])
    whole, resumed = states
    assert whole["fleet"]["versions"] == [21, 22, 23, 24]
    for part in ("agent", "fleet", "environments", "generators"):
        assert differences(whole[part], resumed[part]) == []
    assert (tmp_path / "whole/episodes.csv").read_text() == (tmp_path / "resumed/episodes.csv").read_text()


def test_published_weights_that_do_not_fit_are_refused():
    one, _ = player()
    weights = np.zeros((2, len(network_weights.read(one.policy.network))), np.float32)
    LocalFleet(one, 3).load_state_dict({"versions": [4, 5], "weights": weights})
    for versions, rows in (([4, 5], weights[:, 1:]), ([], weights[:0]), ([4], weights), ([4] * 5, weights[[0] * 5])):
        with pytest.raises(ValueError):
            LocalFleet(one, 3).load_state_dict({"versions": versions, "weights": rows})


def test_a_clip_of_c_above_that_of_rho_is_refused():
    """The paper's assumption: otherwise later errors count more than the values they belong to."""
    with pytest.raises(ConfigError, match="larger than"):
        IMPALAConfig(rho_clip=1.0, c_clip=1.5)
