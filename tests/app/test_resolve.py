"""Runs that cannot fit are refused before anything is taken, with the command that would fit."""

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.app import train
from rltrain.app.resolve import resolve
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.buffers.replay import Replay
from rltrain.config.algorithms import DQNConfig
from rltrain.config.environments import DoomConfig
from rltrain.config.network import NetworkConfig, mlp_parameters
from rltrain.config.run import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.system import ram


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["algo=dqn", "env=doom", "algo.replay_capacity=1e9"], "algo.replay_capacity"),
        (["algo=per_dqn", "env=cartpole", "algo.replay_capacity=1e10"], "algo.replay_capacity"),
        (["algo=ppo", "env=doom", "algo.num_steps=1e8"], "algo.num_steps"),
        (["algo=ppo", "env=cartpole", "algo.num_steps=1e15", "batch_size=7"], "algo.num_steps"),
        (["algo=reinforce", "env=cartpole", "batch_size=1e12"], "batch_size"),
    ],
)
def test_what_needs_more_memory_than_there_is_ends_with_code_6_and_what_fits(args, key, command):
    outcome = command(*args, "dry_run=true", "progress=false", "device=cpu")
    assert outcome.code == 6, outcome.err
    assert not outcome.run_dir.exists()
    what = re.fullmatch(rf".*needs ([\d.]+) GB but ([\d.]+) GB are free; {key}; use {key}=(\d+)", outcome.last_line)
    assert what, outcome.last_line
    assert float(what[1]) > float(what[2])


@pytest.mark.parametrize(("algo", "env"), [("ppo", "cartpole"), ("dqn", "taxi")])
def test_a_network_that_cannot_fit_is_refused_before_it_is_made(algo, env, command):
    """Bugs: a layer of a billion units hung where no signal is answered; another one was told to use fewer
    environments."""
    refused = command(f"algo={algo}", f"env={env}", "network.hidden_sizes=[1e8,1e8]", "device=cpu")
    assert refused.code == 6, refused.err
    assert "; network.hidden_sizes; use smaller layers: network.hidden_sizes=[64,64]" in refused.last_line
    assert not refused.run_dir.exists()
    num_inputs = {"cartpole": 4, "taxi": 500}[env]
    assert mlp_parameters(NetworkConfig(hidden_sizes=[16, 8]), num_inputs) == (num_inputs + 1) * 16 + 17 * 8
    config = RunConfig(DQNConfig(), DoomConfig("doom", "doom"), NetworkConfig("mlp", [20_000]))
    assert train._smaller(config, host=True)[0] == "network.hidden_sizes", "one that only just did not fit"


def test_what_is_suggested_fits(command, monkeypatch):
    monkeypatch.setattr(ram, "free_bytes", lambda: 20_000_000)
    args = ["algo=dqn", "env=doom", "dry_run=true", "progress=false", "num_envs=1", "device=cpu"]
    refused = command(*args, "algo.replay_capacity=1e5")
    assert refused.code == 6
    fitting = refused.last_line.rpartition("use ")[2]
    assert command(*args, fitting).code == 0


@pytest.mark.parametrize("prioritized", [False, True])
def test_the_estimate_is_what_a_replay_takes(prioritized):
    """Bug: an array added to the replay and not to the estimate, which the settings make without NumPy."""
    space, settings = spaces.Box(0, 255, (1, 60, 80), np.uint8), DQNConfig(prioritized=prioritized)
    need = settings.memory(space, 4, frames_on_device=False)
    replay = Replay(100_000, 1, space.shape, space.dtype, (), np.int64, 4, 1, 0.99, np.random.default_rng(0))
    held = PrioritizedReplay(replay, 0.6, 0.4).nbytes if prioritized else replay.nbytes
    assert held <= need.num_bytes < 1.01 * held
    assert need.num_bytes / need.bytes_per_unit == settings.replay_capacity


GB = 10**9
FRAMES_BYTES = 1_000_000 * 60 * 80
"""4.8 GB; what else the replay holds is 16 MB."""


@pytest.fixture
def resolved(monkeypatch):
    """Resolve DQN on Doom with a replay of a million frames, on a machine with so much memory."""

    def call(ram_bytes, cuda_bytes=None, device="auto", replay_device="auto"):
        monkeypatch.setattr(ram, "free_bytes", lambda: ram_bytes)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda_bytes is not None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (cuda_bytes, cuda_bytes))
        algo = DQNConfig(replay_capacity=1_000_000, replay_device=replay_device)
        return resolve(RunConfig(algo, DoomConfig("doom", "doom"), NetworkConfig("small_cnn"), device=device))

    return call


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
@pytest.mark.parametrize("replay_device", ["auto", "device"])
def test_frames_in_a_gpus_memory_need_none_of_the_computers(device, replay_device, resolved):
    """Bug: a replay that lies on the GPU refused, as the computer has less memory than the GPU."""
    assert resolved(GB, 40 * GB, device, replay_device).algo.replay_capacity == 1_000_000


@pytest.mark.parametrize(
    ("cuda_bytes", "device", "replay_device"),
    [
        (None, "auto", "auto"),  # no GPU
        (None, "auto", "device"),  # the device is the processor
        (40 * GB, "cpu", "auto"),  # a GPU that is not used
        (40 * GB, "cpu", "device"),
        (40 * GB, "auto", "cpu"),  # frames kept away from it
        (FRAMES_BYTES, "auto", "auto"),  # a GPU with less room than networks want to have left
    ],
)
def test_frames_that_stay_in_the_computers_memory_are_counted(cuda_bytes, device, replay_device, resolved):
    with pytest.raises(OutOfMemory, match=r"needs 4\.82 GB but 1\.00 GB are free") as caught:
        resolved(GB, cuda_bytes, device, replay_device)
    assert caught.value.where == "algo.replay_capacity"
    suggested = int(caught.value.fix.partition("=")[2])
    assert 180_000 < suggested < GB / 4800


def test_what_lies_beside_the_frames_is_counted_with_a_gpu_too(resolved):
    with pytest.raises(OutOfMemory, match=r"needs 0\.02 GB but 0\.01 GB are free"):
        resolved(GB // 100, 40 * GB)


def test_frames_that_were_sent_to_a_gpu_without_room_are_refused(resolved):
    with pytest.raises(OutOfMemory, match=r"4\.80 GB on the device, and 1\.00 GB are free") as caught:
        resolved(GB, GB, replay_device="device")
    assert caught.value.where == "algo.replay_device"
