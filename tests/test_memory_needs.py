"""Runs that cannot fit are refused before anything is taken, with the command that would fit."""

import re

import pytest

from rltrain.app import memory_needs
from rltrain.system import ram as host_memory


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["algo=dqn", "env=doom", "algo.replay_capacity=1e9"], "algo.replay_capacity"),
        (["algo=per_dqn", "env=cartpole", "algo.replay_capacity=1e10"], "algo.replay_capacity"),
        (["algo=ppo", "env=doom", "algo.num_steps=1e8"], "algo.num_steps"),
    ],
)
def test_what_needs_more_memory_than_there_is_ends_with_code_6_and_what_fits(args, key, command):
    outcome = command(*args, "dry_run=true", "progress=false")
    assert outcome.code == 6, outcome.err
    assert not outcome.run_dir.exists()
    what = re.fullmatch(rf".*needs ([\d.]+) GB and ([\d.]+) GB are free; {key}.*; use {key}=(\d+)", outcome.last_line)
    assert what, outcome.last_line
    assert float(what[1]) > float(what[2])


def test_what_is_suggested_fits(command, monkeypatch):
    monkeypatch.setattr(host_memory, "free_bytes", lambda: 20_000_000)
    monkeypatch.setattr(memory_needs, "free_bytes", lambda: 20_000_000)
    args = ["algo=dqn", "env=doom", "dry_run=true", "progress=false", "num_envs=1"]
    refused = command(*args, "algo.replay_capacity=1e5")
    assert refused.code == 6
    fitting = refused.last_line.rpartition("use ")[2]
    assert command(*args, fitting).code == 0


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(host_memory, "_CGROUP", tmp_path)
    without = host_memory.free_bytes()
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert host_memory.free_bytes() == 2_500_000 < without
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory.free_bytes() > 2_500_000
