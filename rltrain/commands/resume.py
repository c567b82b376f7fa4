"""`rltrain resume RUN [total_steps=...]`: continue a run in its own folder, with its own settings."""

import dataclasses
import os
import sys
from typing import Any

import yaml

from rltrain.app.resolve import check_device, check_runtime
from rltrain.app.train import train
from rltrain.commands.arguments import refuse_imports, split, truth, whole_number
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import ConfigError, UnfitCheckpoint, disk_errors
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.runtime import launch

USAGE = (
    "rltrain resume RUN [total_steps=...] [micro_batch_size=...] [oom=fail|split] [progress=true|false] [env.id=...]"
    " [runtime=local|torchrun] [runtime.processes=...]"
)

_OF_RUNTIME = {f"runtime.{field.name}" for field in dataclasses.fields(TorchrunConfig) if field.name != "name"}
_KEYS = {"total_steps", "micro_batch_size", "oom", "progress", "env.id", "runtime", *_OF_RUNTIME}


def main(argv: list[str]) -> int:
    """Continue a run. Returns the exit code. Raises RltrainError."""
    for key in (arg.split("=")[0] for arg in argv if "=" in arg):
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
    folder = run_folder.from_here(folder)
    if not launch.is_launched():
        run_folder.Lock(folder).release()  # raises before anything is written if the folder is in use
    config = saved_config.load(folder / "config.yaml")
    resumes = len(list(folder.glob("config.resume-*.yaml")))
    if resumes:
        config = saved_config.load(folder / f"config.resume-{resumes}.yaml")
    refuse_imports(config, values)
    if runtime := _changed_runtime(config, values):
        changes["runtime"] = runtime
    config = check_runtime(dataclasses.replace(config, **changes))
    check_device(config)
    candidates = checkpoint.candidates(folder, which or "last", saved_config.fingerprints(config, folder))
    step, state = next(candidates)
    if step >= config.total_steps and (folder / "result.json").is_file():  # without it, the final evaluation is missing
        raise ConfigError(
            f"the run is done at step {step:,} of {config.total_steps:,}",
            "total_steps",
            f"give a larger value: rltrain resume {words[0]} total_steps={2 * step}",
        )
    # One process writes: rank 0, or this one if it starts no others.
    writes = os.environ["RANK"] == "0" if launch.is_launched() else config.runtime.name == "local"
    if changes.keys() - {"progress"} and writes:
        with disk_errors("the configuration", folder):
            saved_config.save(config, folder / f"config.resume-{resumes + 1}.yaml")
    while True:
        try:
            train(config, folder, (step, state))
            return 0
        except UnfitCheckpoint as error:
            print(f"rltrain: warning: {error}", file=sys.stderr)
            step, state = next(candidates)


def _changed_runtime(config: RunConfig, values: dict[str, str]) -> Any:
    """Return the settings of the runtime that the command line gives, or None if it gives none. Raises ConfigError."""
    given = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("runtime.")}
    name = values.get("runtime", config.runtime.name)
    if not given and name == config.runtime.name:
        return None
    kept = dataclasses.asdict(config.runtime) if name == config.runtime.name else {}
    return saved_config.runtime({**kept, "name": name} | {key: yaml.safe_load(value) for key, value in given.items()})


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
