"""The global generators of NumPy, Python, torch and numba, and the seeds of gymnasium's generators that have none.

rltrain does not use them, but the user's environments may.
"""

import contextlib
import ctypes
import os
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import seeding

_numpy: Any = np.random
"""Its types do not tell of bit generators."""

_fresh = random.Random()
"""Seeds the generators that are made or seeded without a seed: gymnasium's `np_random` in a constructor and that of a
space, those of NumPy and Python by `np.random.seed(None)` and `random.seed(None)`."""
_np_random = seeding.np_random
_numpy_seed, _python_seed = _numpy.seed, random.seed


def _seeded_np_random(seed: int | None = None) -> tuple[np.random.Generator, int]:
    return _np_random(_fresh.getrandbits(63) if seed is None else seed)


def _seeded_numpy(seed: Any = None) -> None:
    _numpy_seed(_fresh.getrandbits(32) if seed is None else seed)


def _seeded_python(a: Any = None, version: int = 2) -> None:
    _python_seed(_fresh.getrandbits(63) if a is None else a, version)


seeding.np_random = _seeded_np_random

_of_child = 0


def _before_fork() -> None:
    global _of_child
    _of_child = _fresh.getrandbits(63)


# The processes of an environment's pool call `np.random.seed()` to draw different numbers.
os.register_at_fork(before=_before_fork, after_in_child=lambda: _fresh.seed(_of_child))
# The `reset` of an environment may hand on its seed, which is None after the first episode.
_numpy.seed, random.seed = _seeded_numpy, _seeded_python


def seed(number: int) -> None:
    """Seed the generators: torch's, on the CPU, and numba's only where these are imported."""
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    seed_fresh(number)
    for place in _of_numba():
        _numba().rnd_seed(place, number & 0xFFFFFFFF)
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


@contextlib.contextmanager
def fixed(number: int = 0) -> Iterator[None]:
    """Seed the generators inside alike in each process, and restore them at the end.

    A module of the user's may draw when it is imported, which each process does at another time.
    """
    with preserved():
        seed(number)
        yield


class _States(NamedTuple):
    python: Any
    bits: Any
    """NumPy's bit generator, which an environment may have set."""
    numpy: Any
    torch: Any
    """None if torch was not imported."""
    numba: list[bytes]
    """Empty if numba was not imported."""
    fresh: Any


def _states() -> _States:
    generator = _of_torch()
    return _States(
        random.getstate(),
        _numpy.get_bit_generator(),
        _numpy.get_state(legacy=False),
        None if generator is None else generator.get_state(),
        [ctypes.string_at(place, ctypes.sizeof(_NumbaState)) for place in _of_numba()],
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
    for place, state in zip(_of_numba(), states.numba, strict=False):
        ctypes.memmove(place, state, len(state))
    if not states.numba:  # it may have been imported since then, with a seed of the system's
        for place in _of_numba():
            _numba().rnd_seed(place, _fresh.getrandbits(32))


def _of_torch() -> Any:
    """Return torch's generator for the CPU; None if torch is not imported, because a table needs none.

    None also in the middle of torch's import, when its generator crashes. A module of the user's may be imported then,
    such as a `pynvml.py`, which torch looks for.
    """
    torch: Any = sys.modules.get("torch")
    is_whole = torch is not None and not getattr(torch.__spec__, "_initializing", False)
    return getattr(torch, "default_generator", None) if is_whole else None


class _NumbaState(ctypes.Structure):
    """A generator of numba's, as its _random.h declares it."""

    _fields_ = (
        ("index", ctypes.c_int),
        ("mt", ctypes.c_uint * 624),
        ("has_gauss", ctypes.c_int),
        ("gauss", ctypes.c_double),
        ("is_initialized", ctypes.c_int),
    )


def _numba() -> Any:
    return sys.modules.get("numba._helperlib")


def _of_numba() -> list[int]:
    """Return where numba's two generators of this thread are, which compiled code uses: NumPy's and Python's.

    Empty if numba is not imported. Its own functions for a state leave out the second number of a normal pair.
    """
    numba = _numba()
    return [] if numba is None else [numba.rnd_get_np_state_ptr(), numba.rnd_get_py_state_ptr()]
