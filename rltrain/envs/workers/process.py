"""A worker process: its life, which answers calls until the trainer is gone, and its end where it hangs."""

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psutil

from rltrain.config import plugin_modules
from rltrain.envs.patience import Clock, is_stopping
from rltrain.errors import EnvironmentFailure, RltrainError

_PR_SET_PDEATHSIG = 1
_CHECK_S = 0.1
"""Seconds between looks at the clock."""


class Failure(NamedTuple):
    """An error on its way to the trainer: its words, as errors with several arguments do not survive pickling."""

    exit_code: int
    what: str
    where: str
    fix: str
    trace: str
    starting: bool
    """There was no environment yet, so another process would not help."""


def serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...], plugins: list[str]) -> None:
    """A worker's life: calls are answered in turn until the other end of the pipe is gone."""
    # Ctrl-C and a scheduler's signals reach the whole group of processes; the trainer decides when its workers end.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # A group of its own, so that what the environment starts can be found even when this process is gone.
    os.setpgid(0, 0)
    if sys.platform == "linux":
        # The pipe says that the trainer is gone only to a worker that reads it, not to one that hangs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    plugin_modules.load(plugins)
    subject: Any = None
    try:
        while True:
            try:
                method, given = pipe.recv()
            except (EOFError, ConnectionResetError):
                return
            answer: Any
            try:
                subject = subject or make(*arguments)
                answer = getattr(subject, method)(*given)
            except RltrainError as error:
                words = (error.exit_code, error.what, error.where, error.fix)
                answer = Failure(*words, traceback.format_exc(), subject is None)
            except Exception as error:
                what = f"an environment raised {type(error).__name__}: {error}"
                words = (EnvironmentFailure.exit_code, what, "", "the fault is in the environment")
                answer = Failure(*words, traceback.format_exc(), subject is None)
            try:
                pipe.send(answer)
            except (BrokenPipeError, ConnectionResetError):
                return
    finally:
        if subject is not None:
            subject.close()


class Watch:
    """A thread that kills the worker which is waited for once its time is up: the wait then ends by itself.

    A time-out on the pipe would not do: a worker may hang in the middle of its answer.
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
        """What its clock shows, which stands still while this process does."""
        return self._clock.now_s

    def begin(self, process: Any, deadline_s: float, stopping_deadline_s: float) -> None:
        """Look after this process until `deadline_s`; the other one counts once the run was asked to stop."""
        with self._lock:
            self._process, self._killed = process, False
            self._deadline_s, self._stopping_deadline_s = deadline_s, stopping_deadline_s

    def end(self) -> bool:
        """Look no longer; returns whether the process was killed."""
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
    """End a worker at once, with all that it started."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
