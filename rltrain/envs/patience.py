"""How long to wait for an environment that does not answer: less once a signal has asked this process to stop.

Training and evaluation both wait for environments, so the request to stop is a state of the process, like its signals.
"""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType

STOPPING_S = 2.0
"""The longest step, in seconds, of a run that was asked to stop. The run should have saved and ended within 10 s."""

CLOSING_S = 10.0
"""The longest `close` of an environment in the trainer's process, in seconds."""

_stopping = False
_limit_s = math.inf
"""The longest stay in the code that the main thread has entered, if the run does not stop."""
_entered_s: float | None = None
"""The time at which the main thread entered an environment's code, on the monotonic clock; None outside of it."""


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


class StandsStill(BaseException):
    """Interrupts an environment's code that takes too long while the run stops."""


def is_stopping() -> bool:
    """Return true if a signal has asked the run to stop. A lost environment is then no longer replaced."""
    return _stopping


def hurry() -> None:
    """Shorten the waiting times, because the run was asked to stop. Call it in the main thread."""
    global _stopping
    _stopping = True
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, STOPPING_S, STOPPING_S / 4)


def calm() -> None:
    """Restore the normal waiting times, after the run has ended."""
    global _stopping
    _stopping = False
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGALRM: raise StandsStill if the main thread is in an environment for too long."""
    global _entered_s
    # The alarm may come from somebody else, so the time is checked here too.
    limit_s = STOPPING_S if _stopping else _limit_s
    if _entered_s is not None and time.monotonic() - _entered_s > limit_s:
        _entered_s = None  # so that the error is raised once, and never outside the environment's code
        raise StandsStill


@contextlib.contextmanager
def interruptible(limit_s: float = math.inf) -> Iterator[None]:
    """Run an environment's code in the main thread. Raises StandsStill in the middle of it if the run stops.

    limit_s: also raise StandsStill after so many seconds, if the process handles SIGALRM with `interrupt`.
    """
    global _entered_s, _limit_s
    _entered_s, _limit_s = time.monotonic(), limit_s
    timed = limit_s < math.inf and not _stopping and signal.getsignal(signal.SIGALRM) is interrupt
    if timed:
        signal.setitimer(signal.ITIMER_REAL, limit_s, STOPPING_S / 4)
    try:
        yield
    finally:
        _entered_s, _limit_s = None, math.inf
        if timed and not _stopping:
            signal.setitimer(signal.ITIMER_REAL, 0)
