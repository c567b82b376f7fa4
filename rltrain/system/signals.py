"""Answer the signals that ask a run, a sweep or a command to stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextlib.contextmanager
def answering(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the stop signals inside with `handler`. nohup makes a process ignore SIGHUP: it stays ignored."""
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
