"""What the soak of eight games calls a leak, and what not."""

import math

import numpy as np
import pytest

MINUTES = np.arange(10, 60, 1 / 6)


@pytest.fixture(scope="module")
def soak(script):
    return script("soak")


def points(soak, memory_mb):
    """An hour of looks, every ten seconds; every fourth minute an evaluation takes 150 MB more."""
    noise = np.random.default_rng(0).uniform(0, 4, len(MINUTES))
    extra = np.where(MINUTES % 4 < 0.5, 150, 0)
    samples = [
        {"time_s": 60 * minute, "trainer_mb": memory_mb(minute) + more}
        for minute, more in zip(MINUTES.tolist(), (noise + extra).tolist(), strict=True)
    ]
    return soak.lowest(samples, "trainer_mb")


@pytest.mark.parametrize(
    ("memory_mb", "leak"),
    [
        (lambda minute: 450, False),
        (lambda minute: 450 - 20 * math.exp(-minute / 8), False),  # levels off
        (lambda minute: 450 + 30 * (minute > 25), False),  # one larger buffer, for good
        (lambda minute: 450 - 0.5 * minute, False),
        (lambda minute: 450 + 0.2 * minute, True),  # 12 MB an hour: 200 kB with every evaluation and checkpoint
        (lambda minute: 450 + 4 * (minute // 4), True),  # in steps
    ],
)
def test_only_what_goes_on_growing_is_a_leak(soak, memory_mb, leak):
    """Bugs: growth within a few percent passes, however long it would go on; a warm-up or one jump fails."""
    assert soak.leaks(points(soak, memory_mb)) is leak


def test_the_growth_is_in_mb_an_hour(soak):
    assert soak.growth_per_hour([(0, 100), (1800, 101), (3600, 102)]) == pytest.approx(2)
    assert soak.growth_per_hour([(0, 100)]) == 0


def test_a_last_window_that_is_cut_short_is_left_out(soak):
    samples = [{"time_s": s, "x": 600 if s >= 240 else 500} for s in range(0, 250, 10)]
    assert [value for _, value in soak.lowest(samples, "x")] == [500, 500]


@pytest.mark.parametrize(
    ("counts", "more"),
    [
        ([109, 111, 109, 111, 109, 111], False),  # an evaluation's own come and go
        ([109, 109, 109, 109, 109, 111], False),
        ([109, 109, 110, 110, 111, 111], True),
        ([17, 17, 17, 18, 18, 18], True),
        ([17], False),
    ],
)
def test_a_count_that_stays_higher_is_a_leak(soak, counts, more):
    """Bug: a look that falls into an evaluation is taken for a leak, or one handle more for good for chance."""
    assert soak.rises(list(enumerate(counts))) is more
