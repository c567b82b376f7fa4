"""One process of a distributed run: join the others, agree on the folder, and end so that the launcher knows why."""

import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, ProcessLost, RltrainError
from rltrain.nn.device import resolve_device
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.runtime import launch
from rltrain.runtime.group import Group
from rltrain.runtime.torch_group import TorchGroup

Restored = tuple[int, dict[str, Any]] | None


def take_part(
    config: RunConfig,
    folder: Path | None,
    states: Iterator[Restored],
    train: Callable[[RunConfig, Path | None, Iterator[Restored], Group], None],
) -> None:
    """Train as one process of a group that torch's launcher started.

    states: checkpoints to go on from, newest first, or one None for a new run. train: trains from the first that fits.
    Under rltrain's own launcher an error becomes a report and an exit code: 9 if the launcher may start all processes
    again, else 0. Under plain torchrun it is raised.
    """
    config = dataclasses.replace(config, device=_own_device(config.device))
    where: list[Path] = []

    def on_lost(error: ProcessLost) -> None:
        if where:
            run_folder.note_lost(where[0], str(error), error.exit_code)
        launch.report(error, group.rank, group.attempt, silent=True)
        if launch.REPORTS not in os.environ:
            print(f"rltrain: error: {error}", file=sys.stderr, flush=True)

    group = TorchGroup(config.runtime, resolve_device(config.device).type == "cuda", on_lost)
    try:
        try:
            if not config.dry_run:
                folder, states = _place(config, folder, states, group)
                where.append(folder)
            train(config, folder, _agreed(states, group), group)
        except BaseException as error:
            if isinstance(error, ProcessLost) and where:
                run_folder.note_lost(where[0], str(error), error.exit_code)
            group.close(error)
            raise
        group.close()
    except Exception as error:
        launch.report(error, group.rank, group.attempt)
        if launch.REPORTS not in os.environ:
            raise
        if not isinstance(error, RltrainError):
            traceback.print_exc()
        # Not a plain exit: after an error a thread of torch may wait for a process that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ProcessLost.exit_code if isinstance(error, ProcessLost) else 0)


def _agreed(states: Iterator[Restored], group: TorchGroup) -> Iterator[Restored]:
    """Yield the states, each of which all processes found. Raises CheckpointError."""
    for restored in states:
        steps = group.gather(restored[0] if restored else None)
        if len(set(steps)) > 1:
            what = f"the processes found checkpoints of different steps ({', '.join(map(str, steps))})"
            raise CheckpointError(
                what, "runtime.nodes", "all machines must see the run folder: use a shared file system"
            )
        yield restored


def _place(
    config: RunConfig, folder: Path | None, states: Iterator[Restored], group: TorchGroup
) -> tuple[Path, Iterator[Restored]]:
    """Return the run folder and the states to go on from. Rank 0 makes the folder of a new run.

    After a restart it is the folder of before, with its last checkpoint. Raises CheckpointError, DiskError.
    """
    if folder is None:
        known = group.broadcast(group.remembered())
        if known is not None:
            folder = Path(known)
            if checkpoint.resumable(folder):
                states = checkpoint.candidates(folder, "last", {saved_config.fingerprint(config)})
            elif group.rank == 0:
                run_folder.clear_logs(folder)
        else:
            folder = Path(group.broadcast(str(run_folder.create(config, None)) if group.rank == 0 else None))
    if group.rank == 0:
        group.remember(str(folder))
    if group.rank:
        _divert_output(folder / f"rank-{group.rank}.log")
    return folder, states


def _own_device(name: str) -> str:
    """Return the GPU of this process if the run uses GPUs, by its number on this machine."""
    if resolve_device(name).type != "cuda" or ":" in name:
        return name
    number = int(os.environ.get("LOCAL_RANK", "0"))
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _divert_output(path: Path) -> None:
    """Send what this process prints to a file: only rank 0 uses the terminal."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file, stream.fileno())
        os.close(file)
