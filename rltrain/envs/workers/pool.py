"""Environments in worker processes: start them, call them, detect those that die or hang, and replace them."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psutil

from rltrain import errors
from rltrain.config import plugin_modules
from rltrain.envs.patience import STOPPING_S, is_stopping
from rltrain.envs.restarts import Restarts
from rltrain.envs.seeding import env_seed
from rltrain.envs.workers.process import Failure, Watch, children, kill, serve, wait_for_end
from rltrain.errors import EnvironmentFailure, RltrainError
from rltrain.system.process import require_children

_START_TIMEOUT_S = 120.0
"""The time-out for the first answer of a process, which imports packages, starts an environment and resets it. This
takes some seconds, and longer if many processes start on few cores."""
_GRACE_S = 1.0
"""The time that a worker always gets to send its answer, even if waiting for another worker has taken all of the
time-out."""


class Lost(NamedTuple):
    """The answer of a worker that died, hung or raised an error during the call."""

    number: int
    failure: EnvironmentFailure


class Workers:
    """One process for each tuple of `arguments`. In the process, the object `make(*arguments)` answers the calls.

    Lost workers can be replaced, up to `max_restarts` times in total. The processes end with `close`, with the trainer
    (even if it is killed), and with the thread that made them.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        where: str,
        step_timeout_s: float,
        max_restarts: int,
    ) -> None:
        """where: the config key that errors name. step_timeout_s: a call that takes longer counts as hung."""
        self._make, self._arguments, self._where = make, list(arguments), where
        self._timeout_s = step_timeout_s
        self.restarts = Restarts(len(self._arguments), max_restarts, "worker")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._new: set[int] = set()
        """Workers that have not answered yet."""
        self._left_out: dict[int, Lost] = {}
        """Workers lost while the run stops. They are neither called nor replaced."""
        self._watch = Watch()
        # Runs at exit too if nobody calls `close`, before multiprocessing waits for its children.
        self.close = util.Finalize(self, _end, (self._watch, self._pipes, self._processes), exitpriority=100)
        self._waiting = False
        self._method = ""
        self._called_s = 0.0
        for number in range(len(self._arguments)):
            self._start(number)

    def call(self, method: str, arguments: Iterable[tuple[Any, ...]]) -> None:
        """Call `method` in each process with its tuple of arguments, and return at once.

        Drops the answers to an earlier call that `answers` has not returned.
        """
        if self._waiting:
            with contextlib.suppress(RltrainError):
                self.answers()
        self._called_s = self._watch.now_s
        self._method = method
        for number, given in enumerate(arguments):
            if number not in self._left_out:
                self._send(number, method, given)
        self._waiting = True

    def answers(self) -> list[Any]:
        """Return the answer of each process, or Lost. Reads all answers before it raises an error.

        An error of an environment that has been made counts as Lost. Any other error of a worker is raised.
        """
        if not self._waiting:
            raise RuntimeError("answers was called without a call")
        found = [self._answer(number) for number in range(len(self._pipes))]
        self._waiting = False
        for number, answer in enumerate(found):
            if isinstance(answer, Failure):
                found[number] = self._lost_or_raise(number, answer)
            elif self._method == "step" and not isinstance(answer, Lost):
                self.restarts.worked(number)
        return found

    def replace(self, lost: Lost, seed: int, begun: bool) -> Any:
        """Start a process in place of a lost one, and return the answer of its `reset`.

        seed: the seed of the lost worker's `reset`. begun: true if it has been reset; the new worker then gets another
        seed, so that it does not play the same episodes again.
        While the run stops, it replaces nothing and returns None, because a start takes too long. Each later call is
        answered with Lost.
        Raises EnvironmentFailure if the budget is used up, and what `answers` raises.
        """
        while True:
            number = lost.number
            if is_stopping():
                self._left_out[number] = lost
                return None
            if self._processes[number].is_alive():  # the process id of a dead worker may belong to another process now
                kill(self._processes[number])
            count = self.restarts.count(number, lost.failure)
            self._processes[number].join()
            self._processes[number].close()
            self._pipes[number].close()
            self._start(number)
            self._called_s = self._watch.now_s
            self._send(number, "reset", (env_seed(env_seed(seed, number), count) if begun else seed,))
            answer = self._answer(number)
            if isinstance(answer, Failure):
                answer = self._lost_or_raise(number, answer)
            if not isinstance(answer, Lost):
                return answer
            lost = answer

    def _start(self, number: int) -> None:
        require_children()
        # Not fork: a forked process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        modules = plugin_modules.LOADED, plugin_modules.SOURCES
        process = context.Process(target=serve, args=(theirs, self._make, self._arguments[number], *modules))
        process.start()
        theirs.close()
        self._pipes[number : number + 1] = [ours]
        self._processes[number : number + 1] = [process]
        self._new.add(number)

    def _send(self, number: int, method: str, given: tuple[Any, ...]) -> None:
        # `_answer` reports a dead worker.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipes[number].send((method, given))

    def _answer(self, number: int) -> Any:
        """Return the answer of a worker: Failure if it raised an error, Lost if it died, or hung and was killed."""
        if number in self._left_out:
            return self._left_out[number]
        process, limit_s = self._processes[number], self._timeout_s
        if number in self._new:
            limit_s = max(limit_s, _START_TIMEOUT_S)
        now_s, grace_s = self._watch.now_s, min(_GRACE_S, limit_s)
        deadline_s = stopping_deadline_s = max(self._called_s + limit_s, now_s + grace_s)
        if number not in self._new:
            stopping_deadline_s = min(deadline_s, max(self._called_s + STOPPING_S, now_s + grace_s / 4))
        self._watch.begin(process, deadline_s, stopping_deadline_s)
        try:
            answer = self._pipes[number].recv()
            self._new.discard(number)
            return answer
        except (EOFError, OSError):
            hung = self._watch.end()
            wait_for_end(process)  # else the next line would be taken for what ended it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its child processes; before `join` frees its process id
            process.join()
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
            how = f"did not answer for {min(limit_s, STOPPING_S) if is_stopping() else limit_s:g} s" if hung else how
            fix = "see its error message above" if code and code > 0 else "find out what ended it"
            where = self._where
            return Lost(number, EnvironmentFailure(f"worker process {number} {how}", where, fix))
        finally:
            self._watch.end()

    def _lost_or_raise(self, number: int, failure: Failure) -> Lost:
        error = errors.by_exit_code(failure.exit_code)(failure.what, failure.where or self._where, failure.fix)
        error.add_note(f"in worker process {number}:\n{failure.trace}")
        if isinstance(error, EnvironmentFailure) and not failure.final:
            return Lost(number, error)
        raise error


def _end(watch: Watch, pipes: list[Connection], processes: list[Any]) -> None:
    """End the processes and what they have started. Kills those that are still alive after 5 s."""
    watch.stop()
    started = [child for process in processes for child in children(process)]
    for pipe in pipes:
        pipe.close()
    deadline_s = time.monotonic() + 5
    for process in processes:
        process.join(timeout=max(0.0, deadline_s - time.monotonic()))
        if process.is_alive():
            kill(process)
            process.join()
        process.close()
    for child in started:
        with contextlib.suppress(psutil.Error):
            child.kill()
    pipes.clear()
    processes.clear()
