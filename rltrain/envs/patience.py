"""How long to wait for an environment that does not answer: less once a signal has asked this process to stop.

Training and evaluation both wait for environments, so the request to stop is a state of the process, like its signals.
"""

import math
import signal
import threading
import time
from types import FrameType

from rltrain.errors import EnvironmentFailure, Halt
from rltrain.system import process

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
_entered_s: float | None = None
"""The time at which the main thread entered an environment's code, on the monotonic clock; None outside of it."""
_interrupts = 0
"""How often the code that the main thread is in was interrupted."""
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


def hurry(exit_code: int) -> None:
    """Shorten the waiting times, because the run was asked to stop. Call it in the main thread.

    exit_code: that of the signal, for an environment that cannot be left.
    """
    global _stopping, _exit_code
    _stopping, _exit_code = True, exit_code
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, STOPPING_S, STOPPING_S / 4)


def calm() -> None:
    """Restore the normal waiting times, after the run has ended."""
    global _stopping
    _stopping = False
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGALRM: raise StandsStill if the main thread is in an environment for too long.

    Code that catches it and goes on is interrupted again, and at last the process ends.
    """
    global _interrupts
    # The alarm may come from somebody else, so the time is checked here too.
    limit_s = (STOPPING_S if _stopping else _limit_s) + _interrupts * STOPPING_S
    if _entered_s is not None and time.monotonic() - _entered_s > limit_s:
        _interrupts += 1
        if _interrupts == _MOST_INTERRUPTS:
            what = "an environment stands still and catches every error, so nothing could be saved now"
            failure = EnvironmentFailure(what, "env.id", "go on from the last checkpoint")
            process.end_with(failure, _exit_code if _stopping else failure.exit_code)
        raise StandsStill


class interruptible:
    """Run an environment's code in the main thread. Raises StandsStill in the middle of it if the run stops."""

    def __init__(self, limit_s: float = math.inf) -> None:
        """limit_s: also raise StandsStill after so many seconds, in the main thread."""
        self._limit_s = limit_s

    def __enter__(self) -> None:
        global _entered_s, _limit_s, _interrupts
        self._entered_s, _interrupts = time.monotonic(), 0
        _entered_s, _limit_s = self._entered_s, self._limit_s
        self._timed = self._limit_s < math.inf and threading.current_thread() is threading.main_thread()
        if self._timed:
            self._before = signal.signal(signal.SIGALRM, interrupt)
            first_s = STOPPING_S if _stopping else self._limit_s
            self._alarm = signal.setitimer(signal.ITIMER_REAL, first_s, STOPPING_S / 4)

    def __exit__(self, *error: object) -> None:
        global _entered_s, _limit_s
        _entered_s, _limit_s = None, math.inf
        if self._timed and not (_stopping and self._before is interrupt):  # else the alarm that `hurry` set goes on
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL if self._before is None else self._before)
            if self._alarm[0]:  # somebody else's
                left_s = max(self._alarm[0] - (time.monotonic() - self._entered_s), 0.001)
                signal.setitimer(signal.ITIMER_REAL, left_s, self._alarm[1])
