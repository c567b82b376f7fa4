"""Memory that runs out, simulated where the network computes: code 6 with what fits, or smaller parts."""

import re

import pytest
import torch
from small_runs import small

from rltrain.nn import optimizers
from rltrain.nn.networks import Torso
from rltrain.run import checkpoint

pytestmark = pytest.mark.faults
ALGOS = ["ppo", "a2c", "reinforce", "pqn", "dqn", "d3qn_per"]
STEPS = {"reinforce": 300, "dqn": 130, "d3qn_per": 130}
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 5.56 MiB is free."
)


@pytest.fixture
def memory(monkeypatch):
    """Networks compute so many samples at once and no more."""
    flat = Torso.flat

    def limit(num_samples, with_gradients):
        def limited(self, obs):
            if torch.is_grad_enabled() == with_gradients and len(obs) > num_samples:
                raise torch.OutOfMemoryError(CUDA)
            return flat(self, obs)

        monkeypatch.setattr(Torso, "flat", limited)

    return limit


@pytest.fixture
def gradients(monkeypatch):
    """The whole gradient before every optimizer step."""
    seen, clip = [], optimizers.clip_gradients

    def watched(trained, *args):
        seen.append(torch.cat([gradient.flatten() for gradient in trained.gradients().values()]))
        return clip(trained, *args)

    watched.plain = clip.plain  # which the twin calls
    monkeypatch.setattr(optimizers, "clip_gradients", watched)
    return seen


def arguments(algo, attempt, *more):
    args = [*small(algo, "cartpole"), f"seed={attempt}", f"total_steps={STEPS.get(algo, 128)}", "precision=fp32"]
    return [*args, "eval_every_steps=0", "checkpoint_every_steps=0", *more]


def tensors(state, path=""):
    """Every tensor of a nested state by its path."""
    if isinstance(state, dict):
        return {key: value for name in state for key, value in tensors(state[name], f"{path}/{name}").items()}
    return {path: torch.as_tensor(state)} if isinstance(state, torch.Tensor) else {}


@pytest.mark.tries(4)
@pytest.mark.parametrize("algo", ALGOS)
def test_split_goes_on_with_the_same_mathematics(attempt, algo, command, memory, gradients):
    """Bugs: an optimizer step on half of a batch; the parts before the shortage counted twice; random numbers drawn
    again; advantages normalised in each part; td errors of the wrong rows as priorities."""
    assert command(*arguments(algo, attempt)).code == 0
    whole = gradients.copy()
    gradients.clear()
    memory(3 + attempt % 4, with_gradients=True)
    outcome = command(*arguments(algo, attempt, "oom=split"))
    assert outcome.code == 0, outcome.err
    split = gradients.copy()
    assert len(split) == len(whole) > 1
    assert whole[0].abs().max() > 1e-3
    assert (split[0] - whole[0]).abs().max() < 1e-6
    warnings = re.findall(r"rltrain: warning: .*", outcome.err)
    assert len(warnings) == 1, "said once"
    size = int(re.search(r"micro_batch_size=(\d+)", warnings[0])[1])
    assert size <= 3 + attempt % 4
    _, found = checkpoint.load(outcome.folder)

    # From the start in these parts: bitwise the same run, so that the updates begun again left no trace.
    gradients.clear()
    same = command(*arguments(algo, attempt, f"micro_batch_size={size}"))
    assert same.code == 0 and "warning" not in same.err
    if algo == "reinforce":  # its first baseline was still computed at once, which rounds differently
        assert (gradients[0] - split[0]).abs().max() < 1e-6
        return
    assert all(torch.equal(one, other) for one, other in zip(gradients, split, strict=True))
    _, expected = checkpoint.load(same.folder)
    one, other = tensors(found), tensors(expected)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert found["generators"] == expected["generators"]


@pytest.mark.tries(4)
@pytest.mark.parametrize("algo", ALGOS)
def test_without_it_the_run_ends_with_code_6_and_the_command_that_fits(attempt, algo, command, memory, gradients):
    memory(3 + attempt, with_gradients=True)
    outcome = command(*arguments(algo, attempt))
    assert outcome.code == 6 and not gradients, outcome.err
    assert "out of device memory: 2.50 GiB requested, 5.56 MiB free of 79.10 GiB" in outcome.last_line
    assert outcome.json("status.json")["exit_code"] == 6
    fitting = re.search(r"use (micro_batch_size=\d+)", outcome.last_line)[1]
    assert command(*arguments(algo, attempt, fitting)).code == 0


@pytest.mark.tries(4)
@pytest.mark.parametrize("algo", ["ppo", "pqn", "a2c"])
def test_a_shortage_in_acting_ends_with_code_6_and_fewer_environments(attempt, algo, command, memory):
    memory(2, with_gradients=False)
    args = arguments(algo, attempt)
    outcome = command(*args)
    assert outcome.code == 6, outcome.err
    fitting = outcome.last_line.rpartition("; use ")[2].split()
    assert fitting[0].startswith("num_envs=")
    assert command(*args, *fitting).code == 0, "what it advises does not run"


def test_a_run_that_ended_so_is_resumed_in_smaller_parts(command, memory):
    memory(7, with_gradients=True)
    args = arguments("ppo", 0, "total_steps=256", "checkpoint_every_steps=64")
    assert command(*args, "micro_batch_size=4", "algo.num_steps=16").code == 0
    folder = command("runs").run_dir / "latest"
    memory(3, with_gradients=True)
    ended = command("resume", folder, "total_steps=512")
    assert ended.code == 6 and "micro_batch_size=2" in ended.last_line
    assert command("resume", folder, "micro_batch_size=2").code == 0
    assert ended.json("result.json")["steps"] == 512
