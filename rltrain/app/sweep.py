"""Sweeps: the plan in sweep.json, the attempt at one job, and the ranked table.

A sweep can be stopped at any moment and continued, because the plan holds the settings of every job and each job's
folder tells how far it came. This module knows no Hydra: `rltrain resume SWEEP` composes nothing.
"""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.app.resolve import check_environment, resolve
from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import SHORTHANDS, RunConfig
from rltrain.config.runtime import RayLauncherConfig
from rltrain.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    FolderInUse,
    Halt,
    LockLost,
    Stopped,
    causes,
    disk_errors,
    printable,
)
from rltrain.math.statistics import bootstrap_interval, mean
from rltrain.run import checkpoint, own_code
from rltrain.run import folder as run_folder
from rltrain.system import atomic, csv_files, inside, notices, plain_json

PLAN = "sweep.json"
"""Name of the plan in a sweep's folder."""
TABLE = "sweep.csv"
"""Name of the ranked table in a sweep's folder."""

_WAIT_S = 180.0
"""Seconds to wait for a job of a killed sweep that is still saving. A file server keeps the locks of a lost machine for
its lease, usually 90 s."""

_OF_A_GAME = ("id", "game", "scenario", "state", "states", "cfg", "kwargs")
"""Keys of an environment that say which game it is. Scores of two games cannot be compared."""

_NOT_COMPARED = ("progress", "log_every_s", "dry_run", "skip_done", "fail_fast", "tuned_by", "chosen")
"""Keys in which two jobs may differ and still be the same job."""


class Interrupt(Halt):
    """A signal stops the sweep."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


received: list[int] = []
"""Signals that came between the jobs of the sweep in this process."""

lost: list[LockLost] = []
"""The error of a job whose folder, or the sweep's, another process has taken over."""


@dataclass
class Job:
    """One job of a sweep."""

    number: int
    folder: str
    """Run folder, relative to the sweep's folder."""
    command: list[str]
    """Arguments of the command that trains this job alone."""
    overrides: list[str]
    """Hydra's overrides of this job."""
    varies: dict[str, str]
    """The values of the keys that vary in this sweep."""
    config: dict[str, Any] | None
    """Settings before `resolve`, as plain data; None if they are wrong."""
    reason: str = ""
    """Why the settings are wrong."""

    @functools.cached_property
    def identity(self) -> str:
        """Settings that decide what the job trains, as text; those of wrong settings are what was typed.

        Cached, because a sweep of a thousand jobs compares each with each.
        """
        settings = {key: value for key, value in (self.config or {}).items() if key not in _NOT_COMPARED}
        return plain_json.dumps(settings if self.config is not None else self.overrides, sort_keys=True)

    def same_as(self, other: "Job") -> bool:
        """Return True if both jobs train the same."""
        return self.identity == other.identity


