"""numba's compiler with a cache on disk that notices changes in called functions."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable) -> Any:
    """Compile a function with `numba.njit` and cache the result on disk.

    Use it for functions that Python calls. A function that only compiled code calls needs no more than `@njit`.

    numba's own cache notices a change in the function's file, but not in the files of compiled functions that it calls,
    so it would keep outdated ones. Here the name of the cache folder is a hash of all these files. Functions called as
    `module.function` are not found: import them by name.
    """
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(_sources(function)))).hexdigest()
    before = numba.config.CACHE_DIR
    root = Path(before) if before else Path(function.__code__.co_filename).parent / "__pycache__"
    numba.config.CACHE_DIR = str(root / f"compiled-{digest[:16]}")
    try:
        return numba.njit(cache=True)(function)  # if the folder cannot be written, numba uses its default folder
    finally:
        numba.config.CACHE_DIR = before


def _sources(function: Callable) -> set[str]:
    """Return the files of a function and of all compiled functions that it calls by name."""
    files = {function.__code__.co_filename}
    for name in function.__code__.co_names:
        called = getattr(function.__globals__.get(name), "py_func", None)
        if called is not None:
            files |= _sources(called)
    return files
