"""Worker processes that train shared parameters: start them, talk to them and detect lost ones."""

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import tempfile
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
from rltrain.envs import patience
from rltrain.envs.pool import Episode
from rltrain.errors import EnvironmentFailure, no_process
from rltrain.fast.accelerate import set_up
from rltrain.nn import optimizers
from rltrain.nn.learner import Learner
from rltrain.nn.trained import Trained
from rltrain.system import ram
from rltrain.system.process import exit_now, flush_files, require_children, stop_timers
from rltrain.system.signals import STOP_SIGNALS, no_answer

_LONG_BYTES = 60
"""The longest temporary folder whose sockets have a path that is short enough, with multiprocessing's own names."""
_MOST_TENSORS = 200
"""The server process takes at most 250 shared tensors for each worker."""


class Shared:
    """Parameters and optimizer statistics in shared memory, with a lock.

    `copy_to` and `step` hold the lock, and so does the trainer while it evaluates and saves (`Workers.paused`).
    """

    def __init__(self, network: nn.Module, learner: Learner) -> None:
        """Move the tensors of the trainer's network and optimizer into shared memory, in place. Raises DiskError."""
        num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        # The optimizer holds up to two numbers for each parameter; each tensor has pages of its own.
        ram.require_shared(3 * num_bytes + 1_000_000, "the workers need", "use a smaller network")
        network.share_memory()
        self.tensors = learner.trained.tensors
        optimizers.fill_state(learner.optimizer)
        self.state = [learner.optimizer.state[tensor] for tensor in self.tensors]
        for values in self.state:
            for value in values.values():
                value.share_memory_()
        self.lock = torch.multiprocessing.get_context("spawn").Lock()

    def copy_to(self, trained: Trained) -> None:
        """Copy the shared parameters to a worker's network."""
        with self.lock, torch.no_grad():
            for own, shared in zip(trained.tensors, self.tensors, strict=True):
                own.copy_(shared)

    def step(self, learner: Learner) -> None:
        """Take an optimizer step on the shared parameters with the gradients of a worker's learner.

        The learner's optimizer must be attached (`attach`).
        """
        with self.lock:
            for own, shared in zip(learner.trained.tensors, self.tensors, strict=True):
                shared.grad = own.grad
            learner.optimizer.step()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Make a worker's optimizer use the shared parameters and the shared statistics."""
        group = optimizer.param_groups[0]
        group["params"] = self.tensors
        optimizer.state.clear()
        for tensor, values in zip(self.tensors, self.state, strict=True):
            optimizer.state[tensor] = values


@dataclass
class Report:
    """What a worker did for one update."""

    metrics: dict[str, float] = field(default_factory=dict)
    """The metrics of the update, by tag."""
    steps: list[tuple[int, list[Episode]]] = field(default_factory=list)
    """The arguments of each call of `advance`, in order: agent steps, and the episodes that they finished."""
    phase_s: dict[str, float] = field(default_factory=dict)
    """Seconds by phase, `env` and `learn`."""


