"""Functions that have an accelerated twin. `fast/accelerate.py` switches the twins on."""

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Accelerable(Generic[P, R]):
    """A function that calls its plain version, or its accelerated twin if the twin is switched on.

    The twin has the same arguments and results.
    """

    def __init__(self, plain: Callable[P, R]) -> None:
        self.plain = plain
        """The plain version. Tests compare the twin with it."""
        self.current = plain
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.current(*args, **kwargs)


def accelerable(plain: Callable[P, R]) -> Accelerable[P, R]:
    """Mark a function that `fast` may replace by a twin."""
    return Accelerable(plain)
