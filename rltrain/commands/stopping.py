"""Answer signals in a command that plays episodes."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from rltrain.envs import patience
from rltrain.errors import Stopped
from rltrain.run.evaluation import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Give a function that returns True once a signal has asked this process to stop.

    A second SIGINT exits immediately. Environments that are started inside are closed by whoever started them, so call
    the function between two steps. Raises Stopped at the end if a signal came.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            os._exit(128 + number)
        received.append(number)
        patience.hurry()

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()  # nohup
    before = {number: signal.signal(number, handle) for number in _SIGNALS if number not in ignored}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, patience.interrupt)
    try:
        with contextlib.suppress(Interrupted):
            yield lambda: bool(received)
        if received:
            raise Stopped(received[0])
    finally:
        patience.calm()
        for number, earlier in before.items():
            signal.signal(number, earlier)
