"""Which environments a process has, and the random numbers that it draws for them."""

import numpy as np
import pytest
import torch

from rltrain.buffers.rollout import Rollout
from rltrain.runtime.share import RowGenerator, Share


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_shares_cover_every_environment_once(size):
    """Bug: an environment that no process or two processes have."""
    shares = [Share.of(rank, size, 5) for rank in range(size)]
    assert [i for share in shares for i in range(share.first, share.first + share.count)] == list(range(5))
    assert sum(share.weight for share in shares) == pytest.approx(1, abs=1e-15)
    assert max(share.count for share in shares) - min(share.count for share in shares) <= 1


def test_the_rows_of_all_processes_are_what_one_generator_draws():
    """Bug: random numbers that depend on the number of processes, or a state that is lost to the checkpoint."""
    draws = [
        lambda generator, n: generator.gumbel(size=(n, 3)),
        lambda generator, n: generator.standard_normal((n, 2), dtype=np.float32),
        lambda generator, n: generator.integers(4, size=n),
        lambda generator, n: generator.random(n),
    ]
    plain = np.random.default_rng(7)
    shares = [Share.of(rank, 2, 5) for rank in range(2)]
    bases = [np.random.default_rng(7) for _ in shares]
    views = [RowGenerator(base, share) for base, share in zip(bases, shares, strict=True)]
    for draw in draws * 2:
        whole = draw(plain, 5)
        parts = [draw(view, share.count) for view, share in zip(views, shares, strict=True)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert parts[0].dtype == whole.dtype
    assert all(base.bit_generator.state == plain.bit_generator.state for base in bases)


def test_every_minibatch_has_equally_many_rows_of_each_environment_whatever_the_number_of_processes():
    """Bug: processes with minibatches of different steps, or one that has more rows than its weight says."""

    def minibatches(rank, size):
        share = Share.of(rank, size, 6)
        rollout = Rollout(8, share.count, (1,), torch.float32, (), torch.int64)
        generator = np.random.default_rng(3)
        for _ in range(2):
            for index in rollout.shuffled_by_environment(12, generator, share):
                yield {(int(i) // share.count, share.first + int(i) % share.count) for i in index}

    whole = list(minibatches(0, 1))
    assert len(whole) == 2 * 4 and len(set(map(frozenset, whole))) == 8
    assert set().union(*whole[:4]) == {(t, i) for t in range(8) for i in range(6)}
    for batch in whole:
        assert sorted(i for _, i in batch) == sorted([*range(6)] * 2)
    assert [a | b for a, b in zip(minibatches(0, 2), minibatches(1, 2), strict=True)] == whole
