"""The global generators of NumPy and Python. rltrain does not use them, but the user's environments may."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np


def seed(number: int) -> None:
    """Seed both generators."""
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)


class Separate:
    """Generators that only the code inside `with` uses, beside those of the process."""

    def __init__(self) -> None:
        self._states = _states()

    def __enter__(self) -> None:
        self._others = _states()
        _restore(self._states)

    def __exit__(self, *error: object) -> None:
        self._states = _states()
        _restore(self._others)


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Restore both generators at the end, so that what runs inside does not change the training."""
    states = _states()
    try:
        yield
    finally:
        _restore(states)


def _states() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()


def _restore(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
