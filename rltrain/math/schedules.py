"""Schedules as pure functions of the step. They have no state, so a resumed run continues exactly.

`step` and `duration_steps` usually count agent steps of all environments. Any other unit works too.
"""

import math


def linear(step: float, start: float, end: float, duration_steps: float) -> float:
    """Interpolate linearly from start at step 0 to end at duration_steps. Constant before and after.

    A duration of 0 gives end.
    """
    if step >= duration_steps:  # exactly end: in floating point start + (end - start) may differ from it
        return end
    if step <= 0:
        return start
    return start + (end - start) * (step / duration_steps)


def linear_or_constant(step: float, start: float, end: float | None, duration_steps: float) -> float:
    """Return `linear(...)`, or start if end is None."""
    return start if end is None else linear(step, start, end, duration_steps)


def exponential_decay(step: float, start: float, end: float, rate: float) -> float:
    """Return end + (start - end) * exp(-rate * step).

    Tutorials of tabular learning use it for epsilon, where `step` counts episodes.
    """
    if step <= 0:
        return start
    return end + (start - end) * math.exp(-rate * step)
