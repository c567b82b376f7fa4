"""Players elsewhere: the order of their chunks, which are dropped, and Ape-X. A small stand-in takes Ray's place."""

import pickle
import sys
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.algos.parts import ray_fleet
from rltrain.algos.parts.ape_x import ApexPolicy, epsilon_ladder
from rltrain.algos.parts.ray_fleet import RayFleet
from rltrain.buffers.chunk import Chunk
from rltrain.config.algorithms import DQNConfig, IMPALAConfig
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RayConfig
from rltrain.envs.workers.process import Failure
from rltrain.errors import ConfigError, EnvironmentFailure, NonFiniteError
from rltrain.runtime import ray_cluster
from rltrain.runtime.share import Share


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Ray:
    """A stand-in whose actors play at once, and whose chunks arrive when a test says so."""

    def __init__(self):
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.arrived, self.answers, self.killed, self.num_puts, self.handles = deque(), {}, [], 0, []

    cloudpickle = pickle

    def remote(self, **options):
        return lambda cls: SimpleNamespace(remote=self._actor)

    def _actor(self, make):
        _, _, _, share, (_, seed), *_ = make.args
        handle = SimpleNamespace(share=share, seed=seed, count=0)

        def play(reference, version):
            name = f"{share.first}-{handle.count}-{seed}"
            handle.count += 1
            rows = np.zeros((1, share.count))
            episodes = [[] for _ in rows]
            self.answers[name] = Chunk(
                version, share.first, rows, rows, rows, rows, rows, rows, rows > 0, rows[:0], episodes, 0.0
            )
            return name

        handle.play, handle.close = SimpleNamespace(remote=play), SimpleNamespace(remote=lambda: "closed")
        self.handles.append(handle)
        return handle

    def put(self, weights):
        self.num_puts += 1
        return "weights"

    def wait(self, references, num_returns, timeout):
        done = [each for each in references if each in self.arrived][:num_returns]
        return done, [each for each in references if each not in done]

    def get(self, reference):
        answer = self.answers[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, reference):
        pass

    def kill(self, handle):
        self.killed.append(handle)


@pytest.fixture
def made(monkeypatch):
    """Make a fleet of the stand-in; returns both."""
    monkeypatch.setattr(ray_cluster, "connect", lambda address, num_cpus, key: lambda: None)
    monkeypatch.setattr(ray_fleet, "_WAIT_S", 0.0)

    def make(drops=True, stopping=False, **settings):
        ray, runtime = Ray(), RayConfig(**settings)
        monkeypatch.setitem(sys.modules, "ray", ray)
        env = GymConfig("cartpole", id="CartPole-v1")
        algo = IMPALAConfig(num_envs=4)
        config = RunConfig(algo, env, NetworkConfig("mlp"), device="cpu", runtime=runtime)
        fleet = RayFleet(config, None, 20, 7, 7, lambda: stopping, drops, None)
        fleet.publish(np.zeros(3, np.float32), 0)
        return fleet, ray

    return make


def some(fleet):
    """The chunks of a few calls: the stand-in does not let a call wait."""
    return [chunk for _ in range(4) for chunk in fleet.chunks()]


def taken(chunks):
    return [(chunk.first_env, chunk.version) for chunk in chunks]


def test_chunks_of_one_actor_keep_their_order_and_others_do_not_wait(made):
    """Bugs: an actor's second chunk before its first, whose episodes it continues; one slow actor that holds all."""
    fleet, ray = made(drops=False)
    assert fleet.chunks() == []
    ray.arrived += ["2-1-7"]  # the second one of the second actor
    assert fleet.chunks() == []
    ray.arrived += ["2-0-7"]
    assert taken(fleet.chunks()) == [(2, 0)]
    fleet.publish(np.zeros(3, np.float32), 1)
    assert taken(fleet.chunks()) == [(2, 0)]
    ray.arrived += ["2-2-7", "2-3-7"]  # asked for after the first two
    assert taken(some(fleet)) == [(2, 1), (2, 1)]
    assert ray.handles[0].count == 2, "the slow one has two in flight, still"
    assert fleet.metrics["runtime/actors"] == 1


def test_an_update_takes_the_chunks_of_num_envs_environments(made):
    fleet, ray = made()
    assert fleet.chunks() == []
    ray.arrived += ["0-0-7"]
    assert fleet.chunks() == []
    ray.arrived += ["0-1-7"]
    found = some(fleet)
    assert taken(found) == [(0, 0), (0, 0)] and sum(chunk.num_envs for chunk in found) == 4
    assert found[0].frame.flags.writeable


def test_old_chunks_are_dropped_and_counted(made):
    fleet, ray = made(max_lag=3)
    assert fleet.chunks() == []
    for version in range(1, 5):
        fleet.publish(np.zeros(3, np.float32), version)
    ray.arrived += ["0-0-7", "2-0-7"]
    assert fleet.chunks() == []
    assert fleet.metrics["runtime/chunks_dropped"] == 2 and fleet.metrics["runtime/lag_versions"] == 0
    ray.arrived += ["0-2-7", "2-2-7", "0-1-7", "2-1-7"]  # of the old weights, and of the newest
    assert taken(some(fleet)) == [(0, 4), (2, 4)]
    assert fleet.metrics["runtime/chunks_dropped"] == 4
    whole, ray = made(drops=False, max_lag=1)
    assert whole.chunks() == []
    for version in range(1, 9):
        whole.publish(np.zeros(3, np.float32), version)
    ray.arrived += ["0-0-7"]
    assert taken(whole.chunks()) == [(0, 0)] and whole.metrics["runtime/lag_versions"] == 8


