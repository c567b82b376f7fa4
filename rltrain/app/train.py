"""Train from a checked configuration: make and lock the folder, handle signals, run the algorithm, record the end."""

import contextlib
import dataclasses
import functools
import gc
import math
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rltrain.algos import registry as algorithms
from rltrain.config import plugin_modules
from rltrain.config.network import SMALLER_LAYERS
from rltrain.config.run import RunConfig
from rltrain.envs import patience
from rltrain.errors import (
    EnvironmentFailure,
    Ignored,
    LockLost,
    NonFiniteError,
    OutOfMemory,
    RltrainError,
    Stopped,
    UnfitCheckpoint,
    lacking,
)
from rltrain.run import checked, logger
from rltrain.run import folder as run_folder
from rltrain.run.run import Restored, Run
from rltrain.runtime import launch
from rltrain.runtime.group import Alone, Group
from rltrain.system import atomic, inside, notices, out_of_memory, process, signals

_WIDE = 10_000
"""Widths of an mlp above this one explain why memory runs out: no algorithm's tuned network has more than 512."""


def train(
    config: RunConfig,
    folder: Path | None = None,
    restored: Restored = None,
    lock: run_folder.Lock | None = None,
    varies: Mapping[str, str] | None = None,
) -> int | None:
    """Train from a checked configuration.

    folder: the run folder; None: make one in run_dir. restored: step and state of the checkpoint from which to resume
    in `folder`; None: start a new run. lock: the caller's lock on `folder`; None: lock it here. varies: what varies in
    the sweep to which the run belongs, by key; None: it is no job of a sweep. Returns the number of a signal that came
    when the run was done, else None. Raises RltrainError.

    With runtime=torchrun this process starts the others, which come here with the same command line.
    """
    return _train_any(config, folder, iter([restored]), lock, varies)


def _train_any(
    config: RunConfig,
    folder: Path | None,
    states: Iterator[Restored],
    lock: run_folder.Lock | None,
    varies: Mapping[str, str] | None = None,
) -> int | None:
    """Train from the first of `states` that fits, in this process or in those that it starts or belongs to."""
    if config.runtime.name in ("local", "ray"):
        return _first_that_fits(states, lambda restored: _train(config, folder, restored, Alone(), lock, varies))
    if launch.is_launched():
        from rltrain.app import ranks  # imports torch

        def train_in(own: RunConfig, place: Path | None, found: Iterator[Restored], group: Group) -> None:
            _first_that_fits(found, lambda restored: _train(own, place, restored, group, lock))

        ranks.take_part(config, folder, states, train_in)
        return None
    launch.launch(config.runtime, sys.argv[1:])
    return None


def _first_that_fits(states: Iterator[Restored], attempt: Callable[[Restored], int | None]) -> int | None:
    """Return what `attempt` returns for the first state that fits. Raises what it raises, and what `states` raises."""
    while True:
        restored = next(states)
        try:
            return attempt(restored)
        except UnfitCheckpoint as error:
            if restored is None:
                raise
            notices.warn(str(error))


def _train(
    config: RunConfig,
    folder: Path | None,
    restored: Restored,
    group: Group,
    lock: run_folder.Lock | None,
    varies: Mapping[str, str] | None = None,
) -> int | None:
    """Train in this process, as one of a group."""
    if config.dry_run:
        with tempfile.TemporaryDirectory() as place:
            short = _until_first_update(dataclasses.replace(config, run_dir=place))
            try:
                late = _train_in(short, Path(place) / "run", None, group, None)
            except Stopped as error:
                raise Stopped(error.signal_number) from error  # without the folder, which is deleted
        if group.rank == 0:
            print("dry run: built everything and made one update; nothing was kept", file=sys.stderr)
        return late
    return _train_in(config, folder, restored, group, lock, varies)


def resume(
    config: RunConfig,
    folder: Path,
    candidates: Iterator[tuple[int, dict[str, Any]]],
    lock: run_folder.Lock | None = None,
    varies: Mapping[str, str] | None = None,
) -> int | None:
    """Resume a run from the first checkpoint that fits.

    candidates: step and state of its checkpoints, newest first. lock, varies: as of `train`. Returns and raises what
    `train` does, and CheckpointError if no checkpoint fits.
    """
    return _train_any(config, folder, candidates, lock, varies)


def _train_in(
    config: RunConfig,
    folder: Path | None,
    restored: Restored,
    group: Group,
    lock: run_folder.Lock | None,
    varies: Mapping[str, str] | None = None,
) -> int | None:
    """Make and lock the folder, as far as that is not done, and train in it with signal handlers installed.

    In a group rank 0 has made the folder, and locks it for all.
    """
    algorithm = algorithms.module_of(config.algo.name)  # first, because importing torch takes a second
    early: list[int] = []
    with contextlib.ExitStack() as stack:
        # A signal that ends the process while the folder is made would leave half of one: the run answers it.
        stack.enter_context(signals.answering(lambda number, frame: early.append(number)))
        if restored is None and (group.is_alone or (config.dry_run and group.rank == 0)):
            folder = run_folder.create(config, folder)
        assert folder is not None
        if lock is None and group.rank == 0:
            stack.enter_context(run_folder.Lock(folder))
        run = Run(config, folder, restored, getattr(algorithm, "evaluate", None), varies, group)
        stack.enter_context(signals.answering(run.on_signal))
        for number in early:
            run.on_signal(number, None)
        _train_answering(config, folder, run, algorithm)
        return run.stop_signal


