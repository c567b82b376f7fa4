"""The global generators of NumPy, Python and torch, and the seeds of gymnasium's generators that nobody has seeded.

rltrain does not use them, but the user's environments may.
"""

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import seeding

_numpy: Any = np.random
"""Its types do not tell of bit generators."""

_fresh = random.Random()
"""Seeds the generators that gymnasium makes without a seed: `np_random` in a constructor, that of a space."""
_np_random = seeding.np_random


def _seeded_np_random(seed: int | None = None) -> tuple[np.random.Generator, int]:
    return _np_random(_fresh.getrandbits(63) if seed is None else seed)


seeding.np_random = _seeded_np_random


def seed(number: int) -> None:
    """Seed the generators: torch's, on the CPU, only where torch is imported."""
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    seed_fresh(number)
    if (generator := _of_torch()) is not None:
        generator.manual_seed(number)


def seed_fresh(number: int) -> None:
    """Seed only what gymnasium's generators are made from."""
    _fresh.seed(number)


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


class _States(NamedTuple):
    python: Any
    bits: Any
    """NumPy's bit generator, which an environment may have set."""
    numpy: Any
    torch: Any
    """None if torch was not imported."""
    fresh: Any


def _states() -> _States:
    generator = _of_torch()
    return _States(
        random.getstate(),
        _numpy.get_bit_generator(),
        _numpy.get_state(legacy=False),
        None if generator is None else generator.get_state(),
        _fresh.getstate(),
    )


def _restore(states: _States) -> None:
    random.setstate(states.python)
    if _numpy.get_bit_generator() is not states.bits:
        _numpy.set_bit_generator(states.bits)
    _numpy.set_state(states.numpy)
    _fresh.setstate(states.fresh)
    if states.torch is not None:
        _of_torch().set_state(states.torch)


def _of_torch() -> Any:
    """Return torch's generator for the CPU; None if torch is not imported, because a table needs none."""
    return getattr(sys.modules.get("torch"), "default_generator", None)