@dataclass
class Sweep:
    """A sweep's folder and its plan."""

    folder: Path
    """Absolute path."""
    jobs: list[Job]
    at_once: int = 0
    """Jobs that run side by side in processes of their own; 0: one after the other in this process."""
    ray: RayLauncherConfig | None = None
    """The Ray cluster on which the jobs run; None: this machine. The plan does not hold it: it may be somebody else's,
    and who joins a Ray cluster trusts it."""
    told: set[str] = field(default_factory=set)
    """What `tell_edited` has warned of."""

    def save(self) -> None:
        """Make the folder and write the plan. Raises DiskError, and ConfigError for a plan too large to be read."""
        jobs = [dataclasses.asdict(job) for job in self.jobs]
        plan = plain_json.dumps({"at_once": self.at_once, "digest": _digest(jobs), "jobs": jobs}, indent=1)
        if len(plan) > inside.JSON_BYTES:  # of ASCII alone
            what = f"the plan of the {len(jobs):,} jobs has {len(plan):,} bytes, more than {inside.JSON_BYTES:,}"
            raise ConfigError(what, "command line", "give fewer values, or several sweeps one after another")
        with disk_errors("the sweep's folder", self.folder, "give a writable run_dir with free disk space"):
            self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.folder / PLAN, plan)

    def place(self, job: Job) -> Path:
        """Return the folder of the newest attempt at a job, or the folder that its first attempt will get.

        Raises CheckpointError if a link or a file has the name of an attempt, the first included.
        """
        attempts = [inside.folder(self.folder / job.folder)]
        while inside.is_folder(inside.folder(following := self._again(job, len(attempts) + 1))):
            attempts.append(following)
        return attempts[-1]

    def new_place(self, job: Job) -> Path:
        """Return a folder for a new attempt. It holds no run yet, so nothing is overwritten."""
        place, number = self.folder / job.folder, 1
        while os.path.exists(place / "config.yaml"):  # unlike Path.exists, it takes hidden ones
            number += 1
            place = self._again(job, number)
        return place

    def _again(self, job: Job, number: int) -> Path:
        return self.folder / f"{job.folder}_again-{number}"

    def refuse_other_runs(self, jobs: Iterable[Job]) -> None:
        """Raise CheckpointError if a job's folder holds the run of another command, such as one moved there.

        Its settings may differ under the same command, where this names a file that was edited in between.
        """
        for job in jobs:
            place = self.place(job)
            command, settings = place / "command.txt", place / "config.yaml"
            if inside.is_file(command) and inside.read_text(command) != run_folder.command_line(job.command):
                what = f"the folder {place.name} holds the run of another command than the sweep's plan says"
                raise CheckpointError(what, str(command), "move the runs back into their own folders")
            own: dict[str, Any] = {}
            with contextlib.suppress(CheckpointError):  # the job itself tells what is wrong with it
                own = saved_config.read(settings) if inside.is_file(settings) else {}
            if job.config is not None and (keys := _other_settings(job.config, own)):
                what = f"the folder {place.name} holds a run with other settings than the sweep's plan says"
                fix = f"they differ in {', '.join(keys[:3])}: move the runs back into their own folders"
                raise CheckpointError(what, str(settings), fix)

    def tell_edited(self) -> None:
        """Warn once for each Doom .cfg file, and for the user's modules, that are others than a job began with.

        Jobs that run one after the other in this process use the modules that it has imported.
        """
        for job in self.jobs:
            env = (job.config or {}).get("env")
            cfg, env_id = (env.get("cfg"), env.get("id")) if isinstance(env, dict) else (None, None)
            if isinstance(cfg, str) and cfg not in self.told and own_code.tell_other_cfg(cfg, self.place(job)):
                self.told.add(cfg)
            words = [f"env.id={env_id}", f"plugins={(job.config or {}).get('plugins')}"]
            if (self.at_once or self.ray) and "modules" not in self.told:
                self.told |= {"modules"} if own_code.tell_other_code(words, self.place(job), "a job") else set()

    def labels(self) -> dict[int, dict[str, str]]:
        """Return what tells each job from those that differ in more than their seed, by the jobs' numbers.

        That is what varied in its own command, and in a sweep that was extended with other settings also these.
        """
        labels = {job.number: {key: text for key, text in job.varies.items() if key != "seed"} for job in self.jobs}
        settings = {job.number: _without_seed(job.config or {}) for job in self.jobs}

        def mixed() -> list[list[int]]:
            rows: dict[str, list[int]] = {}
            for number, label in labels.items():
                rows.setdefault(plain_json.dumps(label, sort_keys=True), []).append(number)
            return [row for row in rows.values() if any(settings[number] != settings[row[0]] for number in row)]

        keys = dict.fromkeys(("env", "algo", *(key for values in settings.values() for key in values)))
        for key in keys:
            rows = mixed()
            if not rows:
                break
            if any(settings[number].get(key) != settings[row[0]].get(key) for row in rows for number in row):
                for number, label in labels.items():  # a typed init_from may have led to a newer checkpoint since
                    label[key] = settings[number].get(key, label.get(key, ""))
        return labels

    def extended_to(self, job: Job) -> int | None:
        """Return the total steps of a job that was resumed by itself to more than its plan says, else None."""
        place = self.place(job)
        with contextlib.suppress(OSError, CheckpointError):
            path, resumes = saved_config.newest(place)
            steps = saved_config.read(path).get("total_steps") if resumes else None
            if isinstance(steps, int) and steps != (job.config or {}).get("total_steps"):
                return steps
        return None

    def finished(self, job: Job) -> bool:
        """Return True if the newest attempt at a job has its final evaluation."""
        place = self.place(job)
        result, status = _read(place / "result.json"), _read(place / "status.json")
        final = result.get("final")
        if not isinstance(final, dict) or not _is_score(final.get("mean_reward")):
            return False
        # A run that was killed between its result and its status is done, too.
        wanted = (job.config or {}).get("total_steps")
        steps = result.get("steps")
        reached = isinstance(wanted, int | float) and isinstance(steps, int | float) and steps >= wanted
        return status.get("state") == "done" or reached

    def state(self, job: Job, interrupted: bool = False) -> tuple[str, str]:
        """Return done, failed, stopped or not begun, with the reason of a failure.

        interrupted: a signal stopped the sweep, so a job that ended without a word was stopped.
        """
        if job.config is None:
            return "failed", job.reason
        place = self.place(job)
        if self.finished(job):
            return "done", ""
        status = _read(place / "status.json")
        if status.get("state") == "failed":
            return "failed", str(status.get("reason") or "it ended without giving a reason")
        if not os.path.exists(place / "config.yaml"):
            return "not begun", ""
        if status.get("state") == "stopped" or interrupted:
            return "stopped", ""
        return "failed", "it ended without giving a reason"  # killed