def _train_answering(config: RunConfig, folder: Path, run: Run, algorithm: ModuleType) -> None:
    """Run the algorithm while stop signals are handled, and write its end to status.json and error.log."""
    patience.leave_alarm()
    threading.excepthook = logger.on_thread_error
    note_end = functools.partial(run_folder.note_lost, folder)  # it must be told from any thread
    process.last_words.append(note_end)
    run.write_status("running")
    try:
        with _shortages(config):
            if not config.algo.is_tabular:  # tabular algorithms run without torch
                from rltrain.fast.accelerate import set_up

                set_up(config)
            # Some 200,000 objects of the imported packages live as long as the process: a full collection that passes
            # over them takes 0.1 s, and one is due every few seconds of training.
            gc.freeze()
            try:
                algorithm.train(config, run)
                run.conclude()
            except Ignored as ignored:
                raise ignored.error from None
            except EnvironmentFailure:
                run.stop_if_unbegun()
                raise
            finally:
                gc.unfreeze()
                run.close()
        run.write_status("done", exit_code=0)
        _remove_errors(run, folder)
    except LockLost:  # the folder is another process's now
        raise
    except RltrainError as error:
        run.write_status("stopped" if error.exit_code >= 128 else "failed", str(error), error.exit_code)
        _write_error(run, folder, error)
        raise
    except BaseException as error:
        fault = plugin_modules.explain(error)
        if told := fault or plugin_modules.unclear(error):
            run.write_status("failed", str(told), told.exit_code)
        else:
            run.write_status("failed", f"{type(error).__name__}: {error}", 1)
        _write_error(run, folder, error)
        if fault is not None:
            raise fault from error
        raise
    finally:
        process.last_words.remove(note_end)
        patience.calm()
        run.logger.close()


def _remove_errors(run: Run, folder: Path) -> None:
    """Remove what an earlier failure or stop of a run that is done now has left."""
    if run.writes:
        with run.logger.warned():
            for name in ("error.log", "nonfinite.json"):
                inside.remove(folder / name)


def _write_error(run: Run, folder: Path, error: BaseException) -> None:
    """Write the traceback of the current error to the run folder."""
    if not run.writes:
        return
    with run.logger.warned():
        atomic.write_text(folder / "error.log", traceback.format_exc())
        if isinstance(error, NonFiniteError):
            atomic.write_json(folder / "nonfinite.json", {"step": run.step, **error.facts})


@contextlib.contextmanager
def _shortages(config: RunConfig) -> Iterator[None]:
    """Turn a memory error outside of updates (acting, making a network or a replay buffer) into OutOfMemory.

    What the system lacks, such as open files, becomes its own error.
    """
    try:
        yield
    except Exception as error:
        if lack := lacking(error):
            raise lack from error
        if not out_of_memory.is_shortage(error):
            raise
        where, fix = _smaller(config, isinstance(error, MemoryError))
        raise OutOfMemory(out_of_memory.describe(error), where, fix) from error


def _smaller(config: RunConfig, host: bool) -> tuple[str, str]:
    """Return the key that determines the memory use, and advice to halve it. host: host memory ran out."""
    algo, num_envs = config.algo, config.algo.num_envs
    if config.network.name == "mlp" and max(config.network.hidden_sizes) > _WIDE:
        return SMALLER_LAYERS
    if host and hasattr(algo, "replay_capacity"):
        return "algo.replay_capacity", f"use algo.replay_capacity={algo.replay_capacity // 2}"
    if num_envs == 1:
        return "network, device", "use a smaller network or another device; `rltrain list networks` shows all"
    fewer = num_envs // 2
    fix = f"use num_envs={fewer}"
    if hasattr(algo, "num_steps") and hasattr(algo, "batch_size"):  # batch_size must divide the smaller rollout
        size = math.gcd(fewer * algo.num_steps, algo.batch_size)
        fix += f" batch_size={size}" if size != algo.batch_size else ""
    return "num_envs", fix


def _until_first_update(config: RunConfig) -> RunConfig:
    """Return the configuration with so few steps that the algorithm makes one update."""
    algo, steps = checked.answer(config.algo, "until_first_update", tuple)
    return dataclasses.replace(
        config, algo=algo, total_steps=steps, eval_every_steps=0, checkpoint_every_steps=0, final_eval_episodes=1
    )
