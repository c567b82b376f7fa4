"""The global generators of NumPy, Python and torch. rltrain does not use them, but the user's environments may."""

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


def seed(number: int) -> None:
    """Seed the generators: torch's, on the CPU, only where torch is imported."""
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    if (generator := _of_torch()) is not None:
        generator.manual_seed(number)


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
    """Restore the generators at the end, so that what runs inside does not change the training."""
    states = _states()
    try:
        yield
    finally:
        _restore(states)


def _states() -> tuple[Any, Any, Any]:
    generator = _of_torch()
    return random.getstate(), np.random.get_state(), None if generator is None else generator.get_state()


def _restore(states: tuple[Any, Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    if states[2] is not None:  # else torch was not imported then
        _of_torch().set_state(states[2])


def _of_torch() -> Any:
    """Return torch's generator for the CPU; None if torch is not imported, because a table needs none."""
    return getattr(sys.modules.get("torch"), "default_generator", None)
