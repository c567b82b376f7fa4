"""Schedules: pure functions of the step, floats in and out. They hold no state, so a resumed run cannot drift.

`step` counts agent steps whatever the number of environments; callers may pass any other count of one unit.
"""

import math


def linear(step: float, start: float, end: float, duration_steps: float) -> float:
    """A straight line from start at step 0 to end at duration_steps, constant outside. All floats.

    A duration of 0 gives end at once.
    """
    if step >= duration_steps:  # returned as it is: start + (end - start) need not equal end in floating point
        return end
    if step <= 0:
        return start
    return start + (end - start) * (step / duration_steps)


def linear_or_constant(step: float, start: float, end: float | None, duration_steps: float) -> float:
    """The straight line of `linear`, or start throughout where there is no end to go to."""
    return start if end is None else linear(step, start, end, duration_steps)


def exponential_decay(step: float, start: float, end: float, rate: float) -> float:
    """end + (start - end) * exp(-rate * step): nears end and never reaches it. All floats.

    The usual decay of epsilon in tabular lessons, where step counts episodes and end may be 0.
    """
    if step <= 0:
        return start
    return end + (start - end) * math.exp(-rate * step)
