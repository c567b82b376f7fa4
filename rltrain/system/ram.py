"""How much memory is free, and refusing what would not fit before any of it is taken."""

import resource
import sys
from pathlib import Path

import psutil

from rltrain.errors import OutOfMemory

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int:
    """What this process can still take: the machine's free memory, or less where a container has a limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            # Pages of files that were read count as used and are given back when memory is needed.
            inactive = next(
                int(line.split()[1])
                for line in (_CGROUP / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")
            )
            free = min(free, int(limit) - used + inactive)
    except (OSError, ValueError, StopIteration):
        pass  # no container, or one of another kind
    return max(free, 0)


def require(num_bytes: int, what: str, where: str, fix: str) -> None:
    """Raise OutOfMemory, with the numbers, where `what` needs more than is free."""
    free = free_bytes()
    if num_bytes > free:
        raise OutOfMemory(f"{what} needs {num_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free", where, fix)


def rss_mb() -> float:
    """What this process holds now, in MB of 10^6 bytes."""
    return psutil.Process().memory_info().rss / 1e6


def peak_rss_mb() -> float:
    """The most that it ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB
