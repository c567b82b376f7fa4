"""The arithmetic of benchmarks/ablations.py: pairs are kept, and noise is not taken for an effect."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def ablations(script):
    return script("ablations")


def test_the_mean_height_of_a_curve_weighs_by_the_distance_between_its_points(ablations):
    assert ablations.mean_height([(0, 0.0), (10, 10.0), (40, 10.0)]) == pytest.approx((50 + 300) / 40)
    assert ablations.mean_height([(7, 3.0)]) == 3.0


def test_pairing_sees_a_small_effect_below_large_differences_between_seeds(ablations):
    base = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    mean, low, high = ablations.paired_difference(base + np.array([4.0, 5, 6, 5, 5]), base)
    assert mean == pytest.approx(5)
    assert 4 < low < 5 < high < 6
    _, low, high = ablations.paired_difference(base[::-1], base)
    assert low < 0 < high, "the control: what differs without direction shows nothing"


def test_the_report_names_every_variant_and_compares_with_the_base(ablations):
    runs = {
        variant: {str(seed): {"area": 10.0 * seed + bonus, "final": 1.0} for seed in range(3)}
        for bonus, variant in enumerate(ablations.VARIANTS)
    }
    lines = ablations.report(runs, ["0", "1", "2"])
    assert len(lines) == 2 + len(ablations.VARIANTS)
    assert lines[2].startswith("| dqn | 10.0 |  | 1.0 |")
    assert "| 11.0 | +1.0 (+1.0 to +1.0) | 1.0 | +0.0 (+0.0 to +0.0) |" in lines[3]
