"""Answer signals in a command that plays episodes."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from rltrain.envs import patience
from rltrain.errors import Stopped
from rltrain.run.evaluation import Interrupted
from rltrain.system.signals import answering


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

    alarm = signal.signal(signal.SIGALRM, patience.interrupt)
    try:
        with answering(handle), contextlib.suppress(Interrupted):
            yield lambda: bool(received)
        if received:
            raise Stopped(received[0])
    finally:
        patience.calm()
        signal.signal(signal.SIGALRM, alarm)