class Link:
    """A worker's connection to the trainer. It counts steps and time like a `Run`, and sends them with each update."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._report = Report()

    def wait_for_learning_rate(self) -> float:
        """Wait until the trainer asks for another rollout, and return the learning rate of its update.

        Raises EOFError when the trainer has closed the connection. The error ends the worker.
        """
        return self._pipe.recv()

    def report(self, metrics: dict[str, Any]) -> None:
        """Send the report of one update."""
        self._report.metrics = {tag: float(value) for tag, value in metrics.items()}
        self._pipe.send(self._report)
        self._report = Report()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the time spent in the phase `env` or `learn`."""
        start_s = time.perf_counter()
        yield
        self._report.phase_s[name] = self._report.phase_s.get(name, 0.0) + time.perf_counter() - start_s

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and finished episodes."""
        self._report.steps.append((num_steps, episodes))


class Workers:
    """The worker processes, as the trainer sees them.

    Raises the error that a worker raised, and EnvironmentFailure if a worker has died without one.
    """

    def __init__(self, work: Callable[..., None], run_config: RunConfig, shared: Shared, arguments: list[Any]) -> None:
        """Start one process for each of `arguments`. It calls `work(run_config, shared, link, argument)`."""
        require_children()
        context = _context(work, shared)
        self._shared = shared
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self.playing: set[int] = set()
        """The workers that are playing a rollout and have not reported yet."""
        try:
            with _stop_signals_blocked():
                for argument in arguments:
                    ours, theirs = context.Pipe()
                    self._pipes.append(ours)
                    what = (work, run_config, shared, theirs, argument, dict(os.environ), plugin_modules.SOURCES)
                    process = context.Process(target=_run_worker, args=what)
                    try:
                        process.start()
                    except (EOFError, ConnectionError) as error:  # the server process cannot start it
                        raise no_process(error) from error
                    self._processes.append(process)
                    theirs.close()
        except BaseException:
            self.close()
            raise

    def go_on(self, index: int, learning_rate: float) -> None:
        """Let worker `index` play another rollout. `learning_rate` is that of its update."""
        self.playing.add(index)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `reports` raises the error of a dead worker
            self._pipes[index].send(learning_rate)

    def reports(self) -> Iterator[tuple[int, Report]]:
        """Yield (index, report) of each worker that has finished an update. Waits up to 1 s for the first one.

        While the run stops, an environment that fails ends its worker alone: what it has started may have got the same
        signal.
        """
        playing = {self._pipes[index]: index for index in sorted(self.playing)}
        ready = connection.wait(list(playing), timeout=1)
        if not ready:
            self._check_alive()
        for pipe, index in playing.items():
            if pipe in ready:
                self.playing.discard(index)
                try:
                    report = self._receive(index)
                except EnvironmentFailure:
                    if not patience.is_stopping():
                        raise
                    continue
                yield index, report

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold the lock, so that no update changes the parameters or statistics while they are read."""
        while not self._shared.lock.acquire(timeout=1):
            self._check_alive()  # a worker that was killed may have held the lock
        # Cached conversions are refreshed when a parameter's version changes, which updates of other processes do not.
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
        """End the processes. Kills those that are still alive after 5 s."""
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
            raise self._lost(index) from error
        if isinstance(message, Report):
            return message
        exit_code, what, where, fix = message
        if exit_code == 1:
            raise RuntimeError(f"worker {index} failed:\n{what}")
        raise errors.by_exit_code(exit_code)(f"worker {index}: {what}", where, fix)

    def _check_alive(self) -> None:
        """Raise EnvironmentFailure if a worker has died.

        The pipe of a dead worker does not always close: an emulator that outlives the worker may hold it open.
        """
        for index, process in enumerate(self._processes):
            if process.exitcode:  # a worker that has sent its error ends with code 0
                raise self._lost(index)

    def _lost(self, index: int) -> EnvironmentFailure:
        code = self._processes[index].exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        fix = "use `rltrain resume` to continue from the last checkpoint; fewer workers need less memory"
        return EnvironmentFailure(f"worker {index} ended without an error message ({how})", "algo.num_workers", fix)


def _context(work: Callable[..., None], shared: Shared) -> Any:
    """Return how the workers are started.

    A server process imports torch once and forks the workers, which takes 0.1 s instead of 3 s for each. Unlike this
    process, it has no threads and no CUDA context. It ends with the last worker and this process.
    """
    num_tensors = len(shared.tensors) + sum(map(len, shared.state))
    if num_tensors > _MOST_TENSORS or "forkserver" not in multiprocessing.get_all_start_methods():
        return torch.multiprocessing.get_context("spawn")
    context = torch.multiprocessing.get_context("forkserver")
    _shorten_temporary_folder()
    # A module of the user's is imported by the worker, so that its error is the worker's.
    ours = [work.__module__] if work.__module__.startswith("rltrain.") else []
    context.set_forkserver_preload([__name__, *ours])
    return context


def _shorten_temporary_folder() -> None:
    """Let multiprocessing have its sockets in /tmp if TMPDIR is long: the path of a socket has at most 108 bytes."""
    if len(os.fsencode(tempfile.gettempdir())) > _LONG_BYTES and os.access("/tmp", os.W_OK):
        before, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            multiprocessing.util.get_temp_dir()  # makes the folder, for good
        finally:
            tempfile.tempdir = before


@contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Block the stop signals. A process started inside inherits the block, until it has set its own handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_worker(
    work: Callable[..., None],
    run_config: RunConfig,
    shared: Shared,
    pipe: Connection,
    argument: Any,
    variables: dict[str, str],
    sources: dict[str, bytes],
) -> None:  # pragma: no cover (in a process of its own)
    """Run `work` in a worker process, and send the trainer the error if it fails."""
    os.environ.update(variables)  # the server process has those of the first run in a sweep
    # A signal to the process group, such as Ctrl-C, reaches the workers too. The trainer decides when they end.
    for number in STOP_SIGNALS:
        signal.signal(number, no_answer)
    patience.leave_alarm()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_exit_with_trainer, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            plugin_modules.run_as_in_trainer(sources, run_config.plugins)
            set_up(run_config)
            torch.set_num_threads(1)
            work(run_config, shared, Link(pipe), argument)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except (Exception, SystemExit) as error:
            told = plugin_modules.explain(error)
            bug = (1, traceback.format_exc(), "", "")
            pipe.send((told.exit_code, told.what, told.where, told.fix) if told else bug)
    stop_timers()
    flush_files()  # multiprocessing ends this process without destroying anything


def _exit_with_trainer() -> None:  # pragma: no cover (in a process of its own)
    """Exit 5 s after the trainer has ended, even if the main thread waits for the lock or for an environment."""
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    trainer.join()
    time.sleep(5)  # the main thread closes its environments meanwhile, if it can
    exit_now(1)
