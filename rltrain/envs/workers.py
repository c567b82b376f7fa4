"""Environments in processes of their own: starting them, calling them, noticing when one is gone."""

import contextlib
import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from rltrain import errors
from rltrain.errors import EnvironmentFailure, RltrainError

_PR_SET_PDEATHSIG = 1


class _Failure(NamedTuple):
    """An error on its way to the trainer: its words, as errors with several arguments do not survive pickling."""

    exit_code: int
    what: str
    where: str
    fix: str


class Workers:
    """A process for each tuple of `arguments`; in it, `make(*arguments)` answers the calls.

    They end with `close`, with the trainer however that ends, and with the thread that made them.
    """

    def __init__(self, make: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], where: str) -> None:
        """`where` is the key that errors name."""
        self._where = where
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        # Also where nobody calls `close`; before multiprocessing waits for its children at the end of the program.
        self.close = util.Finalize(self, _end, (self._pipes, self._processes), exitpriority=100)
        self._waiting = False
        # Not fork: a copy of a process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        for given in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, given))
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def call(self, method: str, arguments: Iterable[tuple[Any, ...]]) -> None:
        """Call `method` with one tuple of arguments in each process; returns at once.

        Answers of an earlier call that nobody took are dropped.
        """
        if self._waiting:
            with contextlib.suppress(RltrainError):
                self.answers()
        for pipe, given in zip(self._pipes, arguments, strict=True):
            # A dead worker is reported by `answers`.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                pipe.send((method, given))
        self._waiting = True

    def answers(self) -> list[Any]:
        """What each process answers; all are read before an error is raised, so that none is left for later.

        Raises what a worker raised, and EnvironmentFailure where a process is gone.
        """
        if not self._waiting:
            raise RuntimeError("no call to answer")
        found = [self._answer(number) for number in range(len(self._pipes))]
        self._waiting = False
        for answer in found:
            if isinstance(answer, _Failure):
                raise errors.by_exit_code(answer.exit_code)(answer.what, answer.where, answer.fix)
        return found

    def _answer(self, number: int) -> Any:
        try:
            return self._pipes[number].recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[number]
            process.join(timeout=5)
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
            fix = "see above for its last words" if code and code > 0 else "`rltrain resume` goes on with a new one"
            return _Failure(EnvironmentFailure.exit_code, f"worker process {number} {how}", self._where, fix)


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    """End the processes, by force if they do not follow within 5 s."""
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    pipes.clear()
    processes.clear()


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A worker's life: calls are answered in turn until the other end of the pipe is gone."""
    # Ctrl-C and a scheduler's signals reach the whole group of processes; the trainer decides when its workers end.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        # The pipe says that the trainer is gone only to a worker that reads it, not to one that hangs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    subject: Any = None
    try:
        while True:
            try:
                method, given = pipe.recv()
            except (EOFError, ConnectionResetError):
                return
            try:
                subject = subject or make(*arguments)
                answer = getattr(subject, method)(*given)
            except RltrainError as error:
                answer = _Failure(error.exit_code, error.what, error.where, error.fix)
            try:
                pipe.send(answer)
            except (BrokenPipeError, ConnectionResetError):
                return
    finally:
        if subject is not None:
            subject.close()
