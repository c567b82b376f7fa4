"""Gradients in parts, and what happens where memory runs out in the middle of one."""

import gc
import weakref

import numpy as np
import pytest
import torch

from rltrain.config.run import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.fast import graphs as cuda_graphs
from rltrain.nn.micro_batches import MicroBatches
from rltrain.system import out_of_memory

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 5.56 MiB is free."
    " Including non-PyTorch memory, this process has 79.08 GiB memory in use."
)


class Line:
    """Loss (w x - y)^2 of samples x, y; remembers what it was asked for, and fails where it is told to."""

    def __init__(self, fails=lambda rows, call: False):
        self.w = torch.tensor([2.0], requires_grad=True)
        self.optimizer = torch.optim.SGD([self.w], lr=0.1)
        self.x, self.y = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([1.0, 0.0, 2.0, 0.0, 3.0])
        self.fails, self.sizes, self.alive = fails, [], []

    def loss(self, rows):
        self.sizes.append(rows.stop - rows.start)
        assert not [tensor for tensor in self.alive if tensor() is not None] or self.sizes[-1] == self.sizes[-2]
        large = self.x[rows] * 1.0
        if self.fails(rows, len(self.sizes)):
            self.alive.append(weakref.ref(large))
            raise torch.OutOfMemoryError(CUDA)
        loss = (self.w * large - self.y[rows]).square().mean()
        return loss, {"loss": loss.detach()}


# d/dw mean (w x - y)^2 at w = 2: the mean of 2 x (2 x - y), which is 2 * (1, 8, 12, 32, 35) / 5; losses 1 16 16 64 49.
GRADIENT, LOSS = 35.2, 29.2


def split(**fields):
    return MicroBatches(RunConfig(oom="split", **fields))


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 100])
def test_parts_weigh_as_much_as_they_have_samples(size):
    """Bug: the last, shorter part counts like a whole one."""
    line = Line()
    metrics = MicroBatches(RunConfig(micro_batch_size=size)).accumulate_gradients(line.optimizer, 5, line.loss)
    assert line.w.grad.item() == pytest.approx(GRADIENT) and metrics["loss"].item() == pytest.approx(LOSS)


def test_what_was_half_done_is_begun_again_from_nothing(capfd):
    """Bugs: gradients of the parts before the shortage counted twice; those of the last update added."""
    line = Line(lambda rows, call: call == 2)
    parts = split(micro_batch_size=3)
    metrics = parts.accumulate_gradients(line.optimizer, 5, line.loss)
    assert line.sizes == [3, 2, 1, 1, 1, 1, 1]
    assert line.w.grad.item() == pytest.approx(GRADIENT) and metrics["loss"].item() == pytest.approx(LOSS)
    parts.accumulate_gradients(line.optimizer, 5, line.loss)
    assert line.w.grad.item() == pytest.approx(GRADIENT), "gradients of two updates were added"


def test_the_size_that_fits_is_found_once_and_stays(capfd):
    line = Line(lambda rows, call: rows.stop - rows.start > 1)
    parts = split()
    parts.accumulate_gradients(line.optimizer, 5, line.loss)
    parts.accumulate_gradients(line.optimizer, 5, line.loss)
    assert line.sizes == [5, 2, *[1] * 10] and parts.size == 1
    assert line.w.grad.item() == pytest.approx(GRADIENT)
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("rltrain: warning: out of device memory: 2.50 GiB asked for, 5.56 MiB")
    assert "micro_batch_size=1 " in said[0]


def test_nothing_of_a_failed_attempt_is_held_while_the_next_one_runs():
    """Bug: the error's traceback keeps the activations that did not fit. `Line.loss` looks; here is the control."""
    line = Line(lambda rows, call: rows.stop - rows.start > 1)
    split().accumulate_gradients(line.optimizer, 5, line.loss)
    assert len(line.alive) == 2
    kept = []

    def keep(rows):
        try:
            return line.loss(rows)
        except torch.OutOfMemoryError as error:
            kept.append(error)
            raise

    with pytest.raises(AssertionError):
        split().accumulate_gradients(line.optimizer, 5, keep)
    kept.clear()
    gc.collect()


def test_without_splitting_it_says_which_size_fits_and_moves_nothing():
    line = Line(lambda rows, call: rows.stop - rows.start > 2)
    parts = MicroBatches(RunConfig())
    with pytest.raises(OutOfMemory, match=r"update of 5 samples.*use micro_batch_size=2, which was tried") as caught:
        parts.accumulate_gradients(line.optimizer, 5, line.loss)
    assert caught.value.exit_code == 6 and "79.10 GiB" in caught.value.what
    assert line.w.item() == 2.0 and parts.size is None


def test_nothing_is_tried_again_while_a_graph_is_recorded(monkeypatch):
    """Bug: the cache is emptied and halves are tried in the midst of a recording, which that breaks."""
    monkeypatch.setattr(cuda_graphs, "_recording", True)
    line = Line(lambda rows, call: call == 1)
    with pytest.raises(torch.OutOfMemoryError):
        MicroBatches(RunConfig()).accumulate_gradients(line.optimizer, 5, line.loss)
    assert line.sizes == [5]


@pytest.mark.parametrize("oom", ["fail", "split"])
def test_a_sample_that_does_not_fit_alone_is_an_error(oom):
    line = Line(lambda rows, call: True)
    with pytest.raises(OutOfMemory, match=r"not even one sample fits"):
        MicroBatches(RunConfig(oom=oom)).accumulate_gradients(line.optimizer, 5, line.loss)


def test_other_errors_are_not_taken_for_a_shortage():
    def loss(rows):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        split().accumulate_gradients(Line().optimizer, 5, loss)


def test_values_without_gradients_are_joined_in_order():
    line, calls = Line(), []

    def double(rows):
        calls.append(rows)
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError(CUDA)
        return line.x[rows] * 2

    assert split().infer(5, double).tolist() == [2, 4, 6, 8, 10]
    assert [(rows.start, rows.stop) for rows in calls] == [(0, 5), (0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize("take", [lambda: torch.empty(10**14), lambda: np.empty(10**14)])
def test_the_hosts_own_errors_are_known_and_put_in_numbers(take):
    """Real ones, as torch and NumPy word them now."""
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        take()
    assert out_of_memory.is_shortage(caught.value)
    words = out_of_memory.describe(caught.value)
    assert words.startswith("out of memory: ") and "asked for" in words and "GB free" in words
