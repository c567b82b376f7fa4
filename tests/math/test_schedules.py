"""A schedule that is silently constant shows in no training test: check beginning, middle and end exactly."""

import math

import pytest

from rltrain.math.schedules import exponential_decay, linear, linear_or_constant


@pytest.mark.parametrize(
    ("step", "expected"), [(-1, 1.0), (0, 1.0), (25, 0.775), (50, 0.55), (100, 0.1), (101, 0.1), (10**9, 0.1)]
)
def test_linear_is_exact_at_its_beginning_middle_and_end(step, expected):
    assert linear(step, 1.0, 0.1, 100) == pytest.approx(expected, abs=1e-15)


def test_linear_rises_too_and_ends_exactly():
    assert linear(50, 0.4, 1.0, 100) == pytest.approx(0.7)
    assert all(linear(n, 0.1, 0.7, n) == 0.7 for n in range(1, 200))
    assert linear(0, 1.0, 0.1, 0) == 0.1


def test_without_an_end_there_is_nowhere_to_go():
    assert [linear_or_constant(step, 0.5, None, 100) for step in (0, 50, 1000)] == [0.5, 0.5, 0.5]
    assert [linear_or_constant(step, 0.5, 0.1, 100) for step in (0, 50, 100)] == pytest.approx([0.5, 0.3, 0.1])
    assert linear_or_constant(100, 0.5, 0.0, 100) == 0.0, "zero is an end"


def test_exponential_decay_is_exact_at_its_beginning_middle_and_end():
    assert exponential_decay(0, 1.0, 0.05, 0.0005) == 1.0
    assert exponential_decay(2000, 1.0, 0.05, 0.0005) == pytest.approx(0.05 + 0.95 / math.e)
    assert exponential_decay(10**7, 1.0, 0.05, 0.0005) == pytest.approx(0.05)
