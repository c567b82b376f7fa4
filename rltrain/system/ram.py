"""Measure free and used memory, and refuse allocations that would not fit before making them."""

import contextlib
import os
import resource
import shutil
import sys
from pathlib import Path

import psutil

from rltrain.errors import DiskError, OutOfMemory

_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")


def free_bytes() -> int:
    """Return the bytes that this process can still allocate: the machine's free memory, or less in a container.

    A limit on its address space (`ulimit -v`) counts, too.
    """
    free = int(psutil.virtual_memory().available)
    if (limit_bytes := address_space_bytes()) is not None:
        free = min(free, limit_bytes - psutil.Process().memory_info().vms)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            # The container counts cached file pages as used, but frees them when memory is needed.
            inactive = next(
                int(line.split()[1])
                for line in (_CGROUP / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")
            )
            free = min(free, int(limit) - used + inactive)
    except (OSError, ValueError, StopIteration):
        pass  # not in a container, or in one without cgroup v2
    return max(free, 0)


def address_space_bytes() -> int | None:
    """Return the limit on this process's address space (`ulimit -v`), or None without one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def require(num_bytes: int, what: str, where: str, fix: str) -> None:
    """Raise OutOfMemory if `what` needs more bytes than are free."""
    free = free_bytes()
    if num_bytes > free:
        raise OutOfMemory(f"{what} needs {num_bytes / 1e9:.2f} GB but {free / 1e9:.2f} GB are free", where, fix)


def rss_mb() -> float:
    """Return the resident memory of this process in MB (10^6 bytes)."""
    return psutil.Process().memory_info().rss / 1e6


def peak_rss_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB


def require_shared(num_bytes: int, what: str, fix: str) -> None:
    """Raise DiskError if the shared memory is too small or read-only.

    A process that writes to more is killed by a bus error.

    what: what needs it, as the subject of the message.
    """
    if os.path.isdir(_SHARED_MEMORY) and not os.access(_SHARED_MEMORY, os.W_OK):
        raise DiskError(
            f"{what} shared memory, which cannot be written", str(_SHARED_MEMORY), "mount it to be writable"
        )
    with contextlib.suppress(OSError):  # a system without this folder
        free = shutil.disk_usage(_SHARED_MEMORY).free
        if num_bytes > free:
            text = f"{what} {num_bytes / 1e6:,.1f} MB of shared memory, but {free / 1e6:,.1f} MB are free"
            raise DiskError(text, str(_SHARED_MEMORY), f"{fix}, or in a container use: docker run --shm-size=1g")