_FAMILIES = ("gym", "atari", "doom", "retro")
"""The families of rltrain's own. `settle` of a plugin's family may change any setting of it."""
_MAY_DIFFER = {
    *_NOT_COMPARED,
    *SHORTHANDS,
    "algo",
    "env",
    "network",
    "runtime",
    "run_dir",
    "name",
    "env.name",
    "env.cfg",
}
"""Keys in which a run's own settings may differ from its plan: `resolve` changes them, or they change no score."""


def _other_settings(planned: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Return the keys in which a job's own settings, which are resolved, are not those of the plan.

    null and auto in the plan stand for any value, as do keys that `resolve` has chosen. A key that only one of the two
    has is of another version.
    """
    algo, chosen = planned.get("algo"), own.get("chosen")
    names = {name for name in chosen if isinstance(name, str)} if isinstance(chosen, list) else set()
    may_differ = _MAY_DIFFER | names | {f"algo.{name}" for name in names & set(SHORTHANDS)}
    if isinstance(algo, dict):
        shorthands = {key: planned[key] for key in SHORTHANDS if planned.get(key) is not None}
        planned = {**planned, "algo": algo | shorthands}
    found = []
    for prefix in ("", "algo.", "env.", "network."):
        ours, theirs = ((each.get(prefix[:-1]) if prefix else each) for each in (planned, own))
        if not isinstance(ours, dict) or not isinstance(theirs, dict):
            continue
        if prefix == "env." and theirs.get("family") not in _FAMILIES:
            continue
        for key, value in ours.items():
            if key in theirs and f"{prefix}{key}" not in may_differ and value not in (None, "auto"):
                found += [] if saved_config.same(value, theirs[key]) else [f"{prefix}{key}"]
    return found


def first_attempt(folder: Path) -> Path:
    """Return the folder of the first attempt at the job that the folder of an attempt belongs to."""
    return folder.with_name(re.sub(r"_again-[0-9]+$", "", folder.name))


def is_given_up(folder: Path) -> bool:
    """Return True for the folder of an attempt at a job after which another attempt was begun."""
    first = first_attempt(folder)
    number = 1 if folder == first else int(folder.name.removeprefix(f"{first.name}_again-"))
    return inside.is_folder(first.with_name(f"{first.name}_again-{number + 1}"))


def load(folder: Path) -> Sweep:
    """Read the plan of a sweep. Raises CheckpointError."""
    path = folder / PLAN
    fix = "resume the runs in the folder one by one"
    try:
        values = inside.read_json(path)
        jobs = [Job(**{field.name: values_of[field.name] for field in dataclasses.fields(Job)})
                for values_of in values["jobs"]]  # fmt: skip
        sweep = Sweep(_real(folder), jobs, int(values["at_once"]))
        sound = all(_is_sound(job, sweep.folder) for job in jobs) and sweep.at_once >= 0
        for job in jobs:
            dataclasses.asdict(job)  # which an extended sweep saves; too deep nesting is a RecursionError
        places = {_real(sweep.folder / job.folder) for job in jobs}
        inside_another = any(parent in places for place in places for parent in place.parents)
        sound = sound and len(places) == len(jobs) == len({job.number for job in jobs}) and not inside_another
        for job in jobs if sound else ():
            with contextlib.suppress(FileNotFoundError):
                os.lstat(sweep._again(job, 99))  # a name that is too long is an OSError
    except (OSError, OverflowError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(f"the plan of the sweep cannot be read: {what}", str(path), fix) from error
    if not sound:
        raise CheckpointError("the plan of the sweep is damaged", str(path), fix)
    if values.get("digest", digest := _digest(values["jobs"])) != digest:  # missing in a plan of an older version
        what = "the plan of the sweep was edited: its jobs, folders and scores may not belong together"
        raise CheckpointError(what, str(path), "put it back, or start another sweep for other values")
    return sweep


def _digest(jobs: list[dict[str, Any]]) -> str:
    """Return the SHA-256 of the jobs of a plan."""
    return hashlib.sha256(plain_json.dumps(jobs, sort_keys=True).encode()).hexdigest()


def earlier(folder: Path, jobs: list[Job]) -> Sweep | None:
    """Return the sweep in `folder`, or else the one beside it that has most of these jobs; of equal ones the newest."""
    if is_sweep(str(folder)):
        return load(folder)
    found: list[tuple[int, str, Sweep]] = []
    for place in folder.parent.iterdir() if os.path.isdir(folder.parent) else ():
        if is_sweep(str(place)):
            with contextlib.suppress(CheckpointError):
                sweep = load(place)
                shared = sum(any(job.same_as(known) for known in sweep.jobs) for job in jobs)
                found.append((shared, place.name, sweep))
    best = max(found, key=lambda one: one[:2], default=None)
    return best[2] if best and best[0] else None


def _is_sound(job: Job, folder: Path) -> bool:
    """Return True if the values of a job have their types, and its folder is inside the sweep's."""
    texts = [*job.command, *job.overrides, *job.varies, *job.varies.values(), job.folder, job.reason]
    return (
        isinstance(job.number, int)
        and isinstance(job.config, dict | None)
        and isinstance(job.varies, dict)
        and all(isinstance(text, str) for text in texts)
        and all(len(os.fsencode(part)) < 256 for part in Path(job.folder).parts)
        and is_inside(job.folder, folder)
    )


def is_inside(name: str, folder: Path) -> bool:
    """Return True if a job's folder lies inside the sweep's folder, also after following links."""
    place, top = _real(folder / name), _real(folder)
    return place != top and place.is_relative_to(top)


def _real(path: Path) -> Path:
    """Return a path without links. Unlike Path.resolve, it takes links that lead to each other."""
    return Path(os.path.realpath(path))


def is_sweep(word: str) -> bool:
    """Return True if a word of the command line is the folder of a sweep."""
    return os.path.isfile(os.path.join(word, PLAN))  # unlike Path.is_file, it takes any name


def folder_name(number: int, varies: dict[str, str]) -> str:
    """Return `NN_key-value_...` with what varies, without characters that a shell or Hydra interprets.

    A minus sign survives: `x=-1` becomes `x--1`.
    """
    keys = [key.rpartition(".")[2] for key in varies]
    parts = [f"{number:02d}"]
    for key, last, value in zip(varies, keys, varies.values(), strict=True):
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", value).rstrip("-.") or "-"
        parts.append(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', last if keys.count(last) == 1 else key)}-{slug}")
    return "_".join(parts)[:120]


class Pace:
    """Announces each job, and tells how long the rest will take, from the jobs that ended so far."""

    def __init__(self, num_jobs: int, num_before: int, at_once: int, look: Callable[[], None] = lambda: None) -> None:
        """Look: called before each job, to tell of what has changed."""
        self._num_jobs, self._begun, self.at_once, self._look = num_jobs, num_before, at_once, look
        self._durations_s: list[float] = []

    def begin(self, job: Job) -> None:
        """Print a line at the start of a job."""
        self._look()
        self._begun += 1
        line = f"job {self._begun} of {self._num_jobs}: {job.folder}"
        if self._durations_s:
            rest = self._num_jobs - self._begun + 1
            left_s = rest * sum(self._durations_s) / len(self._durations_s) / min(self.at_once, rest)
            line += f"; about {max(1, round(left_s))} s left" if left_s < 60 else f"; about {left_s / 60:.0f} min left"
        print(printable(line), file=sys.stderr, flush=True)

    def end(self, seconds: float) -> None:
        """Count the duration of a job."""
        self._durations_s.append(seconds)


def attempt(sweep: Sweep, job: Job, resolved: RunConfig | None = None) -> None:
    """Train a job to its end in this process. Its errors are recorded in its folder, not raised. Raises Interrupt.

    resolved: the job's resolved settings, if they are known already.
    """
    argv = sys.argv
    sys.argv = ["rltrain", *job.command]  # what the job's command.txt records
    try:
        late = _train(sweep, job, resolved)
    except Stopped as error:
        raise Interrupt(error.signal_number) from None
    except (Halt, KeyboardInterrupt):
        raise
    except LockLost as error:  # Hydra would go on with the next job
        lost.append(error)
    except BaseException as error:  # also an asyncio.CancelledError, or the SystemExit of a plugin
        if received:  # a library has made another error of Interrupt, while it was imported
            raise Interrupt(received[-1]) from None
        record_failure(sweep.place(job), error)
        let_go(error)
    else:
        let_go(None)
        if late is not None:
            raise Interrupt(late)
    finally:
        sys.argv = argv


def _train(sweep: Sweep, job: Job, resolved: RunConfig | None) -> int | None:
    """Resume a job from its last checkpoint, or start it. Returns a signal that came too late to stop the job."""
    from rltrain.app import train as trainer  # imports TensorBoard

    place = sweep.place(job)
    if os.path.exists(place / "config.yaml"):
        wait_for(place)
        if sweep.finished(job):
            return None
        if checkpoint.resumable(place):
            # The plan names the .cfg file of Doom that the command line named, and `progress`, which it may change.
            run_folder.require_text(place)
            path, _ = saved_config.newest(place)
            wanted = settings_of(job)
            config = saved_config.load(path, getattr(wanted.env, "cfg", None))
            own, planned = (getattr(each.env, "id", "") for each in (config, wanted))
            if own != planned:  # it may import a module, which the command line names for the plan alone
                what = f"the job's settings have env.id={own}, and the plan of the sweep has env.id={planned}"
                raise CheckpointError(what, str(path), "use the settings as rltrain wrote them")
            config = dataclasses.replace(config, progress=wanted.progress, runtime=wanted.runtime)
            check_environment(config)
            candidates = checkpoint.candidates(place, "last", saved_config.fingerprints(config, place), config.seed)
            return trainer.resume(config, place, candidates, None, job.varies)
        place = sweep.new_place(job)
    resolved = resolved or resolve(settings_of(job))
    stop_if_asked()
    return trainer.train(resolved, place, varies=job.varies)


def stop_if_asked() -> None:
    """Raise Interrupt again if a signal came: Python ignores what is raised in a destructor or a weak reference.

    Raises LockLost if a job has lost its folder, or the sweep's.
    """
    if lost:
        raise lost.pop()
    if received:
        raise Interrupt(received[-1])


def settings_of(job: Job) -> RunConfig:
    """Return the settings of a job, before `resolve`. Raises ConfigError, also for a plugin that is not loaded."""
    assert job.config is not None
    config = saved_config.from_dict(job.config)
    if config.runtime.name != "local":
        fix = "use runtime=local, or start these runs one after another without -m"
        raise ConfigError("a job of a sweep is one process", "runtime", fix)
    return config


def wait_for(place: Path) -> None:
    """Wait until no other process uses a job's folder: jobs that lost their parent save first. Raises FolderInUse."""
    end_s = time.monotonic() + _WAIT_S
    while True:
        try:
            run_folder.Lock(place).release()
            return
        except FolderInUse:
            if time.monotonic() > end_s:
                raise
        time.sleep(0.1)


def record_failure(folder: Path, error: BaseException) -> None:
    """Write the reason of a failure to status.json in the job's folder, and the traceback of a bug to error.log."""
    known = plugin_modules.explain(error)
    told = known or plugin_modules.unclear(error)
    record(folder, str(told) if told else f"{type(error).__name__}: {error}", told.exit_code if told else 1)
    if known is None:
        atomic.write_text(folder / "error.log", "".join(traceback.format_exception(error)))


def record(folder: Path, reason: str, code: int) -> None:
    """Write the reason of a failure to status.json in the job's folder, and tell it.

    The folder may be another user's: then it is only told. Raises DiskError for other causes.
    """
    notices.tell(f"job failed: {folder.name}: {reason}")
    step = _read(folder / "status.json").get("step", 0)
    status = {"state": "failed", "step": step, "pid": None, "reason": reason, "exit_code": code}
    try:
        with disk_errors("the job's folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / "status.json", status)
    except DiskError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise


def state_in(folder: Path) -> str:
    """Return the state in a run folder's status.json, or "" if there is none."""
    return str(_read(folder / "status.json").get("state", ""))


def let_go(error: BaseException | None) -> None:
    """Free the memory of a job (network, replay buffer) before the next job starts in the same process.

    error: the error of a failed job, or None. Its traceback references all local variables, so they are cleared.
    """
    for each in causes(error) if error is not None else ():
        traceback.clear_frames(each.__traceback__)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_score(value: Any) -> bool:
    """Return True for a finite number. JSON has integers that are too large for a float, and NaN."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or {} if the file is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, CheckpointError):
        return inside.read_json(path)
    return {}


def again(sweep: Sweep, jobs: Iterable[Job]) -> str:
    """Return the arguments of `rltrain resume` for a sweep, quoted for a shell.

    They name the plugins, the modules of `env.id`, the files of `env.cfg` and the Ray cluster again, because a saved
    plan may be somebody else's.
    """
    configs = [job.config for job in jobs if job.config]
    ids = dict.fromkeys(config["env"].get("id") or "" for config in configs)
    ids = dict.fromkeys(filter(plugin_modules.must_be_named_again, ids))
    plugins = dict.fromkeys(name for config in configs for name in config.get("plugins") or [])
    words = [str(run_folder.from_here(sweep.folder))]
    words += [f"env.id={','.join(ids)}"] if ids else []
    files = dict.fromkeys(str(config["env"].get("cfg") or "") for config in configs)
    words += [f"env.cfg={','.join(filter(None, files))}"] if any(files) else []
    words += [f"plugins=[{','.join(plugins)}]"] if plugins else []
    words += sweep.ray.words() if sweep.ray else []
    return shlex.join(words)


@dataclass
class _Row:
    """One row of the ranked table: the jobs that differ in their seed only."""

    label: dict[str, str]
    """Values of the keys that vary, without the seed."""
    jobs: list[Job]
    done: list[Job]
    game: tuple[str, str]
    """The environment and what says which game it is. Each game has its own ranks."""
    mean: float = float("nan")
    low: float | None = None
    high: float | None = None
    """The 95 % bootstrap interval of the mean over the jobs; None for a single job."""


def _without_seed(config: dict[str, Any]) -> dict[str, str]:
    """Return the settings that decide what a job trains, but for the seed, as texts with dotted keys.

    `env` and `algo` stand for the names of these groups.
    """
    flat: dict[str, Any] = {}
    pending = [("", {key: value for key, value in config.items() if key not in (*_NOT_COMPARED, "seed")})]
    while pending:
        prefix, values = pending.pop(0)
        for key, value in values.items():
            if isinstance(value, dict) and value:
                pending.append((f"{prefix}{key}.", value))
            else:
                flat[prefix + key] = value
    names = {group: flat.pop(f"{group}.name") for group in ("env", "algo") if f"{group}.name" in flat}
    return {key: value if isinstance(value, str) else plain_json.dumps(value) for key, value in (names | flat).items()}


def _rows(sweep: Sweep) -> list[_Row]:
    """Return the rows, best first within each game; rows without a finished job come last."""
    labels = sweep.labels()
    groups: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        groups.setdefault(plain_json.dumps(labels[job.number], sort_keys=True), []).append(job)
    rows = []
    for members in groups.values():
        label = labels[members[0].number]
        row = _Row(label, members, [job for job in members if sweep.finished(job)], _game(label, members[0]))
        if row.done:
            finals = [_final(sweep, job)["mean_reward"] for job in row.done]
            row.mean = float(np.mean(finals))
            if len(finals) > 1:
                low, high = bootstrap_interval(np.array(finals)[:, None], mean, np.random.default_rng(0))
                row.low, row.high = float(low[0]), float(high[0])
        rows.append(row)
    return sorted(rows, key=lambda row: (not row.done, row.game, -row.mean if row.done else 0.0))


def _game(label: dict[str, str], job: Job) -> tuple[str, str]:
    settings = (job.config or {}).get("env")
    of_game = {key: settings.get(key) for key in _OF_A_GAME} if isinstance(settings, dict) else {}
    return label.get("env", ""), plain_json.dumps(of_game, sort_keys=True)


def _final(sweep: Sweep, job: Job) -> dict[str, Any]:
    return dict(_read(sweep.place(job) / "result.json")["final"])


def report(sweep: Sweep, jobs: list[Job], interrupted: bool = False, fix: str | None = None) -> int:
    """Print the ranked table of the sweep and the number of the given jobs in each state, and write sweep.csv.

    Scores of different games cannot be compared, so each game has its own ranks. fix: what continues the sweep; None:
    `rltrain resume`. Returns 0, or 1 if a job is not done.
    """
    rows = _rows(sweep)
    states = {job.number: sweep.state(job, interrupted) for job in jobs}
    print(printable(str(run_folder.from_here(sweep.folder))), file=sys.stderr)
    keys = list(dict.fromkeys(key for row in rows for key in row.label))
    table: list[list[Any]] = [["rank", *keys, "jobs", "done", "mean", "low", "high", "folders"]]
    rank, game = 0, None
    for row in rows:
        rank, game = (rank + 1 if row.game == game else 1), row.game
        numbers = ["" if value is None or not row.done else f"{value:.10g}" for value in (row.mean, row.low, row.high)]
        places = " ".join(sweep.place(job).relative_to(sweep.folder).as_posix() for job in row.done)
        values = [row.label.get(key, "") for key in keys]
        table.append([rank if row.done else "", *values, len(row.jobs), len(row.done), *numbers, places])
        if row.done:
            print(printable(f"{rank:>3}  {_line(sweep, row)}"), file=sys.stderr)
    for job in sweep.jobs:
        if (steps := sweep.extended_to(job)) is not None:
            told = f"{sweep.place(job).name} was trained on by itself to {steps:,} steps, which its plan does not say"
            print(printable(f"  -  {told}"), file=sys.stderr)
    for job in jobs:
        state, reason = states[job.number]
        if state == "failed":
            print(printable(f"  -  failed: {sweep.place(job).name}: {reason}"), file=sys.stderr)
    csv_files.write(sweep.folder / TABLE, table)
    counts = {state: sum(found == state for found, _ in states.values()) for state in ("done", "failed")}
    rest = {state: sum(found == state for found, _ in states.values()) for state in ("stopped", "not begun")}
    line = f"{counts['done']} of {len(jobs)} jobs done, {counts['failed']} failed"
    line += "".join(f", {number} {state}" for state, number in rest.items() if number)
    # What cannot be trained cannot be continued either; `Stopped` names the command after a signal.
    if not interrupted and any(job.config is not None and states[job.number][0] != "done" for job in jobs):
        line += f"; continue with: {fix or 'rltrain resume ' + again(sweep, jobs)}"
    print(printable(line), file=sys.stderr)
    return 0 if counts["done"] == len(jobs) else 1


def _line(sweep: Sweep, row: _Row) -> str:
    """Return the numbers of a row: over seeds, or over the episodes of a single job."""
    if len(row.done) == 1:
        std = _final(sweep, row.done[0]).get("std_reward")
        spread = f"+- {std if _is_score(std) else 0.0:<8.2f}"
        return f"{row.mean:>10.2f} {spread} {sweep.place(row.done[0]).name}"
    different = len({job.varies.get("seed") for job in row.done}) == len(row.done)
    count = f"{len(row.done)} {'seeds' if different else 'runs'}"
    label = " ".join(f"{key}={value}" for key, value in row.label.items())
    return f"{row.mean:>10.2f} [{row.low:.2f}, {row.high:.2f}] over {count}  {label}".rstrip()
