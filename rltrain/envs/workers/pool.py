"""Environments in processes of their own: starting them, calling them, noticing when one is gone or hangs."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from rltrain import errors
from rltrain.config import plugin_modules
from rltrain.envs.patience import STOPPING_S, is_stopping
from rltrain.envs.restarts import Restarts
from rltrain.envs.seeding import env_seed
from rltrain.envs.workers.process import Failure, Watch, kill, serve
from rltrain.errors import EnvironmentFailure, RltrainError

_START_TIMEOUT_S = 120.0
"""For the first answer of a process, which imports, starts an environment and resets it. Takes seconds; more while
many start on few cores."""
_GRACE_S = 1.0
"""What a worker gets to hand over its answer where a neighbour has used up the time of both."""


class Lost(NamedTuple):
    """In place of an answer: a worker that died, hung or raised during the call."""

    number: int
    failure: EnvironmentFailure


class Workers:
    """A process for each tuple of `arguments`; in it, `make(*arguments)` answers the calls.

    A worker that is lost can be replaced, `max_restarts` times over all of them. They end with `close`, with the
    trainer however that ends, and with the thread that made them.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        where: str,
        step_timeout_s: float,
        max_restarts: int,
    ) -> None:
        """`where` is the key that errors name; a call that takes longer than `step_timeout_s` counts as hung."""
        self._make, self._arguments, self._where = make, list(arguments), where
        self._timeout_s = step_timeout_s
        self.restarts = Restarts(len(self._arguments), max_restarts, "worker")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._new: set[int] = set()
        """Workers that have not answered yet."""
        self._left_out: dict[int, Lost] = {}
        """Workers lost since the run was asked to stop: called no more, and not replaced."""
        self._watch = Watch()
        # Also where nobody calls `close`; before multiprocessing waits for its children at the end of the program.
        self.close = util.Finalize(self, _end, (self._watch, self._pipes, self._processes), exitpriority=100)
        self._waiting = False
        self._called_s = 0.0
        for number in range(len(self._arguments)):
            self._start(number)

    def call(self, method: str, arguments: Iterable[tuple[Any, ...]]) -> None:
        """Call `method` with one tuple of arguments in each process; returns at once.

        Answers of an earlier call that nobody took are dropped.
        """
        if self._waiting:
            with contextlib.suppress(RltrainError):
                self.answers()
        self._called_s = self._watch.now_s
        for number, given in enumerate(arguments):
            if number not in self._left_out:
                self._send(number, method, given)
        self._waiting = True

    def answers(self) -> list[Any]:
        """What each process answers, or Lost; all are read before an error is raised, so that none is left for later.

        Raises what a worker raised, unless its environment is to blame and it had begun: that is Lost too.
        """
        if not self._waiting:
            raise RuntimeError("no call to answer")
        found = [self._answer(number) for number in range(len(self._pipes))]
        self._waiting = False
        for number, answer in enumerate(found):
            if isinstance(answer, Failure):
                found[number] = self._lost_or_raise(number, answer)
        return found

    def replace(self, lost: Lost, seed: int, begun: bool) -> Any:
        """Another process in place of a lost one; returns what its `reset` answers.

        `seed` is what the lost one was reset with. Where it had `begun`, the new one does not play its episodes again.
        None once the run was asked to stop, as it would take long: each later call is answered by Lost.
        Raises EnvironmentFailure beyond the budget, and what `answers` raises.
        """
        while True:
            number = lost.number
            if is_stopping():
                self._left_out[number] = lost
                return None
            if self._processes[number].is_alive():  # or its number may be another process's by now
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
        # Not fork: a copy of a process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, self._make, self._arguments[number], plugin_modules.LOADED)
        )
        process.start()
        theirs.close()
        self._pipes[number : number + 1] = [ours]
        self._processes[number : number + 1] = [process]
        self._new.add(number)

    def _send(self, number: int, method: str, given: tuple[Any, ...]) -> None:
        # A dead worker is told of by its answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipes[number].send((method, given))

    def _answer(self, number: int) -> Any:
        """What a worker answers: a Failure where it raised, Lost where it died or was killed as it hung."""
        if number in self._left_out:
            return self._left_out[number]
        process, limit_s = self._processes[number], _START_TIMEOUT_S if number in self._new else self._timeout_s
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
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it may have started; before the join frees its number
            process.join()
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
            how = f"did not answer for {min(limit_s, STOPPING_S) if is_stopping() else limit_s:g} s" if hung else how
            where, fix = self._where, "see above for its last words" if code and code > 0 else "look for what ended it"
            return Lost(number, EnvironmentFailure(f"worker process {number} {how}", where, fix))
        finally:
            self._watch.end()

    def _lost_or_raise(self, number: int, failure: Failure) -> Lost:
        error = errors.by_exit_code(failure.exit_code)(failure.what, failure.where or self._where, failure.fix)
        error.add_note(f"in worker process {number}:\n{failure.trace}")
        if isinstance(error, EnvironmentFailure) and not failure.starting:
            return Lost(number, error)
        raise error


def _end(watch: Watch, pipes: list[Connection], processes: list[Any]) -> None:
    """End the processes, by force if they do not follow within 5 s."""
    watch.stop()
    for pipe in pipes:
        pipe.close()
    deadline_s = time.monotonic() + 5
    for process in processes:
        process.join(timeout=max(0.0, deadline_s - time.monotonic()))
        if process.is_alive():
            kill(process)
            process.join()
        process.close()
    pipes.clear()
    processes.clear()
