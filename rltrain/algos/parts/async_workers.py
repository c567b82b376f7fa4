"""Processes that learn on shared parameters: starting them, talking to them, noticing when one is gone."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing
from torch import nn

from rltrain import errors
from rltrain.config import plugin_modules
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Episode
from rltrain.errors import EnvironmentFailure, RltrainError
from rltrain.fast.accelerate import set_up
from rltrain.nn import optimizers
from rltrain.nn.learner import Learner
from rltrain.nn.trained import Trained

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Shared:
    """Parameters and optimizer statistics in memory that every process maps; a lock keeps each update whole."""

    def __init__(self, network: nn.Module, learner: Learner) -> None:
        """Moves the tensors of both into shared memory, in place: the trainer's network is the shared one."""
        network.share_memory()
        self.tensors = learner.trained.tensors
        optimizers.fill_state(learner.optimizer)
        self.state = [learner.optimizer.state[tensor] for tensor in self.tensors]
        for values in self.state:
            for value in values.values():
                value.share_memory_()
        self.lock = torch.multiprocessing.get_context("spawn").Lock()

    def copy_to(self, trained: Trained) -> None:
        """Give a worker's network the shared parameters."""
        with self.lock, torch.no_grad():
            for own, shared in zip(trained.tensors, self.tensors, strict=True):
                own.copy_(shared)

    def step(self, learner: Learner) -> None:
        """Step the shared parameters with the gradients of a worker's learner, whose optimizer is attached."""
        with self.lock:
            for own, shared in zip(learner.trained.tensors, self.tensors, strict=True):
                shared.grad = own.grad
            learner.optimizer.step()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Let a worker's optimizer step the shared parameters with the shared statistics."""
        group = optimizer.param_groups[0]
        group["params"] = self.tensors
        optimizer.state.clear()
        for tensor, values in zip(self.tensors, self.state, strict=True):
            optimizer.state[tensor] = values


@dataclass
class Report:
    """One update of a worker."""

    metrics: dict[str, float] = field(default_factory=dict)
    steps: list[tuple[int, list[Episode]]] = field(default_factory=list)
    """Agent steps and the episodes that they finished, in order."""
    phase_s: dict[str, float] = field(default_factory=dict)


class Link:
    """A worker's end: counts its steps as a run would, and hands them over with each update."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._report = Report()

    def next_learning_rate(self) -> float:
        """Wait for the trainer's word to play another rollout. Raises EOFError, which ends the worker, at the end."""
        return self._pipe.recv()

    def report(self, metrics: dict[str, Any]) -> None:
        """Tell of one update."""
        self._report.metrics = {tag: float(value) for tag, value in metrics.items()}
        self._pipe.send(self._report)
        self._report = Report()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of `env` or `learn`."""
        start_s = time.perf_counter()
        yield
        self._report.phase_s[name] = self._report.phase_s.get(name, 0.0) + time.perf_counter() - start_s

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and finished episodes."""
        self._report.steps.append((num_steps, episodes))


class Workers:
    """The trainer's end. Raises what a worker raised; EnvironmentFailure where one is gone without a word."""

    def __init__(self, work: Callable[..., None], run_config: RunConfig, shared: Shared, arguments: list[Any]) -> None:
        """Start `work(run_config, shared, link, argument)` in a process for each of `arguments`."""
        context = torch.multiprocessing.get_context("spawn")
        self._shared = shared
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self.playing: set[int] = set()
        """The workers that owe a report."""
        try:
            with _signals_held():
                for argument in arguments:
                    ours, theirs = context.Pipe()
                    self._pipes.append(ours)
                    process = context.Process(target=_live, args=(work, run_config, shared, theirs, argument))
                    process.start()
                    self._processes.append(process)
                    theirs.close()
        except BaseException:
            self.close()
            raise

    def go_on(self, index: int, learning_rate: float) -> None:
        """Let worker `index` play another rollout."""
        self.playing.add(index)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `reports` says what became of it
            self._pipes[index].send(learning_rate)

    def reports(self) -> Iterator[tuple[int, Report]]:
        """(index, report) of every worker that has done an update; none after a second without one."""
        playing = {self._pipes[index]: index for index in sorted(self.playing)}
        ready = connection.wait(list(playing), timeout=1)
        if not ready:
            self._check_alive()
        for pipe, index in playing.items():
            if pipe in ready:
                self.playing.discard(index)
                yield index, self._receive(index)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No update happens inside: parameters and statistics can be read."""
        while not self._shared.lock.acquire(timeout=1):
            self._check_alive()  # one that was killed may have taken the lock with it
        # What was made from parameters here is known to be old by their version, which no other process can count.
        torch.autograd.graph.increment_version(self._shared.tensors)
        try:
            yield
        finally:
            self._shared.lock.release()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, by force if they do not follow within 5 s."""
        for pipe in self._pipes:
            pipe.close()
        deadline_s = time.monotonic() + 5
        for process in self._processes:
            process.join(timeout=max(0.0, deadline_s - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._pipes, self._processes = [], []

    def _receive(self, index: int) -> Report:
        try:
            message = self._pipes[index].recv()
        except (EOFError, ConnectionResetError) as error:
            self._processes[index].join(timeout=5)
            raise self._gone(index) from error
        if isinstance(message, Report):
            return message
        exit_code, what, where, fix = message
        if exit_code == 1:
            raise RuntimeError(f"worker {index} failed:\n{what}")
        raise errors.by_exit_code(exit_code)(f"worker {index}: {what}", where, fix)

    def _check_alive(self) -> None:
        """The end of a pipe tells at once, unless an emulator that outlives its worker holds it open."""
        for index, process in enumerate(self._processes):
            if process.exitcode:  # not one that ended after its last words
                raise self._gone(index)

    def _gone(self, index: int) -> EnvironmentFailure:
        code = self._processes[index].exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        fix = "`rltrain resume` goes on from the last checkpoint; fewer workers need less memory"
        return EnvironmentFailure(f"worker {index} ended without a word ({how})", "algo.num_workers", fix)


@contextmanager
def _signals_held() -> Iterator[None]:
    """What is started inside begins with the stop signals blocked, until it can say what it does about them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(
    work: Callable[..., None], run_config: RunConfig, shared: Shared, pipe: Connection, argument: Any
) -> None:  # pragma: no cover (in a process of its own)
    """A worker process: its work, and its last words where that fails."""
    # A signal to the whole group of processes reaches the workers too; the trainer decides when they end.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_end_with_the_trainer, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            plugin_modules.load(run_config.plugins)
            set_up(run_config)
            torch.set_num_threads(1)
            work(run_config, shared, Link(pipe), argument)
        except RltrainError as error:
            pipe.send((error.exit_code, error.what, error.where, error.fix))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            pipe.send((1, traceback.format_exc(), "", ""))


def _end_with_the_trainer() -> None:  # pragma: no cover (in a process of its own)
    """A trainer that was killed may have taken the lock with it, and an environment may hang."""
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    trainer.join()
    time.sleep(5)  # time to close the environments, for a worker that can
    os._exit(1)