def test_weights_are_sent_once_a_version_and_not_too_often(made, monkeypatch):
    fleet, ray = made()
    now_s = [100.0]
    monkeypatch.setattr(ray_fleet.time, "monotonic", lambda: now_s[0])
    fleet, ray = made(publish_every_s=10)
    ray.num_puts = 0
    fleet.chunks()
    assert ray.num_puts == 1
    for version, after_s, puts in ((1, 5, 1), (2, 4, 1), (3, 2, 2)):
        fleet.publish(np.zeros(3, np.float32), version)
        now_s[0] += after_s
        ray.arrived += [f"{first}-{version - 1}-7" for first in (0, 2)]
        assert len(some(fleet)) == 2
        assert ray.num_puts == puts


def test_a_lost_actor_is_replaced_with_other_episodes_up_to_a_number_of_times(made, capsys):
    """Bugs: the same seed, so the same episodes again; chunks of the lost actor that are still waited for."""
    fleet, ray = made(drops=False, max_restarts=1)
    fleet.chunks()
    ray.answers["2-0-7"] = RayError(
        "gone\n\tpid: 12\n\tip: 10.0.0.1\nThe actor is dead because its node has died. Many words."
    )
    ray.arrived += ["2-0-7"]
    assert fleet.chunks() == []
    assert (
        "actor 1 is lost: The actor is dead because its node has died (process 12 on 10.0.0.1); it is replaced (1 of 1)"
        in capsys.readouterr().err
    )
    assert len(ray.handles) == 3 and ray.handles[2].share == Share(2, 2, 4) and ray.handles[2].seed != 7
    assert fleet.metrics["runtime/restarts"] == 1
    fleet.chunks()
    name = f"2-0-{ray.handles[2].seed}"
    ray.arrived += [name]
    assert taken(fleet.chunks()) == [(2, 0)]
    ray.answers["0-0-7"] = RayError("gone")
    ray.arrived += ["0-0-7"]
    with pytest.raises(EnvironmentFailure, match="actor 0 is lost: gone, and 1 actors were replaced already"):
        fleet.chunks()
    stopping, ray = made(drops=False, max_restarts=0, stopping=True)
    stopping.chunks()
    ray.answers["0-0-7"] = RayError("gone")
    ray.arrived += ["0-0-7"]
    assert stopping.chunks() == [], "the signal has reached the actors, too"


def test_an_error_of_a_player_is_raised_as_in_a_plain_run(made):
    fleet, ray = made()
    fleet.chunks()
    ray.answers["0-0-7"] = Failure(5, "the reward is not finite", "environment 1", "mend it", "trace", True)
    ray.arrived += ["0-0-7"]
    with pytest.raises(NonFiniteError, match="the reward is not finite; environment 1; mend it"):
        fleet.chunks()


def test_the_ladder_is_that_of_the_paper():
    np.testing.assert_allclose(epsilon_ladder(8), [0.4**power for power in range(1, 9)])
    assert epsilon_ladder(1) == 0.4
    np.testing.assert_allclose(epsilon_ladder(2), [0.4, 0.4**8])


def test_each_environment_explores_with_its_own_epsilon():
    """Bugs: the epsilons of another actor's environments; probabilities of other actions than those taken."""
    config = RunConfig(DQNConfig(num_envs=8), GymConfig("c", id="C-v0"), NetworkConfig("mlp"), device="cpu")
    policy = ApexPolicy(config, spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(5), Share(0, 4, 8))
    obs, generator = torch.rand(4, 4), np.random.default_rng(0)
    taken, q = [], policy.network(obs).detach()
    for _ in range(4000):
        action, values, _ = policy.act(obs, generator)
        taken.append(action)
    torch.testing.assert_close(values, q)
    explored = (torch.stack(taken) != q.argmax(dim=1)).float().mean(dim=0)
    np.testing.assert_allclose(explored, 0.8 * epsilon_ladder(8)[:4], atol=0.02)
    total = sum(policy.log_prob(q.repeat(3, 1), torch.full((12,), action)).exp() for action in range(5))
    torch.testing.assert_close(total, torch.ones(12))
    assert policy.log_prob(q, q.argmax(dim=1)).exp()[1].item() == pytest.approx(1 - 0.8 * 0.16)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"actors": 0}, "runtime.actors"),
        ({"chunks_in_flight": 0}, "runtime.chunks_in_flight"),
        ({"max_lag": 0}, "runtime.max_lag"),
        ({"cpus_per_actor": 0}, "runtime.cpus_per_actor"),
        ({"cpus_per_actor": 1.5}, "runtime.cpus_per_actor"),
        ({"publish_every_s": -1}, "runtime.publish_every_s"),
        ({"max_restarts": -1}, "runtime.max_restarts"),
        ({"address": "node1"}, "runtime.address"),
        ({"address": "ray://node1:10001"}, "runtime.address"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        RayConfig(**settings)
