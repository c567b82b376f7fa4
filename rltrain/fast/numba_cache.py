"""numba's compiler with a cache that can be trusted."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable) -> Any:
    """`numba.njit`, kept on disk from one process to the next.

    numba's own cache notices a change in the file of the function, but none in those of the compiled functions that it
    calls: after an update it would go on with the old ones. Here the name of the cache's folder follows from all of
    those that are called by a name of the module (not as `module.function`).
    """
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(_sources(function)))).hexdigest()
    before = numba.config.CACHE_DIR
    root = Path(before) if before else Path(function.__code__.co_filename).parent / "__pycache__"
    numba.config.CACHE_DIR = str(root / f"compiled-{digest[:16]}")
    try:
        return numba.njit(cache=True)(function)  # a folder that cannot be written gives way to numba's usual one
    finally:
        numba.config.CACHE_DIR = before


def _sources(function: Callable) -> set[str]:
    """The files of a function and of every compiled function that it calls."""
    files = {function.__code__.co_filename}
    for name in function.__code__.co_names:
        called = getattr(function.__globals__.get(name), "py_func", None)
        if called is not None:
            files |= _sources(called)
    return files
