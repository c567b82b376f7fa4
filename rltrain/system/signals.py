"""Answer the signals that ask a run, a sweep or a command to stop, whatever an environment does to their handlers."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from rltrain.errors import Halt
from rltrain.system import process, terminal

STOP_SIGNALS = process.STOP_SIGNALS

interrupts: list[int] = []
"""The signals that `interrupt` has received."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT where nothing else does: while a run is prepared, and in commands that only read.

    The second one exits at once. Libraries may turn KeyboardInterrupt into another error, or ignore it in a destructor.
    So `answering` raises it again, before anything begins.
    """
    terminal.give_up_full_streams()
    if interrupts:
        process.leave(128 + number)
    interrupts.append(number)
    raise KeyboardInterrupt


_ONE_PRESS_S = 1.0
"""The time in which one Ctrl-C may arrive twice: uv, make and others pass on what the terminal has sent to all."""


class Presses:
    """Tells a second Ctrl-C from the first one that arrives twice."""

    def __init__(self) -> None:
        self._first_s = math.inf

    def is_second(self, number: int) -> bool:
        """Note a stop signal. Returns True for a SIGINT more than a second after the first signal."""
        now_s = time.monotonic()
        self._first_s = min(self._first_s, now_s)
        return number == signal.SIGINT and now_s > self._first_s + _ONE_PRESS_S


def pass_over_unraisable() -> None:
    """Print nothing for a stop that Python ignores, as in a destructor: it is raised again later."""

    def hook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt | Halt):
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = hook


def no_answer(number: int, frame: FrameType | None) -> None:
    """Let a signal pass. Programs that the process starts do not inherit this handler, as they do SIG_IGN."""


@contextlib.contextmanager
def answering(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the stop signals inside with `handler`. nohup makes a process ignore SIGHUP: it stays ignored."""
    global _kept
    if interrupts:
        raise KeyboardInterrupt

    def answer(number: int, frame: FrameType | None) -> None:
        terminal.give_up_full_streams()
        handler(number, frame)

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, answer) for number in STOP_SIGNALS if number not in ignored}
    outer, _kept = _kept, _kept | dict.fromkeys(before, answer)
    try:
        let_through(_kept)
        yield
    finally:
        _kept = outer
        for number, earlier in before.items():
            signal.signal(number, earlier)


_kept: dict[int, Any] = {}
"""The handlers inside `answering`."""


def keep_process() -> None:
    """Take the signals and the umask back from an environment: call it after environments were made or reset.

    The handlers are set in any case, because Python does not know of those that a library has set in C.
    """
    process.keep_umask()
    if threading.current_thread() is threading.main_thread():
        for number, handler in _kept.items():
            signal.signal(number, handler)
        let_through(_kept)


def let_through(numbers: Iterable[int]) -> None:
    """Unblock signals that are answered, and SIGCHLD.

    An environment may block them, and so may the program that starts rltrain, which hands its mask over.
    While SIGCHLD is ignored, also by a library in C, the ends of worker processes are not told. A handler of Python's
    does no harm.
    """
    if threading.current_thread() is not threading.main_thread():  # of a program that runs a command
        return
    if signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, signal.SIG_IGN, None):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*numbers, signal.SIGCHLD})


def _give_back() -> None:
    """Let a forked process, such as one of an environment's pool, be ended as any other: drop rltrain's handlers."""
    for number in (*STOP_SIGNALS, signal.SIGALRM):
        handler = signal.getsignal(number)
        if str(getattr(handler, "__module__", "")).startswith("rltrain."):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            with contextlib.suppress(ValueError):  # the thread that forked was not the main one
                signal.signal(number, default)


_fork = threading.local()


def _hold_back() -> None:
    """Block the signals during a fork: one that comes before `_give_back` would be lost, and the process never end."""
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _let_pass() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


# Python calls what is registered for the child in this order.
os.register_at_fork(before=_hold_back, after_in_parent=_let_pass, after_in_child=_give_back)
os.register_at_fork(after_in_child=_let_pass)
