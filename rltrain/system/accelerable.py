"""Functions that have a faster twin: marked where they are written, switched in one place (`fast/accelerate.py`)."""

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Accelerable(Generic[P, R]):
    """Call the plain function, or the twin that has taken its place.

    A twin has the same arguments and results. As long as nobody has switched it on, the plain function is called.
    """

    def __init__(self, plain: Callable[P, R]) -> None:
        self.plain = plain
        """The function as it is written: the oracle that its twin is tested against."""
        self.current = plain
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.current(*args, **kwargs)


def accelerable(plain: Callable[P, R]) -> Accelerable[P, R]:
    """Mark a function that `fast` may replace."""
    return Accelerable(plain)
