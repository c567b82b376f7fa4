"""How long to wait for an environment that does not answer: less once a signal has asked this process to stop.

Training and evaluation both wait for environments, so the request to stop is a state of the process, like its signals.
"""

import _thread
import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from rltrain.errors import EnvironmentFailure, Halt
from rltrain.system import process, signals

STOPPING_S = 2.0
"""The longest step, in seconds, of a run that was asked to stop. The run should have saved and ended within 10 s."""

CLOSING_S = 10.0
"""The longest `close` of an environment in the trainer's process, in seconds."""

MAKING_S = 100.0
"""The longest constructor of an environment, in seconds, unless `env.step_timeout_s` is longer. A worker's first answer
may take 120 s."""

_stopping = False
_exit_code = 0
"""The exit code of a process that stops."""
_limit_s = math.inf
"""The longest stay in the code that the main thread has entered, if the run does not stop."""
_within_s = math.inf
"""The longest stay in any environment's code inside `within`."""
_entered_s: float | None = None
"""The time at which the main thread entered an environment's code, on the monotonic clock; None outside of it."""
_interrupts = 0
"""How often the code that the main thread is in was interrupted."""
_INTERRUPT = signal.SIGURG
"""The signal that interrupts an environment's code. Environments do not use it, and the system ignores it elsewhere."""
_MOST_INTERRUPTS = 3
"""An environment that catches every error, also this often, ends the process: nothing else can."""


class Clock:
    """A clock for time-outs that leaves out the time during which this process was suspended (SIGSTOP, Ctrl-Z).

    Call `look` regularly. It adds the time since the last call, but at most `longest_s`.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._looked_s = time.monotonic()
        self.now_s = 0.0
        """The time of the last `look`, in seconds."""

    def look(self) -> float:
        """Update `now_s` and return it."""
        now_s = time.monotonic()
        self.now_s += min(now_s - self._looked_s, self._longest_s)
        self._looked_s = now_s
        return self.now_s


class StandsStill(Halt):
    """Interrupts an environment's code that takes too long while the run stops."""


def is_stopping() -> bool:
    """Return true if a signal has asked the run to stop. A lost environment is then no longer replaced."""
    return _stopping


def leave_alarm() -> None:
    """Leave SIGALRM to the environments. An alarm without a handler passes: it must not end the training.

    Call it in the main thread before an environment's module is imported, which may set a handler.
    """
    if signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
        signal.signal(signal.SIGALRM, signals.no_answer)


@contextlib.contextmanager
def alarm_kept() -> Iterator[None]:
    """Put the handler of SIGALRM back at the end: other environments of this process may have set it."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) != before is not None:  # None: a handler that a library has set in C
            signal.signal(signal.SIGALRM, before)


def hurry(exit_code: int) -> None:
    """Shorten the waiting times, because the run was asked to stop. Call it in the main thread.

    exit_code: that of the signal, for an environment that cannot be left.
    """
    global _stopping, _exit_code, _stop_watch
    _stopping, _exit_code = True, exit_code
    if _stop_watch is None:
        _stop_watch = _Watch(STOPPING_S / 4)


def calm() -> None:
    """Restore the normal waiting times, after the run has ended."""
    global _stopping, _stop_watch
    _stopping = False
    if _stop_watch is not None:
        _stop_watch.end()
        _stop_watch = None


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle the signal of a watch: raise StandsStill if the main thread is in an environment for too long.

    Code that catches it and goes on is interrupted again, and at last the process ends.
    """
    global _interrupts
    if _is_late():  # else the signal came when the environment's code had just ended, or from somebody else
        _interrupts += 1
        if _interrupts == _MOST_INTERRUPTS:
            what = "an environment stands still and catches every error, so nothing could be saved now"
            failure = EnvironmentFailure(what, "env.id", "go on from the last checkpoint")
            process.end_with(failure, _exit_code if _stopping else failure.exit_code)
        raise StandsStill


def _is_late() -> bool:
    longest_s = STOPPING_S if _stopping else min(_limit_s, _within_s)
    entered_s, limit_s = _entered_s, longest_s + _interrupts * STOPPING_S
    return entered_s is not None and time.monotonic() - entered_s > limit_s


class _Watch:
    """A thread that interrupts the main thread while that is in an environment's code for too long.

    Not a timer of the system, as its signal, SIGALRM, belongs to the environments. `_thread` and a lock, because
    `threading` takes locks that the main thread may hold when a stop signal comes.
    """

    def __init__(self, every_s: float) -> None:
        signal.signal(_INTERRUPT, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [_INTERRUPT])
        self._every_s = every_s
        self._running = _thread.allocate_lock()
        self._running.acquire()
        with contextlib.suppress(RuntimeError, MemoryError):  # too little memory for another thread
            _thread.start_new_thread(self._look, ())

    def end(self) -> None:
        """End the thread."""
        self._running.release()

    def _look(self) -> None:
        while not self._running.acquire(timeout=self._every_s):
            if _is_late():
                signal.pthread_kill(threading.main_thread().ident or 0, _INTERRUPT)


_stop_watch: _Watch | None = None
"""The watch of a process that stops."""


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Raise StandsStill inside, in the main thread, if an environment's code takes longer."""
    global _within_s
    is_main = threading.current_thread() is threading.main_thread()
    watch = _Watch(min(limit_s, STOPPING_S / 4)) if is_main else None
    _within_s = limit_s
    try:
        yield
    finally:
        _within_s = math.inf
        if watch is not None:
            watch.end()


class interruptible:
    """Run an environment's code in the main thread. Raises StandsStill in the middle of it if the run stops."""

    def __init__(self, limit_s: float = math.inf) -> None:
        """limit_s: also raise StandsStill after so many seconds, in the main thread."""
        self._limit_s = limit_s
        self._watch: _Watch | None = None

    def __enter__(self) -> None:
        global _entered_s, _limit_s, _interrupts
        _entered_s, _limit_s, _interrupts = time.monotonic(), self._limit_s, 0
        if self._limit_s < math.inf and threading.current_thread() is threading.main_thread():
            self._watch = _Watch(min(self._limit_s, STOPPING_S / 4))

    def __exit__(self, *error: object) -> None:
        global _entered_s, _limit_s
        _entered_s, _limit_s = None, math.inf
        if self._watch is not None:
            self._watch.end()
            self._watch = None
