"""Take rights away from this process: root may read and write every file."""

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

_VERSION = 0x20080522
_OVERRIDE, _READ_SEARCH = 1, 2
"""The numbers of Linux's capabilities to pass over the rights of files."""


@contextlib.contextmanager
def without(*paths: Path):
    """Let nobody read, write or enter these files and folders inside, not even root, in this thread."""
    modes = {path: path.stat().st_mode for path in paths}
    with _no_capabilities():
        for path in reversed(paths):
            path.chmod(0)
        try:
            if os.access(paths[0], os.R_OK, effective_ids=True):
                pytest.skip("this user may read every file")
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)


@contextlib.contextmanager
def _no_capabilities():
    """Give up root's right to pass over permissions. It stays permitted, so that it can be taken back."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, before) != 0:
        pytest.skip("there are no capabilities here")
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~(1 << _OVERRIDE | 1 << _READ_SEARCH)
    libc.capset(header, fewer)
    try:
        yield
    finally:
        libc.capset(header, before)
