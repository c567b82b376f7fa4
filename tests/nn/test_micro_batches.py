"""Gradients in parts, and what happens where memory runs out in the middle of one."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rltrain.config.algorithms import A2CConfig
from rltrain.config.run import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.nn import recording
from rltrain.nn.learner import Learner, Loss
from rltrain.system import out_of_memory

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 5.56 MiB is free."
    " Including non-PyTorch memory, this process has 79.08 GiB memory in use."
)


@dataclass
class Points:
    """Samples."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self):
        return len(self.x)

    def rows(self, rows):
        return Points(self.x[rows], self.y[rows])


FIVE = Points(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([1.0, 0.0, 2.0, 0.0, 3.0]))


class Line(torch.nn.Module):
    """Loss (w x - y)^2 of samples x, y; remembers what it was asked for, and fails where it is told to."""

    def __init__(self, fails=lambda size, call: False):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([2.0]))
        self.fails, self.sizes, self.alive = fails, [], []

    def loss(self, points):
        self.sizes.append(len(points))
        assert not [tensor for tensor in self.alive if tensor() is not None] or self.sizes[-1] == self.sizes[-2]
        large = points.x * 1.0
        if self.fails(len(points), len(self.sizes)):
            self.alive.append(weakref.ref(large))
            raise torch.OutOfMemoryError(CUDA)
        loss = (self.w * large - points.y).square().mean()
        return Loss(loss, lambda: {"mean x": large.mean()})


# d/dw mean (w x - y)^2 at w = 2: the mean of 2 x (2 x - y), which is 2 * (1, 8, 12, 32, 35) / 5; losses 1 16 16 64 49.
GRADIENT, LOSS, MEAN_X = 35.2, 29.2, 3.0


def learner_of(line, **fields):
    return Learner(RunConfig(algo=A2CConfig(max_grad_norm=1e9), **fields), line)


def is_whole(line, learner):
    """Gradients and metrics are those of all five samples."""
    found = [line.w.grad.item(), *(float(learner.metrics()[tag]) for tag in ("train/loss", "mean x"))]
    return found == pytest.approx([GRADIENT, LOSS, MEAN_X])


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 100])
def test_parts_weigh_as_much_as_they_have_samples(size):
    """Bug: the last, shorter part counts like a whole one."""
    line = Line()
    learner = learner_of(line, micro_batch_size=size)
    learner.compute_gradients(line.loss, FIVE)
    assert is_whole(line, learner)


def test_what_was_half_done_is_begun_again_from_nothing(capfd):
    """Bugs: gradients of the parts before the shortage counted twice; those of the last update added."""
    line = Line(lambda size, call: call == 2)
    learner = learner_of(line, oom="split", micro_batch_size=3)
    learner.compute_gradients(line.loss, FIVE)
    assert line.sizes == [3, 2, 1, 1, 1, 1, 1]
    assert is_whole(line, learner)
    learner.compute_gradients(line.loss, FIVE)
    assert is_whole(line, learner), "gradients of two updates were added"


def test_the_size_that_fits_is_found_once_and_stays(capfd):
    line = Line(lambda size, call: size > 1)
    learner = learner_of(line, oom="split")
    learner.compute_gradients(line.loss, FIVE)
    learner.compute_gradients(line.loss, FIVE)
    assert line.sizes == [5, 2, *[1] * 10] and learner.micro_batches.size == 1
    assert is_whole(line, learner)
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("rltrain: warning: out of device memory: 2.50 GiB requested, 5.56 MiB")
    assert "micro_batch_size=1 " in said[0]


def test_nothing_of_a_failed_attempt_is_held_while_the_next_one_runs():
    """Bug: the error's traceback keeps the activations that did not fit. `Line.loss` looks; here is the control."""
    line = Line(lambda size, call: size > 1)
    learner_of(line, oom="split").compute_gradients(line.loss, FIVE)
    assert len(line.alive) == 2
    kept = []

    def keep(points):
        try:
            return line.loss(points)
        except torch.OutOfMemoryError as error:
            kept.append(error)
            raise

    with pytest.raises(AssertionError):
        learner_of(line, oom="split").compute_gradients(keep, FIVE)
    kept.clear()
    gc.collect()


def test_nothing_of_the_last_update_is_held_while_the_next_one_runs():
    """Bug: the metrics of the last update keep its activations until they are replaced."""
    line, held = Line(), []
    learner = learner_of(line)

    def loss_of(points):
        assert not [tensor for tensor in held if tensor() is not None]
        large = points.x * line.w
        held.append(weakref.ref(large))
        return Loss(large.mean(), lambda: {"mean": large.mean()})

    for _ in range(3):
        learner.step(loss_of, FIVE)
    assert held[-1]() is not None, "the control: the metrics hold it"


def test_without_splitting_it_says_which_size_fits_and_moves_nothing():
    line = Line(lambda size, call: size > 2)
    learner = learner_of(line)
    with pytest.raises(OutOfMemory, match=r"update of 5 samples.*use micro_batch_size=2, which was tried") as caught:
        learner.step(line.loss, FIVE)
    assert caught.value.exit_code == 6 and "79.10 GiB" in caught.value.what
    assert line.w.item() == 2.0 and learner.micro_batches.size is None and learner.num_updates == 0


def test_nothing_is_tried_again_while_a_graph_is_recorded():
    """Bug: the cache is emptied and halves are tried in the midst of a recording, which that breaks."""
    line = Line(lambda size, call: call == 1)
    with recording.recording(), pytest.raises(torch.OutOfMemoryError):
        learner_of(line).compute_gradients(line.loss, FIVE)
    assert line.sizes == [5]


@pytest.mark.parametrize("oom", ["fail", "split"])
def test_a_sample_that_does_not_fit_alone_is_an_error(oom):
    line = Line(lambda size, call: True)
    with pytest.raises(OutOfMemory, match=r"not even one sample fits"):
        learner_of(line, oom=oom).compute_gradients(line.loss, FIVE)


def test_other_errors_are_not_taken_for_a_shortage():
    def loss(points):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        learner_of(Line(), oom="split").compute_gradients(loss, FIVE)


def test_values_without_gradients_are_joined_in_order():
    calls = []

    def double(points):
        calls.append(points.x.tolist())
        if len(points) > 3:
            raise torch.OutOfMemoryError(CUDA)
        return points.x * 2

    assert learner_of(Line(), oom="split").infer(double, FIVE).tolist() == [2, 4, 6, 8, 10]
    assert calls == [[1, 2, 3, 4, 5], [1, 2], [3, 4], [5]]


@pytest.mark.parametrize("take", [lambda: torch.empty(10**14), lambda: np.empty(10**14)])
def test_the_hosts_own_errors_are_known_and_put_in_numbers(take):
    """Real ones, as torch and NumPy word them now."""
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        take()
    assert out_of_memory.is_shortage(caught.value)
    words = out_of_memory.describe(caught.value)
    assert words.startswith("out of memory: ") and "requested" in words and "GB free" in words
