"""`rltrain resume RUN [total_steps=...]`: continue a run or a sweep in its own folder, with its own settings."""

import contextlib
import dataclasses
import itertools
import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from rltrain.app import jobs, on_ray, sweep
from rltrain.app.resolve import check_device, check_environment, check_runtime
from rltrain.app.train import resume
from rltrain.commands.arguments import RUN_KEYS, is_setting, load_config, refuse_imports, split, truth, whole_number
from rltrain.config import saved as saved_config
from rltrain.config.groups import settings_classes
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RUNTIMES, RayLauncherConfig, refuse_places
from rltrain.errors import CheckpointError, ConfigError
from rltrain.run import checkpoint, own_code
from rltrain.run import folder as run_folder
from rltrain.runtime import launch
from rltrain.system import inside, notices

USAGE = (
    "rltrain resume RUN [total_steps=...] [micro_batch_size=...] [oom=fail|split] [progress=true|false] [env.id=...]"
    " [env.cfg=FILE] [runtime=local|torchrun|ray] [runtime.processes=...] [runtime.actors=...]"
    " (RUN may be the folder of a sweep: its jobs that are not done are resumed or started; on a Ray cluster with"
    " hydra/launcher=rltrain_ray hydra.launcher.address=...)"
)

_OF_RUNTIME = {
    f"runtime.{field.name}" for kind in RUNTIMES.values() for field in dataclasses.fields(kind) if field.name != "name"
}
_OF_LAUNCHER = {f"hydra.launcher.{field.name}" for field in dataclasses.fields(RayLauncherConfig)} | {"hydra/launcher"}
_OF_RUN = {"total_steps", "micro_batch_size", "oom", "runtime", *_OF_RUNTIME}
_KEYS = {"progress", *_OF_RUN, *_OF_LAUNCHER, *RUN_KEYS}


def main(argv: list[str]) -> int:
    """Continue a run. Returns the exit code. Raises RltrainError."""
    for key in (arg.split("=")[0] for arg in argv if is_setting(arg, _KEYS)):
        if key not in _KEYS and _is_setting(key):
            fix = "start a new run with it; `resume` takes " + ", ".join(sorted(_KEYS))
            raise ConfigError("`resume` cannot change this setting", key, fix)
    words, values = split(argv, _KEYS, USAGE)
    if sweep.is_sweep(words[0]):
        return _resume_sweep(words[0], values)
    if wrong := sorted(values.keys() & _OF_LAUNCHER):
        raise ConfigError("this key is for a sweep", wrong[0], "leave it out, or give the folder of a sweep")
    changes: dict[str, Any] = {}
    if "progress" in values:
        changes["progress"] = truth("progress", values["progress"])
    for key in ("total_steps", "micro_batch_size"):
        if key in values:
            changes[key] = whole_number(key, values[key])
    if "oom" in values:
        changes["oom"] = values["oom"]
    folder, which = run_folder.find_trained(words[0], checkpoint.resumable)
    run_folder.require_text(folder)
    if _rank_0_locks(folder, values):
        _resume(words[0], folder, which or "last", values, changes, None)
        return 0
    with run_folder.Lock(folder) as lock:  # before anything is read: another process may be about to change it
        run_folder.sweep(folder)
        _resume(words[0], folder, which or "last", values, changes, lock)
    return 0


def _resume(
    word: str, folder: Path, which: str, values: dict[str, str], changes: dict[str, Any], lock: run_folder.Lock | None
) -> None:
    """Continue the run in a locked folder. word: the name that the user gave. values, changes: the command line.

    lock: None where rank 0 of several processes locks the folder.
    """
    path, _ = saved_config.newest(folder)
    config = load_config(folder, path, values)
    own_code.tell_other_cfg(getattr(config.env, "cfg", None), folder)
    if runtime := _changed_runtime(config, values):
        changes["runtime"] = runtime
    own_steps = config.total_steps
    config = dataclasses.replace(config, **changes)
    refuse_places(config.runtime, [f"{key}={value}" for key, value in values.items()])
    config = check_runtime(config)
    check_device(config)
    check_environment(config)
    candidates = checkpoint.candidates(folder, which, saved_config.fingerprints(config, folder), config.seed)
    step, state = next(candidates)
    larger = f"give a larger value: rltrain resume {shlex.quote(word)} total_steps={max(own_steps, 2 * step)}"
    if config.total_steps < step and config.total_steps != own_steps:
        raise ConfigError(f"the run is at step {step:,} already, beyond {config.total_steps:,}", "total_steps", larger)
    if step >= config.total_steps and _is_evaluated(folder, config.total_steps):
        raise ConfigError(f"the run is done at step {step:,} of {config.total_steps:,}", "total_steps", larger)
    if lock is not None and (last := checkpoint.newest_step(folder)) > step:
        what = f"going back from step {last:,} to step {step:,}: checkpoints, lines of the logs and a result of later"
        notices.warn(f"{what} steps are removed; to keep them, copy the run folder first")
    resume(config, folder, itertools.chain([(step, state)], candidates), lock)


