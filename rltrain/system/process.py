"""What a training process asks of the system's libraries; before they are loaded, as most of them ask only once."""

import contextlib
import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of glibc's mallopt (malloc.h)."""


def usable_cores() -> int:
    """Cores that this process may use: a container or `taskset` may give fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted_threads() -> int:
    """Threads that large layers may take: every usable core, or the fewer that OMP_NUM_THREADS names.

    joblib sets it to a job's share of the cores for jobs side by side.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(named) if named.isdecimal() and int(named) else sys.maxsize, usable_cores())


def prepare() -> None:
    """Threads that wait little, and memory that is kept for the next update."""
    # Threads that wait for each other give their core away soon. With the default, a second busy process on the machine
    # was seen to slow one update from 27 to 434 ms. Not at once: between two layers of an update of 32 there is work
    # for one thread alone, and the other, once asleep, is missed by the next layer.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # NumPy's matrix products are those of small networks, for which a second thread only waits.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Gradients and activations of megabytes come and go in every update. By default their pages go back to the system
    # each time and are cleared anew: a third of the time of an update of 32. What is larger, such as a replay, still
    # gets pages of its own, which cost nothing until they are written to.
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20) or libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)
        libc.mallopt(_M_ARENA_MAX, 1)
