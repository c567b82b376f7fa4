"""One run in one, two or three processes: the same episodes, the same parameters to rounding, the same checkpoints.

The processes are threads, so that a test takes a second; tests/faults/test_processes.py starts real ones.
"""

import threading

import numpy as np
import pytest
import torch
from exact import agents_are_close, flat, same
from threads import ThreadGroup, together

from rltrain.algos.registry import module_of
from rltrain.app import ranks
from rltrain.app.resolve import resolve
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import ConfigError, EnvironmentFailure, Stopped
from rltrain.nn import networks
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.run import Run
from rltrain.system import global_random

FIELDS = {
    "ppo": {"num_steps": 32, "batch_size": 48, "num_epochs": 2},
    "a2c": {"num_steps": 8, "normalize_advantage": True},
    "pqn": {"num_steps": 32, "batch_size": 48},
}


@pytest.fixture(autouse=True)
def _one_network_at_a_time(monkeypatch):
    """Threads share torch's generator, from which first weights are drawn; processes do not.

    One thread must not draw from it, nor restore it after an environment's code, while another draws weights.
    """
    monkeypatch.setattr(global_random, "_of_torch", lambda: None)
    lock, build = threading.Lock(), networks.build

    def locked(*args, **kwargs):
        with lock:
            return build(*args, **kwargs)

    monkeypatch.setattr(networks, "build", locked)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train in `size` threads in a folder of this name; returns the folder."""
    monkeypatch.setattr("rltrain.app.resolve.check_runtime", lambda config: config)

    def call(name, algo, size, steps=768, env="CartPole-v1", stop_at=None):
        config = resolve(
            RunConfig(
                ALGOS[algo](num_envs=6, **FIELDS[algo]),
                GymConfig("test", id=env),
                NetworkConfig(hidden_sizes=[16]),
                runtime=TorchrunConfig(check_every_updates=5),
                device="cpu",
                total_steps=768,
                eval_every_steps=384,
                eval_episodes=1,
                final_eval_episodes=1,
                checkpoint_every_steps=192,
                progress=False,
            )
        )
        folder, restored = tmp_path / name, None
        if folder.is_dir():
            restored = checkpoint.load(folder, "last", {saved_config.fingerprint(config)})
        else:
            run_folder.create(config, folder)

        def one(group: ThreadGroup):
            run = Run(config, folder, restored, group=group)
            if stop_at is not None and group.rank == size - 1:
                advance = run.advance

                def signalled(*args):
                    advance(*args)
                    if run.step == stop_at:
                        run._signal = 15

                run.advance = signalled
            try:
                module_of(algo).train(config, run)
                run.conclude()
            except Stopped as error:
                assert error.signal_number == 15
            finally:
                run.close()
                run.logger.close()
            return run

        runs = together(size, one)
        assert len({run.step for run in runs}) == 1 and len({run.statistics.num_episodes for run in runs}) == 1
        return folder

    return call


def episodes(folder):
    return (folder / "episodes.csv").read_text()


def state(folder):
    clocks = {"run/train_time_s", "run/wall_time_s"}
    return {key: value for key, value in flat(checkpoint.read(checkpoint.find(folder))) if key not in clocks}


@pytest.mark.parametrize("algo", ["ppo", "a2c", "pqn"])
def test_one_and_several_processes_play_the_same_episodes_and_learn_the_same(algo, train):
    """Bugs: environments or actions that depend on the number of processes; gradients of one process only."""
    one, two, four = (train(name, algo, size) for name, size in (("one", 1), ("two", 2), ("four", 4)))
    assert episodes(one).count("\n") > 15
    for several in (two, four):
        assert episodes(several) == episodes(one)
        agents_are_close(one, several, rtol=0, atol=1e-5)
        ours, theirs = state(one), state(several)
        assert ours.keys() == theirs.keys()
        for key in ours:
            if key.startswith(("generators", "environments/first", "environments/environments/length_steps")):
                assert same(ours[key], theirs[key]), key
    again = state(train("again", algo, 2))
    assert all(same(value, again[key]) for key, value in state(two).items()), "two by two is bitwise"


def test_processes_with_other_spaces_are_told(train, monkeypatch):
    """Bug: one process scales the actions of its environments to other bounds than the others, without a word."""
    monkeypatch.setattr(Run, "spaces_in_words", property(lambda self: ["pixels", f"{self.group.rank} actions"]))
    with pytest.raises(EnvironmentFailure, match=r"process . has observations pixels and actions . actions, but"):
        train("other", "a2c", 2)


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("seed", (1, 2), "seed is 1 in the process of rank 0 and 2 in that of rank 1"),
        ("algo.gamma", (0.9, 0.99), "algo.gamma is 0.9 "), ("env.kwargs", ({}, {"a": [1]}), "env.kwargs is {} "),
        ("total_steps", (100, 101), "total_steps"), ("dry_run", (False, True), "dry_run"),
        ("runtime.check_every_updates", (1, 0), "runtime.check_every_updates is 1"), ("eval_episodes", (1, 2), "eval_"),
        ("device", ("cuda:0", "cuda:1"), ""), ("seed", (1, 1), ""),
        ("run_dir", ("/home/a/runs", "/home/b/runs"), ""), ("name", ("1", "2"), ""), ("env.workers", (2, 8), ""),
        ("algo", (ALGOS["ppo"](), ALGOS["pqn"]()), "algo.name is ppo in the process of rank 0 and pqn"),
    ],
)  # fmt: skip
def test_processes_with_other_settings_are_told(key, values, said):
    """Bug: with seed=${now:%f} each process had a seed of its own, and no run repeated it."""

    def check(group):
        config = RunConfig(ALGOS["ppo"](), GymConfig("test", id="CartPole-v1"), runtime=TorchrunConfig())
        target, _, name = key.rpartition(".")
        setattr(getattr(config, target) if target else config, name, values[group.rank])
        ranks._require_same_settings(config, group)

    if not said:
        together(2, check)
        return
    with pytest.raises(ConfigError) as refused:
        together(2, check)
    assert said in str(refused.value)


@pytest.mark.parametrize("size", [2, 1, 3])
def test_what_two_processes_saved_any_number_resumes(size, train):
    """Bugs: a checkpoint that holds the environments of rank 0 only, or gives every process the first ones."""
    straight = train("straight", "ppo", 2)
    stopped = train("stopped", "ppo", 2, stop_at=216)  # in the middle of a rollout, which ends at 384
    assert checkpoint.load(stopped)[0] == 384
    resumed = train("stopped", "ppo", size)
    assert episodes(resumed) == episodes(straight)
    agents_are_close(straight, resumed, rtol=0, atol=1e-5)
    if size == 2:
        ours, theirs = state(straight), state(resumed)
        assert [key for key in ours if not same(ours[key], theirs[key])] == []


def test_parameters_that_drift_apart_end_the_run():
    """Bug: a process that silently trains a network of its own."""
    from test_gradients import agent_of  # its rollouts are not needed: only the check

    agents = [agent_of("a2c", False, "fp32") for _ in range(2)]
    with torch.no_grad():
        next(agents[1].network.parameters()).view(-1)[0] += 1e-7

    def check(group):
        agents[group.rank].learner.join(group, 0.5)
        agents[group.rank].learner._check_equal()

    with pytest.raises(Exception, match="rank 1 has other parameters than rank 0"):
        together(2, check)


def test_arrays_and_numbers_arrive_as_they_were_sent():
    values = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": [1.1, None, True], "c": {"d": np.float32(0.1)}}
    for found in together(2, lambda group: group.gather(values)[1]):
        assert same(found["a"], values["a"])
        assert found["b"] == values["b"] and np.float32(found["c"]["d"]) == np.float32(0.1)
