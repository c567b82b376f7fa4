"""What several runs say together: a mean that outliers do not move, and how far another draw of seeds might be.

R runs (seeds), T points of a curve.
"""

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""Takes runs along the last axis but one: [..., R, T] to [..., T]."""


def mean(values_RT: np.ndarray) -> np.ndarray:
    """The mean over runs: [..., R, T] to [..., T]."""
    return values_RT.mean(axis=-2)


def interquartile_mean(values_RT: np.ndarray) -> np.ndarray:
    """The mean of the middle half of the runs (Agarwal et al. 2021, section 4.3): [..., R, T] to [..., T].

    A quarter of the runs, rounded down, is left out at each end: with fewer than four runs this is the mean.
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
    """The percentile bootstrap over runs (Efron 1979): low and high end of the statistic's interval, [T] each.

    values_RT: one curve a run, [R, T]. Whole runs are drawn with replacement, so that points of one run stay together.
    With one run both ends are that run: it says nothing about another seed.
    """
    num_runs = len(values_RT)
    index = generator.integers(num_runs, size=(num_resamples, num_runs))
    resampled = np.stack([statistic(values_RT[rows]) for rows in index])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
