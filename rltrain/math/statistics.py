"""Statistics over several runs: mean, interquartile mean and bootstrap intervals.

Legend: R runs (seeds), T points of a curve.
"""

from collections.abc import Callable

import numpy as np

_POINTS_AT_ONCE = 4096
"""Points of a curve that are resampled together: all of a long curve may not fit in memory."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Reduces the axis of runs, the second to last: [..., R, T] to [..., T]."""


def mean(values_RT: np.ndarray) -> np.ndarray:
    """Return the mean over runs: [..., R, T] to [..., T]."""
    return values_RT.mean(axis=-2)


def interquartile_mean(values_RT: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the runs (Agarwal et al. 2021, section 4.3): [..., R, T] to [..., T].

    Leaves out a quarter of the runs, rounded down, at each end. With fewer than four runs the result is the mean.
    """
    num_runs = values_RT.shape[-2]
    cut = num_runs // 4
    return np.sort(values_RT, axis=-2)[..., cut : num_runs - cut, :].mean(axis=-2)


def bootstrap_interval(
    values_RT: np.ndarray,
    statistic: Statistic,
    generator: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high end of the statistic's percentile bootstrap interval over runs (Efron 1979), [T] each.

    values_RT: one curve for each run, [R, T]. Whole runs are resampled with replacement. With a single run, both ends
    are equal to it.
    """
    num_runs, num_points = values_RT.shape
    index = generator.integers(num_runs, size=(num_resamples, num_runs))
    ends = np.empty((2, num_points))
    for start in range(0, num_points, _POINTS_AT_ONCE):
        part = values_RT[:, start : start + _POINTS_AT_ONCE]
        resampled = np.stack([statistic(part[rows]) for rows in index])
        ends[:, start : start + _POINTS_AT_ONCE] = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends[0], ends[1]
