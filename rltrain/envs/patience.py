"""How long an environment that does not answer is waited for: less once this process was asked to stop.

That is a fact of the process, as signals are: whoever waits for an environment, be it in an evaluation, asks here.
"""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

STOPPING_S = 2.0
"""How long a step may take once a stop was asked for: in 10 s the run is to be gone, and all saved."""

_stopping = False
_since_s: float | None = None
"""When the main thread went into an environment's own code, on the monotonic clock."""


class Clock:
    """Seconds, for who looks at it now and then; a pause of this process is not the environment's fault.

    Counts the time between two looks, but at most `longest_s` of it: a trainer that was suspended together with its
    environments (SIGSTOP, Ctrl-Z) goes on as if hardly any time had passed.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._looked_s = time.monotonic()
        self.now_s = 0.0
        """As of the last look."""

    def look(self) -> float:
        """Count on; returns `now_s`."""
        now_s = time.monotonic()
        self.now_s += min(now_s - self._looked_s, self._longest_s)
        self._looked_s = now_s
        return self.now_s


class StandsStill(BaseException):
    """Raised in an environment's own code, which has taken too long since a stop was asked for."""


def is_stopping() -> bool:
    """Whether a stop was asked for. A lost environment is then replaced by none: it stands still until the end."""
    return _stopping


def hurry() -> None:
    """A stop was asked for. In the main thread, where signals are handled."""
    global _stopping
    _stopping = True
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, STOPPING_S, STOPPING_S / 4)


def calm() -> None:
    """Wait as long as before: the run that was to stop has ended."""
    global _stopping
    _stopping = False
    if signal.getsignal(signal.SIGALRM) is interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of SIGALRM. Raises StandsStill where the main thread has been in an environment for too long."""
    global _since_s
    if _stopping and _since_s is not None and time.monotonic() - _since_s > STOPPING_S:  # and no alarm of others
        _since_s = None  # so never outside of it
        raise StandsStill


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Around an environment's own code in the main thread. Raises StandsStill, in the middle of it."""
    global _since_s
    _since_s = time.monotonic()
    try:
        yield
    finally:
        _since_s = None
