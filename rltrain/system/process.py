"""Settings of the system's libraries for a training process. Most libraries read them only once, when loaded."""

import atexit
import contextlib
import ctypes
import gc
import io
import multiprocessing
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from rltrain.errors import ConfigError, RltrainError
from rltrain.system import inside

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt (malloc.h)."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""The signals that ask a run, a sweep or a command to stop."""

exit_now = os._exit
"""Kept for rltrain's own use, because the guard of environments replaces `os._exit` (envs/gym/guard.py)."""

last_words: list[Callable[[str, int], object]] = []
"""What to call with the reason and the exit code before the process is ended from within a library or an environment.

A run writes them to its folder.
"""

undead: list[object] = []
"""What is never destroyed, because its destructor may hang: environments with a `__del__` of their own."""

PARENT = os.getppid()
"""The process that started this one."""

started_in: str | None = None
"""The working directory in which the command was typed, for `absolute`; None in a process without a command line."""

_umask = os.umask(0o077)  # it can only be read by setting it
os.umask(_umask)

_exit_code: int | None = None
"""The code to exit with, once all is done."""

exit_s = 10.0
"""The time that Python gets to end. An environment may leave a thread or an exit hook behind that never ends."""


def require_working_directory() -> None:
    """Raise ConfigError if the working directory was deleted: Hydra and Python itself ask for it."""
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError("the working directory was deleted", "cd", "change to a folder that exists") from error


def distrust_working_directory() -> None:
    """Raise ConfigError for files in the working directory, which may be somebody else's run, that libraries read.

    Numba's can name a place for compiled code and modules to import, ViZDoom's a program to start. Programs are not
    looked for there either, as an empty entry of PATH asks for.
    """
    refuse_settings(".numba_config.yaml", "numba", "stand in another folder; set NUMBA_* variables instead")
    if inside.stands_in_a_run():
        refuse_settings("_vizdoom.cfg", "ViZDoom", "stand in another folder")  # also for env=gym
        path = os.environ.get("PATH", os.defpath).split(os.pathsep)
        os.environ["PATH"] = os.pathsep.join(folder for folder in path if os.path.isabs(folder))


def refuse_settings(name: str, library: str, fix: str) -> None:
    """Raise ConfigError if the working directory has a file `name`, from which a library would take settings."""
    if os.path.lexists(name):
        raise ConfigError(f"the working directory has a {name}, which {library} would read", name, fix)


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Stand in the root folder inside, for libraries that read settings in the working directory when imported."""
    before = os.getcwd()
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(before)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of what the user typed. A plugin or an environment may have changed the directory."""
    return Path(started_in or os.getcwd(), path)


def require_children() -> None:
    """Raise ConfigError in a process that Python lets start no others, such as those of `multiprocessing.Pool`."""
    if multiprocessing.current_process().daemon:
        what = "this process is daemonic, as those of a multiprocessing.Pool are, and may start no other one"
        fix = "start rltrain by subprocess.run(['rltrain', ...]), or in a multiprocessing.Process"
        raise ConfigError(what, "env.workers, algo.num_workers", fix)


def python(code: str) -> list[str]:
    """Return the command that runs `code` in another Python, which finds the same modules as this one.

    -P: else Python looks in the working directory first, where somebody else's `socket.py` may lie.
    """
    path = [folder for folder in sys.path if isinstance(folder, str)]  # Python leaves out others, too
    return [sys.executable, "-P", "-c", f"import sys; sys.path[:] = {path!r}; {code}"]


_called_by_c: list[object] = []
"""Functions that C code calls: they must stay."""


def answer_exit_of_c(answer: Callable[[], object]) -> None:
    """Call a function when C code ends the process with `exit`, which Python cannot refuse. Only with glibc.

    It is also called when Python ends, while that can still call functions.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    called = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: answer())
    owner = ctypes.create_string_buffer(1)  # in place of a shared library: glibc forgets its functions with it
    libc.__cxa_atexit(called, None, owner)
    atexit.register(lambda: libc.__cxa_finalize(owner))
    _called_by_c.append(called)


def keep_umask() -> None:
    """Put the umask back if an environment has taken the user's own rights to new files away."""
    changed = os.umask(_umask)
    if not changed & stat.S_IRWXU:  # more or fewer rights for others are the environment's choice
        os.umask(changed)


