"""numba's compiler with a cache on disk that notices changes in called functions."""

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_NEEDED_BYTES = 10_000_000
"""The free space that a cache folder needs: numba fails if the disk is full when it saves."""


def compiled(function: Callable) -> Any:
    """Compile a function with `numba.njit` and cache the result on disk, if there is a place for it.

    Use it for functions that Python calls. A function that only compiled code calls needs no more than `@njit`.

    numba's own cache notices a change in the function's file, but not in the files of compiled functions that it calls,
    so it would keep outdated ones. Here the name of the cache folder is a hash of all these files. Functions called as
    `module.function` are not found: import them by name.
    """
    if numba.config.DISABLE_JIT:  # NUMBA_DISABLE_JIT=1, for debuggers: numba gives plain functions
        return function
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(_sources(function)))).hexdigest()
    before = numba.config.CACHE_DIR
    root = _cache_root(before, str(Path(function.__code__.co_filename).parent / "__pycache__"))
    if root is None:
        return numba.njit(function)
    numba.config.CACHE_DIR = str(root / f"compiled-{digest[:16]}")
    try:
        return numba.njit(cache=True)(function)
    finally:
        numba.config.CACHE_DIR = before


@functools.cache
def _cache_root(chosen: str, beside: str) -> Path | None:
    """Return the first folder that a cache can be written to, or None.

    chosen: NUMBA_CACHE_DIR. beside: the folder beside the code, which an installed package may not let be written.
    """
    for folder in (chosen, beside):
        if folder and _is_usable(Path(folder)):
            return Path(folder)
    # numba unpickles what is in its cache, so in a folder of all users it must be our own, whoever made it.
    with contextlib.suppress(FileNotFoundError):  # there is no folder for temporary files
        own = Path(tempfile.gettempdir()) / f"rltrain-compiled-{os.getuid()}"
        return own if _is_usable(own, only_ours=True) else None
    return None


def _is_usable(folder: Path, only_ours: bool = False) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700 if only_ours else 0o777, parents=True, exist_ok=True)
        facts = os.lstat(folder)
        if only_ours and (facts.st_uid != os.getuid() or not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o022):
            return False
        return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _NEEDED_BYTES
    return False


def _sources(function: Callable) -> set[str]:
    """Return the files of a function and of all compiled functions that it calls by name."""
    files = {function.__code__.co_filename}
    for name in function.__code__.co_names:
        called = getattr(function.__globals__.get(name), "py_func", None)
        if called is not None:
            files |= _sources(called)
    return files
