"""The sum tree against plain sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rltrain.buffers.sum_tree import SumTree


def tree_of(*priorities: float) -> SumTree:
    tree = SumTree(len(priorities))
    tree.update(np.arange(len(priorities)), np.array(priorities, np.float64))
    return tree


def test_find_returns_the_interval_that_holds_the_mass():
    tree = tree_of(1, 2, 3, 4)
    assert tree.total == 10
    assert tree.find(np.array([0.0, 0.99, 1.0, 2.99, 3.0, 5.99, 6.0, 9.99])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_million_updates_do_not_drift():
    random, tree = np.random.default_rng(0), SumTree(50_000)
    for _ in range(100):
        index = random.integers(0, 50_000, 10_000)
        tree.update(index, 10.0 ** random.uniform(-8, 8, 10_000))
    exact = tree.priorities.sum()
    assert abs(tree.total - exact) / exact < 1e-9
    tree.update(np.arange(50_000), np.full(50_000, 1e-6))  # a shifted sum would keep the rounding of the large ones
    assert tree.total == pytest.approx(0.05, rel=1e-9)


def test_of_duplicates_in_one_call_the_last_wins():
    tree = tree_of(1, 1, 1)
    tree.update(np.array([1, 0, 1, 1]), np.array([5.0, 2.0, 7.0, 3.0]))
    assert tree.priorities.tolist() == [2, 3, 1] and tree.total == 6


@settings(max_examples=200, deadline=None)
@given(
    priorities=st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=1, max_size=40).filter(any),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_never_finds_an_empty_slot_or_leaves_the_range(priorities, fractions):
    tree = tree_of(*priorities)
    mass = np.array([*fractions, 0.0, 1 - 2**-53]) * tree.total
    found = tree.find(mass)
    assert (found >= 0).all() and (found < len(priorities)).all()
    assert (np.array(priorities)[found] > 0).all()


def test_the_largest_query_stays_in_range_beside_empty_slots():
    tree = tree_of(0.1, 0.2, 0.3, 0.0, 0.0)
    assert tree.find(np.array([tree.total * (1 - 2**-53), tree.total])).tolist() == [2, 2]


def test_bad_input_is_refused():
    tree = tree_of(1, 2)
    for index, priority, error in [([2], [1.0], IndexError), ([0], [np.nan], ValueError), ([0], [-1.0], ValueError)]:
        with pytest.raises(error):
            tree.update(np.array(index), np.array(priority))
    with pytest.raises(ValueError, match="empty"):
        SumTree(4).find(np.array([0.0]))
