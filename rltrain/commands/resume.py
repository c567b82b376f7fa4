"""`rltrain resume RUN [total_steps=...]`: continue a run in its own folder, with its own settings."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from rltrain.app.resolve import check_device
from rltrain.app.train import train
from rltrain.commands.arguments import RUN_KEYS, is_setting, load_config, split, truth, whole_number
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.errors import ConfigError, UnfitCheckpoint
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.system import inside

USAGE = (
    "rltrain resume RUN [total_steps=...] [micro_batch_size=...] [oom=fail|split] [progress=true|false] [env.id=...]"
    " [env.cfg=FILE]"
)

_KEYS = {"total_steps", "micro_batch_size", "oom", "progress", *RUN_KEYS}


def main(argv: list[str]) -> int:
    """Continue a run. Returns the exit code. Raises RltrainError."""
    for key in (arg.split("=")[0] for arg in argv if is_setting(arg, _KEYS)):
        if key not in _KEYS and _is_setting(key):
            fix = "start a new run with it; `resume` takes " + ", ".join(sorted(_KEYS))
            raise ConfigError("`resume` cannot change this setting", key, fix)
    words, values = split(argv, _KEYS, USAGE)
    changes: dict[str, Any] = {}
    if "progress" in values:
        changes["progress"] = truth("progress", values["progress"])
    for key in ("total_steps", "micro_batch_size"):
        if key in values:
            changes[key] = whole_number(key, values[key])
    if "oom" in values:
        changes["oom"] = values["oom"]
    folder, which = run_folder.find_trained(words[0], checkpoint.resumable)
    with run_folder.Lock(folder) as lock:  # before anything is read: another process may be about to change it
        run_folder.sweep(folder)
        _resume(words[0], folder, which or "last", values, changes, lock)
    return 0


def _resume(
    word: str, folder: Path, which: str, values: dict[str, str], changes: dict[str, Any], lock: run_folder.Lock
) -> None:
    """Continue the run in a locked folder. word: the name that the user gave. values, changes: the command line."""
    path, resumes = saved_config.newest(folder)
    config = dataclasses.replace(load_config(folder, path, values), **changes)
    check_device(config)
    candidates = checkpoint.candidates(folder, which, saved_config.fingerprints(config, folder))
    step, state = next(candidates)
    if step >= config.total_steps and inside.is_file(
        folder / "result.json"
    ):  # without it, the final evaluation is missing
        raise ConfigError(
            f"the run is done at step {step:,} of {config.total_steps:,}",
            "total_steps",
            f"give a larger value: rltrain resume {shlex.quote(word)} total_steps={2 * step}",
        )
    if changes.keys() - {"progress"}:
        saved_config.save(config, folder / f"config.resume-{resumes + 1}.yaml")
    while True:
        try:
            train(config, folder, (step, state), lock)
            return
        except UnfitCheckpoint as error:
            print(f"rltrain: warning: {error}", file=sys.stderr)
            step, state = next(candidates)


def _is_setting(key: str) -> bool:
    """Return True if the key is a setting of some run."""
    group, _, name = key.rpartition(".")
    schemas = {
        "": [RunConfig],
        "algo": ALGOS.values(),
        "env": ENVIRONMENTS.values(),
        "network": [NetworkConfig],
    }
    return any(name in vars(owner)["__dataclass_fields__"] for owner in schemas.get(group, []))
