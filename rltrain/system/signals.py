"""Answer the signals that ask a run, a sweep or a command to stop."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from rltrain.system import process

STOP_SIGNALS = process.STOP_SIGNALS

interrupts: list[int] = []
"""The signals that `interrupt` has received."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT where nothing else does: while a run is prepared, and in commands that only read.

    The second one exits at once. Libraries may turn KeyboardInterrupt into another error, or ignore it in a destructor.
    So `answering` raises it again, before anything begins.
    """
    if interrupts:
        process.leave(128 + number)
    interrupts.append(number)
    raise KeyboardInterrupt


def no_answer(number: int, frame: FrameType | None) -> None:
    """Let a signal pass. Programs that the process starts do not inherit this handler, as they do SIG_IGN."""


@contextlib.contextmanager
def answering(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the stop signals inside with `handler`. nohup makes a process ignore SIGHUP: it stays ignored."""
    if interrupts:
        raise KeyboardInterrupt
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _give_back() -> None:
    """Let a forked process, such as one of an environment's pool, be ended as any other: drop rltrain's handlers."""
    for number in STOP_SIGNALS:
        handler = signal.getsignal(number)
        if str(getattr(handler, "__module__", "")).startswith("rltrain."):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            with contextlib.suppress(ValueError):  # the thread that forked was not the main one
                signal.signal(number, default)


os.register_at_fork(after_in_child=_give_back)