def _is_evaluated(folder: Path, step: int) -> bool:
    """Return True if the run has made its final evaluation at `step` or later, not only that of fewer total steps."""
    with contextlib.suppress(FileNotFoundError, CheckpointError):
        steps = inside.read_json(folder / "result.json").get("steps")
        return isinstance(steps, int) and steps >= step
    return False


def _resume_sweep(word: str, values: dict[str, str]) -> int:
    """Run the jobs of a sweep that are not done. Returns the exit code. Raises RltrainError."""
    if wrong := sorted(values.keys() & _OF_RUN):
        raise ConfigError(
            "this key is for a single run", wrong[0], "resume a run of the sweep with it, or leave it out"
        )
    found = sweep.load(Path(word))
    found.ray = _ray_launcher(values)
    ids = values.get("env.id", "").split(",")
    files = [os.path.abspath(os.path.expanduser(file)) for file in values.get("env.cfg", "").split(",")]
    for job in found.jobs:
        if job.config is None:
            continue
        config = saved_config.from_dict(job.config)
        own = getattr(config.env, "id", "")
        refuse_imports(config, {"env.id": own} if own in ids else {}, found.folder)
        file = getattr(config.env, "cfg", None)
        if file is not None and os.path.abspath(file) not in files:
            saved_config.refuse_cfg(file, "")
        if "progress" in values:
            job.config["progress"] = truth("progress", values["progress"])
    return jobs.run(found, found.jobs, fail_fast=False)


def _ray_launcher(values: dict[str, str]) -> RayLauncherConfig | None:
    """Return the Ray cluster that a command line names for the jobs of a sweep, or None. Raises RltrainError."""
    prefix = "hydra.launcher."
    given = {key.removeprefix(prefix): _plain(key, text) for key, text in values.items() if key.startswith(prefix)}
    launcher = values.get("hydra/launcher")
    if launcher is None and not given:
        return None
    if launcher != "rltrain_ray":
        fix = "use hydra/launcher=rltrain_ray, or leave hydra.launcher out to run the jobs on this machine"
        raise ConfigError("`resume` takes no other launcher", "hydra/launcher", fix)
    settings = saved_config.ray_launcher(given)
    on_ray.check(settings)
    return settings


def _rank_0_locks(folder: Path, values: dict[str, str]) -> bool:
    """Return True in a process that is not rank 0 of several, or that starts them. Raises CheckpointError, ConfigError.

    A launcher must not lock: those of other machines start at the same time.
    """
    if launch.is_launched():
        return os.environ["RANK"] != "0"
    config = load_config(folder, saved_config.newest(folder)[0], values)
    return bool((_changed_runtime(config, values) or config.runtime).name == "torchrun")


def _changed_runtime(config: RunConfig, values: dict[str, str]) -> Any:
    """Return the settings of the runtime that the command line gives, or None if it gives none. Raises ConfigError."""
    given = {key.partition(".")[2]: _plain(key, text) for key, text in values.items() if key.startswith("runtime.")}
    name = values.get("runtime", config.runtime.name)
    if not given and name == config.runtime.name:
        return None
    kept = dataclasses.asdict(config.runtime) if name == config.runtime.name else {}
    runtime = saved_config.runtime({**kept, "name": name} | given)
    return runtime if runtime != config.runtime else None


def _plain(key: str, text: str) -> Any:
    try:
        return inside.parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the value '{text}' cannot be read", key, "give a number, a text or null") from error


def _is_setting(key: str) -> bool:
    """Return True if the key is a setting of some run."""
    group, _, name = key.rpartition(".")
    schemas = settings_classes().get(group, {}).values()
    return any(name == field.name for schema in schemas for field in dataclasses.fields(schema))
