"""The one optimizer step: what it does in which order, what it counts, tells and keeps."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from threads import ThreadGroup

from rltrain.config.algorithms import A2CConfig
from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError, EnvironmentFailure, NonFiniteError
from rltrain.nn.learner import Learner, Loss


@dataclass
class Points:
    """Samples: numbers, or arrays of them."""

    x: np.ndarray

    def __len__(self):
        return len(self.x)

    def rows(self, rows):
        return Points(self.x[rows])


POINTS = Points(np.arange(7, dtype=np.float32))


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(1, 1)


def learner_of(module, optimizer="adam", run=(), **fields):
    return Learner(RunConfig(algo=A2CConfig(**fields), total_steps=100, **dict(run)), module, optimizer, 1e-5)


def loss_of(module, calls=None):
    """Half of the squared output; the metrics note that they were called."""

    def loss(points, scale=1.0):
        assert isinstance(points.x, torch.Tensor), "the batch is on the device"
        value = module(points.x[:, None]).squeeze(-1)

        def metrics():
            if calls is not None:
                calls.append(len(points))
            return {"mean": value.detach().mean()}

        return Loss(scale * 0.5 * value.square().mean(), metrics, points.x - value.detach())

    return loss


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "radam"])
@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_a_step_is_torchs_own_with_gradients_clipped_to_a_norm(optimizer, micro_batch_size):
    module, other = network(), network()
    learner = learner_of(
        module, optimizer, {"micro_batch_size": micro_batch_size}, max_grad_norm=0.1, learning_rate=1e-2
    )
    options = {"alpha": 0.99} if optimizer == "rmsprop" else {}
    kind = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "radam": torch.optim.RAdam}[optimizer]
    reference = kind(other.parameters(), lr=1e-2, eps=1e-5, **options)
    for update in range(8):
        td_error = learner.step(loss_of(module), POINTS)
        reference.zero_grad()
        x = torch.from_numpy(POINTS.x)
        value = other(x[:, None]).squeeze(-1)
        (0.5 * value.square().mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1)
        assert norm > 0.1, "the control: there is something to clip"
        reference.step()
        torch.testing.assert_close(td_error, x - value.detach(), msg="in the order of the samples")
        for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
        metrics = learner.metrics()
        assert metrics["train/grad_norm"].item() == pytest.approx(norm.item(), rel=1e-5)
        assert (metrics["train/n_updates"], metrics["train/learning_rate"]) == (update + 1, 1e-2)
        assert float(metrics["train/loss"]) == pytest.approx(0.5 * value.square().mean().item(), rel=1e-5)
        assert float(metrics["mean"]) == pytest.approx(value.mean().item(), abs=1e-5)  # it passes through 0


def test_metrics_are_computed_only_when_they_are_asked_for():
    module, calls = network(), []
    learner = learner_of(module)
    assert learner.metrics() == {}, "nothing before the first update"
    for _ in range(5):
        learner.step(loss_of(module, calls), POINTS)
    assert calls == []
    learner.metrics()
    assert calls == [7]


def test_numbers_reach_the_loss():
    module = network()
    learner = learner_of(module, max_grad_norm=1e9)
    losses = []
    for scale in (1.0, 3.0):
        learner.compute_gradients(loss_of(module), POINTS, scale=scale)
        losses.append(learner.metrics()["train/loss"].item())
    assert losses[1] == pytest.approx(3 * losses[0])
    assert learner.num_updates == 0, "gradients alone are no update"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_told_before_anything_moves(bad):
    module = network()
    learner = learner_of(module)
    learner.step(loss_of(module), POINTS)
    before = copy.deepcopy((module.state_dict(), learner.state_dict()))
    with pytest.raises(NonFiniteError, match="the gradient of weight is not finite") as error:
        learner.step(loss_of(module), POINTS, scale=bad)
    assert error.value.facts["gradients"]["weight"]["not_finite"] == 1
    torch.testing.assert_close((module.state_dict(), learner.state_dict()), before, rtol=0, atol=0)


def test_an_inference_mode_that_was_left_on_is_told():
    """Bug: "a bug in rltrain", as a loss without gradients, after an environment entered the mode for good."""
    module = network()
    learner = learner_of(module)
    with torch.inference_mode(), pytest.raises(EnvironmentFailure, match="inference_mode"):
        learner.step(loss_of(module), POINTS)


def test_the_step_size_falls_with_agent_steps_or_stays():
    learner = learner_of(network(), learning_rate=1e-2, learning_rate_end=1e-3)
    seen = []
    for step in (0, 50, 100, 200):
        learner.anneal_learning_rate(step)
        seen.append(learner.learning_rate)
    assert seen == pytest.approx([1e-2, 5.5e-3, 1e-3, 1e-3])
    constant = learner_of(network(), learning_rate=1e-2)
    constant.anneal_learning_rate(50)
    assert constant.learning_rate == 1e-2


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "radam"])
def test_it_goes_on_from_a_saved_state_bit_for_bit(optimizer):
    module = network()
    learner = learner_of(module, optimizer)
    for _ in range(3):
        learner.step(loss_of(module), POINTS)
    again = copy.deepcopy(module)
    restored = learner_of(again, optimizer)
    restored.load_state_dict(copy.deepcopy(learner.state_dict()))
    for _ in range(3):
        learner.step(loss_of(module), POINTS)
        restored.step(loss_of(again), POINTS)
    assert restored.num_updates == learner.num_updates == 6
    for ours, theirs in zip(again.parameters(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_processes_do_not_share_a_network_whose_updates_change_buffers():
    """Bug: each process learns a mean of its own, and the saved network has that of none, or of the first alone."""
    group = ThreadGroup(0, 2, None)
    learner_of(network()).join(group, 0.5)
    with pytest.raises(ConfigError, match=r"buffers \(1.running_mean, 1.running_var, 1.num_batches_tracked\)"):
        learner_of(torch.nn.Sequential(network(), torch.nn.BatchNorm1d(1))).join(group, 0.5)
