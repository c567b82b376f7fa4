"""A worker process: the loop that answers calls, and the watch that kills it if it hangs."""

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psutil

from rltrain.config import plugin_modules
from rltrain.config.user_code import describe
from rltrain.envs.patience import Clock, is_stopping, leave_alarm
from rltrain.errors import EnvironmentFailure, RltrainError
from rltrain.system import global_random, signals

_PR_SET_PDEATHSIG = 1
_CHECK_S = 0.1
"""Seconds between two checks of the deadline."""


class Failure(NamedTuple):
    """An error as plain data for the trainer, because errors with several arguments cannot be pickled."""

    exit_code: int
    what: str
    where: str
    fix: str
    trace: str
    final: bool
    """True if the environment could not be made or breaks its contract, so that another process would not help."""


def serve(
    pipe: Connection,
    make: Callable[..., Any],
    arguments: tuple[Any, ...],
    plugins: list[str],
    sources: dict[str, bytes],
) -> None:
    """Answer calls from the pipe until the trainer closes it. The first call makes the object `make(*arguments)`.

    sources: of `plugin_modules.run_as_in_trainer`.
    """
    # Ctrl-C and a scheduler's signals reach the whole process group. The trainer decides when its workers end.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signals.no_answer)
    leave_alarm()
    # A process group of its own, so that the environment's child processes can be killed even after this one has ended.
    os.setpgid(0, 0)
    if sys.platform == "linux":
        # A worker that hangs does not notice that the pipe is closed. So Linux kills it when the trainer ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    subject: Any = None
    wrong: RltrainError | None = None
    try:
        plugin_modules.run_as_in_trainer(sources, plugins)
    except RltrainError as error:  # the answer to the first call
        wrong = type(error)(f"in a worker process, {error.what}", error.where, error.fix)
    try:
        while True:
            answer: Any
            try:
                try:
                    method, given = pipe.recv()
                except (EOFError, OSError):  # an environment may also have closed the pipe
                    return
                if wrong is not None:
                    raise wrong
                if subject is None:
                    if method == "reset":
                        global_random.seed(*given)  # constructors may read the generators
                    subject = make(*arguments)
                answer = getattr(subject, method)(*given)
            except RltrainError as error:
                words = (error.exit_code, error.what, error.where, error.fix)
                final = subject is None or (isinstance(error, EnvironmentFailure) and error.is_final)
                answer = Failure(*words, traceback.format_exc(), final)
            except Exception as error:  # also of a signal handler, while the pipe is waited for
                what = f"an environment raised {describe(error)}"
                words = (EnvironmentFailure.exit_code, what, "", "the fault is in the environment")
                answer = Failure(*words, traceback.format_exc(), subject is None)
            try:
                pipe.send(answer)
            except OSError:
                return
    finally:
        if subject is not None:
            subject.close()


class Watch:
    """A thread that kills the worker we wait for when its time is up. The read from its pipe then ends with an error.

    A time-out on the pipe is not enough, because a worker may hang in the middle of its answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._clock = Clock(longest_s=2 * _CHECK_S)
        self._process: Any = None
        self._deadline_s = self._stopping_deadline_s = math.inf
        self._killed = False
        threading.Thread(target=self._look, name="workers", daemon=True).start()

    @property
    def now_s(self) -> float:
        """The time in seconds, without the time during which this process was suspended."""
        return self._clock.now_s

    def begin(self, process: Any, deadline_s: float, stopping_deadline_s: float) -> None:
        """Kill this process after `deadline_s`, or, while the run stops, after `stopping_deadline_s`."""
        with self._lock:
            self._process, self._killed = process, False
            self._deadline_s, self._stopping_deadline_s = deadline_s, stopping_deadline_s

    def end(self) -> bool:
        """Stop watching the process. Return true if it was killed."""
        with self._lock:
            self._deadline_s = self._stopping_deadline_s = math.inf
            return self._killed

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(_CHECK_S):
            with self._lock:
                now_s = self._clock.look()
                if now_s > self._deadline_s or (is_stopping() and now_s > self._stopping_deadline_s):
                    self._killed, self._deadline_s, self._stopping_deadline_s = True, math.inf, math.inf
                    kill(self._process)


def kill(process: Any) -> None:
    """Kill a worker and its child processes."""
    started = children(process)
    process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def children(process: Any) -> list[psutil.Process]:
    """Return the processes that a worker has started, and theirs."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def wait_for_end(process: Any) -> None:
    """Wait up to 1 s until a worker that has closed its pipe has ended. Its process id stays taken until `join`."""
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s and hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.005)
                continue
        return
