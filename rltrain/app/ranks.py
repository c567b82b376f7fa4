"""One process of a distributed run: join the others, agree on the folder, and end so that the launcher knows why."""

import contextlib
import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, ConfigError, ProcessLost, RltrainError
from rltrain.nn.device import resolve_device
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.run import Restored
from rltrain.runtime import launch
from rltrain.runtime.group import Group
from rltrain.runtime.torch_group import TorchGroup
from rltrain.system import inside, process

_MAY_DIFFER = {
    *("device", "precision", "fast", "compile", "cuda_graphs", "micro_batch_size", "oom", "env.workers", "env.cfg"),
    *("run_dir", "name", "init_from", "plugins", "progress", "log_every_s", "env.step_timeout_s", "env.max_restarts"),
    *("skip_done", "fail_fast", "tuned_by", "chosen", "env.tuned_as", "algo.like"),
}
"""Settings that another machine may have otherwise, or that only rank 0 reads, or that change nothing."""


def take_part(
    config: RunConfig,
    folder: Path | None,
    states: Iterator[Restored],
    train: Callable[[RunConfig, Path | None, Iterator[Restored], Group], None],
) -> None:
    """Train as one process of a group that torch's launcher started.

    states: checkpoints to go on from, newest first, or one None for a new run. train: trains from the first that fits.
    Under rltrain's own launcher an error becomes a report and an exit code: 9 if a process is lost, else 0. Under plain
    torchrun it is raised.
    """
    place, group = folder, None

    def note(error: BaseException, silent: bool = False) -> None:
        if isinstance(error, ProcessLost) and place is not None:
            run_folder.note_lost(place, str(error), error.exit_code)
        launch.report(plugin_modules.explain(error) or plugin_modules.unclear(error) or error, silent)

    def on_lost(error: ProcessLost) -> None:
        note(error, silent=True)
        if launch.REPORTS not in os.environ:
            print(f"rltrain: error: {error}", file=sys.stderr, flush=True)

    try:
        device = _own_device(config.device)
        group = TorchGroup(config.runtime, device.startswith("cuda"), on_lost)
        _require_same_settings(config, group)
        if not config.dry_run:
            place, states = _place(config, folder, states, group)
        train(dataclasses.replace(config, device=device), place, _agreed(states, group), group)
        group.close()
    except BaseException as error:
        if group is not None:
            group.close(error)
        note(error)
        if launch.REPORTS not in os.environ or not isinstance(error, Exception):
            raise
        if not isinstance(error, RltrainError):
            traceback.print_exc()
        # Not a plain exit: after an error a thread of torch may wait for a process that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        process.exit_now(ProcessLost.exit_code if isinstance(error, ProcessLost) else 0)


def _require_same_settings(config: RunConfig, group: Group) -> None:
    """Raise ConfigError if the command lines of the processes gave a setting several values, as `${now:%f}` does."""
    values = dataclasses.asdict(config)
    groups = {name: values.pop(name) for name in ("algo", "env", "network")}
    every_updates = values.pop("runtime")["check_every_updates"]
    own = {f"{name}.name": own.pop("name") for name, own in groups.items()}  # first, as the rest follows from them
    own |= values | {"runtime.check_every_updates": every_updates}
    own |= {f"{name}.{key}": value for name, group_ in groups.items() for key, value in group_.items()}
    first, *others = group.gather({key: value for key, value in own.items() if key not in _MAY_DIFFER})
    for rank, theirs in enumerate(others, start=1):
        if key := next((key for key in first if not saved_config.same(first[key], theirs.get(key))), None):
            what = f"{key} is {first[key]} in the process of rank 0 and {theirs.get(key)} in that of rank {rank}"
            fix = "give all the same value"
            if key.startswith("env.kwargs"):
                fix += "; the environment can read RANK from os.environ by itself"
            raise ConfigError(what, key, fix)


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
        known = group.broadcast(launch.noted_folder())
        if known is None:
            folder = Path(group.broadcast(str(run_folder.create(config, None)) if group.rank == 0 else None))
        else:
            folder = Path(known)
            if checkpoint.resumable(folder):
                states = checkpoint.candidates(folder, "last", {saved_config.fingerprint(config)}, config.seed)
            elif group.rank == 0:
                run_folder.clear_logs(folder)
    if group.rank == 0:
        launch.note_folder(folder)
    else:
        _divert_output(folder / f"rank-{group.rank}.log")
    return folder, states


def _own_device(name: str) -> str:
    """Return the GPU of this process if the run uses GPUs, by its number on this machine. Raises ConfigError."""
    device = resolve_device(name)
    if device.type == "mps":
        raise ConfigError("mps has no exchange of gradients", "device", "use device=cpu, or runtime=local")
    if device.type != "cuda":
        return name
    number, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.index is not None and processes > 1:
        raise ConfigError(f"{processes} processes cannot share {name}", "device", "use device=cuda: one GPU for each")
    number = number if device.index is None else device.index
    if processes > torch.cuda.device_count():
        what = f"{processes} processes, but {torch.cuda.device_count()} GPUs"
        raise ConfigError(what, "runtime.processes, device", "use a process for each GPU, or device=cpu")
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _divert_output(path: Path) -> None:
    """Send what this process prints to a file: only rank 0 uses the terminal."""
    with contextlib.suppress(OSError, CheckpointError), inside.append(path) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
