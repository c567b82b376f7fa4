"""Statistics over runs, against numbers worked by hand."""

import itertools

import numpy as np
import pytest

from rltrain.math import statistics
from rltrain.math.statistics import bootstrap_interval, interquartile_mean, mean


def column(*values):
    return np.array(values, float)[:, None]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ((7,), 7),  # nothing to leave out
        ((1, 2, 6), 3),  # three runs: a quarter is less than one run
        ((1000, 2, 4, -1000), 3),  # the middle two
        ((1, 2, 3, 4, 1000), 3),  # a quarter of five is one at each end
        ((8, 1, 2, 3, 4, 5, 6, -90), 3.5),  # two at each end: 2, 3, 4, 5 are left
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(runs, expected):
    assert interquartile_mean(column(*runs)).tolist() == [expected]


def test_an_outlier_moves_the_mean_and_not_the_interquartile_mean():
    runs = column(1, 2, 3, 1000)
    assert mean(runs).tolist() == [251.5]
    assert interquartile_mean(runs).tolist() == [2.5]


def test_each_point_of_a_curve_is_taken_for_itself():
    curves = np.array([[1.0, 400.0], [2.0, 300.0], [3.0, 200.0], [4.0, 100.0]])
    assert interquartile_mean(curves).tolist() == [2.5, 250]
    assert mean(curves).tolist() == [2.5, 250]


def test_one_run_has_no_width():
    low, high = bootstrap_interval(np.array([[3.0, 4.0]]), mean, np.random.default_rng(0))
    assert (low.tolist(), high.tolist()) == ([3, 4], [3, 4])


def test_the_interval_of_three_runs_is_that_of_all_27_resamples():
    # Every resample of (0, 3, 6) has a mean in 0..6; 1 of 27 gives 0 (3.7% > 2.5%), so 95% reaches both extremes,
    # while 90% begins at the resamples with sum 3 (cumulative 4/27 = 14.8%).
    means = sorted(sum(runs) / 3 for runs in itertools.product((0, 3, 6), repeat=3))
    assert means[0] == 0 and means[1] == 1
    low, high = bootstrap_interval(column(0, 3, 6), mean, np.random.default_rng(0))
    assert (low.tolist(), high.tolist()) == ([0], [6])
    low, high = bootstrap_interval(column(0, 3, 6), mean, np.random.default_rng(0), level=0.9)
    assert (low.tolist(), high.tolist()) == ([1], [5])


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(size=(20, 1)), mean, generator, num_resamples=300)
        covered += bool(low[0] <= 0 <= high[0])
    assert 0.88 <= covered / 200 <= 0.98  # the percentile bootstrap is a little narrow with 20 runs


def test_whole_runs_are_drawn_so_that_points_of_one_run_stay_together():
    # Two runs that differ by a constant: the interval must have the same width everywhere, exactly.
    curves = np.array([np.arange(5.0), np.arange(5.0) + 2])
    low, high = bootstrap_interval(curves, mean, np.random.default_rng(0))
    assert (high - low).tolist() == [2] * 5


def test_the_same_generator_gives_the_same_interval():
    curves = np.random.default_rng(1).normal(size=(5, 3))
    one, two = (bootstrap_interval(curves, mean, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, two)


def test_a_long_curve_is_resampled_in_parts_with_the_same_numbers(monkeypatch):
    """Bug: two curves of 200,000 points took 5 GB."""
    curves = np.random.default_rng(1).normal(size=(4, 10))
    whole = bootstrap_interval(curves, mean, np.random.default_rng(0))
    monkeypatch.setattr(statistics, "_POINTS_AT_ONCE", 3)
    assert np.array_equal(bootstrap_interval(curves, mean, np.random.default_rng(0)), whole)
