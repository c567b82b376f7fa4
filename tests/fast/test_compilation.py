"""`compile=true`: the same learning to a tolerance, checkpoints of the same names, the time told, and no compiler."""

import json
import os

import numpy as np
import pytest
import torch
from exact import flat
from small_runs import small

from rltrain.errors import ConfigError
from rltrain.fast import compilation
from rltrain.run import checkpoint

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("algo", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_a_compiled_run_learns_what_a_plain_one_does_and_its_checkpoint_fits_there(algo, command):
    args = [*small(algo, "cartpole"), "total_steps=128", "log_every_steps=64", "eval_every_steps=0"]
    folders = []
    for key in ("compile=false", "compile=true"):
        outcome = command(*args, key)
        assert outcome.code == 0, outcome.err
        folders.append(outcome.folder)
    plain, run = folders
    theirs, ours = (dict(flat(checkpoint.read(checkpoint.find(folder))["agent"])) for folder in folders)
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        if isinstance(value, torch.Tensor | np.ndarray):
            np.testing.assert_allclose(np.asarray(ours[path]), np.asarray(value), 1e-3, 1e-5, err_msg=path)
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = {line["time/compile_s"] for line in logged if "time/compile_s" in line}
    assert len(told) == 1 and 0.1 < told.pop() < 600
    assert "time/compile_s" not in (plain / "metrics.jsonl").read_text()
    resumed = command("resume", run, "total_steps=192", "progress=false")
    assert resumed.code == 0, resumed.err
    assert command("eval", run, "episodes=1").code == 0


@pytest.mark.parametrize("algo", ["a3c", "q_learning"])
def test_what_has_nothing_to_compile_says_so(algo, command):
    outcome = command(f"algo={algo}", "env=taxi" if algo == "q_learning" else "env=cartpole", "compile=true")
    assert outcome.code == 2 and f"compile is not supported by {algo}; compile; use compile=false" in outcome.last_line
    assert not outcome.run_dir.exists()


def test_no_compiler_is_told_before_anything_is_taken(command, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    outcome = command(*small("ppo", "cartpole"), "compile=true")
    assert outcome.code == 2, outcome.err
    said = "torch.compile finds no g++ or clang++; compile; install one of them, or use compile=false"
    assert said in outcome.last_line
    assert not outcome.run_dir.exists()


def test_a_gpu_needs_triton_and_a_compiler_of_c(monkeypatch):
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Triton"):
        compilation.require_compiler(CUDA)
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: name)
    compilation.require_compiler(CUDA)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ConfigError, match="finds no gcc or clang"):
        compilation.require_compiler(CUDA)
