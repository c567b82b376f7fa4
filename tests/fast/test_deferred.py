"""Updates that are not waited for, as on CUDA, here on the CPU: the same steps, and what is not finite stops later."""

import contextlib
import copy
import json

import numpy as np
import pytest
import torch
from small_runs import small
from torch.utils._python_dispatch import TorchDispatchMode

from rltrain.errors import NonFiniteError
from rltrain.nn import device as devices
from rltrain.nn import optimizers
from rltrain.nn.learner import Learner
from rltrain.nn.trained import Trained
from rltrain.run import checkpoint
from rltrain.run.run import Run


@pytest.fixture
def ahead(monkeypatch):
    """Let the CPU be a device that works on while the host goes on."""
    monkeypatch.setattr(devices, "runs_ahead", lambda device: True)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3))


def learn(module, trained, optimizer, seed, scale=1.0, max_grad_norm=0.5):
    for tensor in trained.tensors:
        tensor.grad = None
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(seed))
    (scale * module(x).square().sum()).backward()
    norm = optimizers.clip_gradients(trained, max_grad_norm)
    optimizer.step()
    return norm


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("max_grad_norm", [0.5, 1e9])
def test_the_steps_are_those_of_updates_that_are_waited_for(name, max_grad_norm, monkeypatch):
    modules = [network(), network()]
    sides = []
    for module, is_ahead in zip(modules, (False, True), strict=True):
        monkeypatch.setattr(devices, "runs_ahead", lambda device, is_ahead=is_ahead: is_ahead)
        trained = Trained(module)
        sides.append((module, trained, optimizers.make(name, trained, 0.01, 1e-5)))
    assert [side[1].deferred is not None for side in sides] == [False, True]
    for seed in range(6):
        for _, _, optimizer in sides:
            optimizers.set_learning_rate(optimizer, 0.01 / (1 + seed))
        norms = [learn(*side, seed, max_grad_norm=max_grad_norm) for side in sides]
        torch.testing.assert_close(*norms)
    for one, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)
    states = [optimizers.state_dict(optimizer, trained) for _, trained, optimizer in sides]
    assert states[0]["param_groups"] == states[1]["param_groups"], "a checkpoint's numbers are JSON"
    torch.testing.assert_close(states[0]["state"], states[1]["state"], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_from_a_bad_gradient_on_nothing_moves_until_it_is_told(name, bad, ahead):
    """Bugs: the next good gradient is stepped with, although the run is about to end; a count goes on."""
    module = network()
    trained = Trained(module)
    optimizer = optimizers.make(name, trained, 0.01, 1e-5)
    learn(module, trained, optimizer, 0)
    optimizers.check_finite(trained)
    before = copy.deepcopy((module.state_dict(), optimizers.state_dict(optimizer, trained)))
    assert not learn(module, trained, optimizer, 1, scale=bad).isfinite()
    assert learn(module, trained, optimizer, 2).isfinite()
    after = (module.state_dict(), optimizers.state_dict(optimizer, trained))
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    with pytest.raises(NonFiniteError, match=r"the gradient of 0\.weight is not finite") as error:
        optimizers.check_finite(trained)
    assert error.value.facts["gradients"]["0.weight"] == {"shape": [7, 5], "finite": False}
    json.dumps(error.value.facts)


def test_the_culprit_is_named_and_no_other(ahead):
    module = network()
    trained = Trained(module)
    optimizer = optimizers.make("adam", trained, 0.01, 1e-5)
    learn(module, trained, optimizer, 0)
    module[1].weight.grad[0, 0] = torch.nan
    optimizers.clip_gradients(trained, 1.0)
    with pytest.raises(NonFiniteError, match=r"the gradient of 1\.weight"):
        optimizers.check_finite(trained)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_a_state_is_taken_back_with_its_step_size(name, ahead):
    module = network()
    trained = Trained(module)
    optimizer = optimizers.make(name, trained, 0.01, 1e-5)
    learn(module, trained, optimizer, 0)
    optimizers.set_learning_rate(optimizer, 0.003)
    state = copy.deepcopy(optimizers.state_dict(optimizer, trained))
    again = Trained(module)
    other = optimizers.make(name, again, 0.01, 1e-5)
    optimizers.load_state_dict(other, again, state)
    assert again.deferred is not None and again.deferred.learning_rate.item() == pytest.approx(0.003)
    assert optimizers.state_dict(other, again)["param_groups"] == state["param_groups"]


class Waits(TorchDispatchMode):
    """Counts what would wait for a device: a number read from it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        names = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
        self.count += func.overloadpacket.__name__ in names
        return func(*args, **(kwargs or {}))


def test_control_the_counter_sees_what_waits():
    with Waits() as waits:
        float(torch.ones(()))
        torch.ones(3).nonzero()
    assert waits.count == 2


@pytest.mark.parametrize("algo", ["dqn", "ppo", "a2c", "reinforce"])
@pytest.mark.parametrize("is_ahead", [True, False])
def test_learning_reads_no_number_back(algo, is_ahead, command, monkeypatch):
    """The control: on the processor, every update reads its norm."""
    monkeypatch.setattr(devices, "runs_ahead", lambda device: is_ahead)
    counts, phase, step = [], Run.phase, Learner.step
    num_updates = []

    @contextlib.contextmanager
    def watched(run, name):
        before = len(num_updates)
        with phase(run, name), Waits() if name == "learn" else contextlib.nullcontext() as waits:
            yield
        if waits is not None:
            counts.append((waits.count, len(num_updates) - before))

    monkeypatch.setattr(Run, "phase", watched)
    monkeypatch.setattr(Learner, "step", lambda *args, **more: (num_updates.append(1), step(*args, **more))[1])
    outcome = command(*small(algo, "cartpole"), "total_steps=192", "eval_every_steps=0", "cuda_graphs=false")
    assert outcome.code == 0, outcome.err
    assert num_updates and all(waits == (0 if is_ahead else updates) for waits, updates in counts), counts


@pytest.mark.parametrize("algo", ["dqn", "a2c", "ppo", "reinforce"])
def test_a_run_ends_with_code_5_and_its_parameters_stay_finite(algo, ahead, command, monkeypatch):
    original, calls = optimizers.clip_gradients, []

    def sick(trained, max_grad_norm):
        calls.append(1)
        if len(calls) == 7:
            trained.tensors[0].grad[..., 0] = torch.inf
        return original(trained, max_grad_norm)

    monkeypatch.setattr(optimizers, "clip_gradients", sick)
    args = [
        *small(algo, "cartpole"),
        "cuda_graphs=false",
        "total_steps=3000",
        "checkpoint_every_steps=60",
        "eval_every_steps=0",
    ]
    outcome = command(*args)
    assert outcome.code == 5, outcome.err
    assert "is not finite" in outcome.last_line and "train/grad_norm" in outcome.last_line
    facts = json.loads((outcome.folder / "nonfinite.json").read_text())
    assert not facts["gradients"][facts["tensor"]]["finite"]
    if not (outcome.folder / "checkpoints" / "last").exists():
        assert algo in ("ppo", "reinforce"), "no checkpoint was due before"
        return
    _, state = checkpoint.load(outcome.folder)
    assert all(np.isfinite(np.asarray(value)).all() for value in state["agent"].get("network", {}).values())