def end_with(error: RltrainError, code: int) -> NoReturn:
    """Print an error, call `last_words` with it, and exit with `code` at once."""
    with contextlib.suppress(OSError):  # not print: a signal may have interrupted a print, which is not reentrant
        os.write(2, f"rltrain: error: {error}\n".encode())
    for tell in last_words:
        tell(str(error), code)
    exit_now(code)


def leave(code: int) -> NoReturn:
    """Exit with `code` at once, whatever still runs."""
    with contextlib.suppress(RuntimeError):  # a signal may have interrupted a print, which is not reentrant
        sys.stdout.flush()
        sys.stderr.flush()
    exit_now(code)


def end_soon(code: int) -> None:
    """Exit with `code` after some seconds, or at a stop signal, whatever still runs. Call it when all is done."""
    global _exit_code
    _exit_code = code
    stop_timers()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: leave(code))
    timer = threading.Timer(exit_s, leave, [code])
    timer.daemon = True
    with contextlib.suppress(RuntimeError, MemoryError):  # too little memory for another thread
        timer.start()


def stop_timers() -> None:
    """Stop the timers that an environment has left on. Call it when all is done.

    Python takes their handlers away before the process has ended, and what they raise would be nobody's.
    """
    for clock in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(clock, 0)


def _at_the_end() -> None:
    """End the process before Python destroys what is left, if there is something that must not be destroyed.

    Else Python soon takes the handlers of signals away. One that comes then must not change the exit code.
    """
    if _exit_code is None:
        return
    if undead:
        flush_files()
        leave(_exit_code)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def flush_files() -> None:
    """Write what open files still hold, as Python does when it destroys them: an environment may log to them."""
    for each in gc.get_objects():
        # Not isinstance, for which some objects of torch compute their class.
        if issubclass(type(each), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(Exception):  # a closed file or pipe, a full disk
                each.flush()


def usable_cores() -> int:
    """Return the number of cores that this process may use. A container or `taskset` can allow fewer than all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted_threads() -> int:
    """Return the number of threads for large layers: all usable cores, or fewer if OMP_NUM_THREADS says so.

    joblib sets OMP_NUM_THREADS so that parallel jobs share the cores. The processes of a distributed run share them
    too, and torch's launcher says how many there are.
    """
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    cores = max(1, usable_cores() // int(processes)) if processes.isdecimal() and int(processes) else usable_cores()
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(limit) if limit.isdecimal() and int(limit) else sys.maxsize, cores)


def _compiler_cache() -> str | None:
    """Return the folder for what torch's compiler keeps; None if the user's cache folder cannot be used.

    Without it, torch leaves a folder among the temporary files, which also exists if nothing is compiled.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not root.is_absolute():  # a user without a home
        return None
    # Unlike Path.exists, it takes a folder that this user may not enter.
    there = next(folder for folder in (root, *root.parents) if os.path.exists(folder))
    return str(root / "rltrain" / "torch") if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def prepare() -> None:
    """Set short spin waits, one BLAS thread for NumPy, the same hashes in all workers, a place for compiled code, an
    allocator that keeps memory."""
    atexit.register(_at_the_end)  # first, so that it comes after all other exit hooks
    # Waiting threads spin only briefly before they sleep. With OpenMP's default, a second busy process slowed one
    # update from 27 to 434 ms. Some spinning must stay: between two layers of an update of 32 samples one thread works
    # alone, and a thread that fell asleep would delay the next layer.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # NumPy multiplies only the small matrices of small networks, where a second thread does not help.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # OpenCV puts its folder before this. If it is empty, its empty end means the working directory to each program that
    # is started then, where somebody else's library may lie.
    if not os.environ.get("LD_LIBRARY_PATH"):
        os.environ["LD_LIBRARY_PATH"] = "/nonexistent"
    # Worker processes must agree on the order of a set, from which an environment may take its actions.
    if os.environ.get("PYTHONHASHSEED", "random") == "random":
        os.environ["PYTHONHASHSEED"] = "0"
    if cache := _compiler_cache():
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
    # Every update allocates and frees megabytes of gradients and activations. By default glibc returns their pages to
    # the system, which clears them again for the next update: a third of the time of an update of 32 samples. Larger
    # blocks, such as a replay buffer, still get their own pages, which take no memory until they are written to.
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20) or libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)
        libc.mallopt(_M_ARENA_MAX, 1)
