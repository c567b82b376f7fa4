"""Sweeps as Hydra reads them: from `-m` and the command line to the plan of rltrain/app/sweep.py."""

import contextlib
import copy
import dataclasses
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from rltrain.app import composition, on_ray
from rltrain.app import jobs as jobs_of
from rltrain.app import sweep as sweeps
from rltrain.app.overrides import quote
from rltrain.app.resolve import resolve
from rltrain.config import plugin_modules
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RayLauncherConfig
from rltrain.config.saved import is_plain
from rltrain.errors import ConfigError, RltrainError
from rltrain.run import folder as run_folder
from rltrain.run import own_code
from rltrain.runtime import launch
from rltrain.system import atomic, inside, notices, plain_json, process, terminal

exit_codes: list[int] = []
"""Exit code of the sweep that Hydra has run."""

_NOT_OF_A_JOB = ("hydra.mode", "hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweep", "skip_done", "fail_")
"""Beginnings of arguments that belong to the sweep, not to a job of it."""

_MULTIRUN = "multirun.yaml"
"""What Hydra's own launchers write: the composed settings of the sweep."""
_MOST_JOBS = 10_000
"""The most jobs of a sweep: their settings are composed before the first begins, some ten a second."""
_MANY_JOBS = 100
"""Number of jobs whose settings take seconds to compose, which one line then explains."""

Settings = Callable[[DictConfig, list[str]], RunConfig]
"""Builds the settings of a composed configuration; the list is the command line."""

_command: list[str] = []
_settings: list[Settings] = []


def install(argv: list[str], settings: Settings) -> None:
    """Let Hydra use `Sweeper` in place of its basic sweeper. argv: the command line as Hydra will read it."""
    _command[:], _settings[:] = argv, [settings]
    exit_codes.clear()
    # Hydra takes sweepers only from its own packages. The name in the configuration stays that of the basic one.
    name = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
    Plugins.instance().class_name_to_class[name] = Sweeper


class SweepJob:
    """What a launcher of Hydra calls for each job, perhaps on another machine."""

    def __init__(self) -> None:
        self.folder = ""
        """Folder of the sweep."""
        self.numbers: dict[int, int] = {}
        """The number in the plan of each job that is launched, by the number that Hydra gives it.

        The overrides do not tell it: a file of settings may have been edited since they were used first.
        """
        self.resolved: dict[str, RunConfig] = {}
        """Settings of jobs that are resolved already, by the job's identity."""

    def __call__(self, composed: DictConfig) -> None:
        """Train the job whose overrides Hydra has composed."""
        terminal.guard()
        sweep = sweeps.load(Path(self.folder))
        number = self.numbers[HydraConfig.get().job.num]
        job = next(job for job in sweep.jobs if job.number == number)
        plugin_modules.load(composed.plugins)  # a launcher's process has not parsed the command line
        with _saving_first(), composition.hydra_aside():
            sweeps.attempt(sweep, job, self.resolved.pop(job.identity, None))


@contextlib.contextmanager
def _saving_first() -> Iterator[None]:
    """Let a job save before a handler of SIGUSR2 ends it: submitit's puts the job into Slurm's queue again."""
    handler = signal.getsignal(signal.SIGUSR2)
    if not callable(handler):
        yield
        return
    frames: list[Any] = []

    def save(number: int, frame: Any) -> None:
        frames.append(frame)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR2, save)
    try:
        yield
    except sweeps.Interrupt:
        if frames:
            handler(signal.SIGUSR2, frames[0])
        raise
    finally:
        signal.signal(signal.SIGUSR2, handler)


class Sweeper(HydraSweeper):
    """Hydra's basic sweeper, with a plan, checks before the first job begins, and a table at the end."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None) -> None:
        """Take the settings of Hydra's basic sweeper; all jobs are one batch."""
        self._params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives. The launcher is made later, because its settings may name the sweep's folder."""
        self._job = SweepJob()
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Plan the jobs, and run those that are not done. Raises RltrainError, HydraException."""
        assert self.config is not None and self.hydra_context is not None
        if launch.is_launched():
            raise ConfigError("a job of a sweep is one process", "torchrun", "start `rltrain -m ...` without torchrun")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self._params.items()), *arguments])
        _refuse_endless(parsed)
        (batch,) = BasicSweeper.split_arguments(parsed, None)
        # glob() finds the settings classes beside the files.
        is_schema = re.compile(r"\+*(algo|env|network|runtime)=\w+_schema").fullmatch
        batch = [overrides for overrides in batch if not any(map(is_schema, overrides))]
        folder = process.absolute(Path(str(self.config.hydra.sweep.dir)).expanduser())
        run_folder.refuse_links_out(folder)
        ray = _ray_settings(self.config.hydra.launcher)
        if not batch:
            fix = "range(a,b) needs a smaller than b, and glob() finds only names of choices such as algo"
            raise ConfigError("the sweep has no jobs", "command line", fix)
        jobs = self._jobs([list(overrides) for overrides in batch], folder)
        if self.config.get("dry_run"):
            exit_codes.append(_dry_runs(jobs))
            return
        self._refuse_hopeless(jobs)
        launcher = str(self.config.hydra.launcher.get("_target_"))
        at_once = _at_once(self.config.hydra.launcher.get("n_jobs", -1)) if "joblib" in launcher.lower() else 0
        plan = self._plan(folder, jobs, on_ray.at_once_here(ray) if ray else at_once)
        plan.ray = ray
        self._job.folder = str(plan.folder)
        with open_dict(self.config):  # with skip_done it may be another folder: Hydra must not make the one it named
            place = str(plan.folder).replace("${", "\\${")  # a name, not a reference of Hydra's
            self.config.hydra.sweep.dir = place
            self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quote(place)}")
        own = [next(job for job in plan.jobs if job.same_as(wanted)) for wanted in jobs]
        fail_fast = bool(self.config.get("fail_fast"))
        if ray or at_once:
            exit_codes.append(jobs_of.run(plan, own, fail_fast))
            return
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self._job, config=self.config
        )
        if launcher.endswith(".BasicLauncher"):
            exit_codes.append(jobs_of.run(plan, own, fail_fast, lambda job: self._launch([job])))
        else:  # that of a queue
            exit_codes.append(jobs_of.run(plan, own, fail_fast, run_all=self._launch))

    def _launch(self, jobs: list[sweeps.Job]) -> None:
        assert self.launcher is not None
        first = jobs[0].number
        self._job.numbers = {first + index: job.number for index, job in enumerate(jobs)}
        self.launcher.launch([job.overrides for job in jobs], initial_job_idx=first)

    def _jobs(self, batch: list[list[str]], folder: Path) -> list[sweeps.Job]:
        """Compose every job. Raises HydraException or ConfigError for a value that does not compose."""
        assert self.config is not None and self.hydra_context is not None
        varies = _varying(batch)
        if len(batch) > _MANY_JOBS:
            print(f"checking the settings of {len(batch):,} jobs", file=sys.stderr)
        jobs = []
        for number, overrides in enumerate(batch):
            composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            with open_dict(composed):
                composed.hydra.job.id, composed.hydra.job.num = str(number), number
            own = {key: dict(_pairs(overrides))[key] for key in varies}
            with _current(composed):
                subdir = str(composed.hydra.sweep.subdir)
                plain = copy.deepcopy(composed)
                with flag_override(plain, ["struct", "readonly"], [False, False]):
                    del plain["hydra"]
                job = sweeps.Job(
                    number,
                    sweeps.folder_name(number, own) if subdir == "." else subdir,
                    _own_command(overrides, own),
                    list(composed.hydra.overrides.task),
                    {key.lstrip("+~"): value for key, value in own.items()},
                    config=None,
                )
                try:
                    config = dataclasses.replace(_settings[0](plain, _command), skip_done=False, fail_fast=False)
                    values = dataclasses.asdict(config)
                    if not is_plain(values, names=[str]):  # JSON would make texts of numbers
                        what = "the plan of a sweep holds no mapping with numbers as names"
                        raise ConfigError(what, "env.kwargs", "use texts as names, or train each job by itself")
                    job.config = plain_json.loads(plain_json.dumps(values))
                except ConfigError as error:
                    job.reason = str(error)
            jobs.append(job)
        if any("run_dir" in job.varies for job in jobs):
            fix = "leave it out, or make a sweep for each"
            raise ConfigError("the jobs of a sweep lie in one folder, so run_dir cannot vary", "run_dir", fix)
        _refuse_same(jobs)
        _refuse_shared_folders(jobs)
        names = [job.folder for job in jobs]
        if wrong := next((name for name in names if not sweeps.is_inside(name, folder)), None):
            raise ConfigError(f"'{wrong}' leads out of the sweep's folder", "hydra.sweep.subdir", "leave it out")
        return jobs

    def _refuse_hopeless(self, jobs: list[sweeps.Job]) -> None:
        """Raise the error of the first job if no job can be trained. Nothing was made so far."""
        first: RltrainError | None = None
        for job in jobs:
            if job.config is None:
                what, _, rest = job.reason.partition("; ")
                first = first or ConfigError(what, *rest.split("; ", 1))
                continue
            try:
                config = sweeps.settings_of(job)
                with composition.hydra_aside():
                    self._job.resolved[job.identity] = resolve(config)
                return
            except RltrainError as error:
                first = first or error
            except Exception:  # the job itself will say what it is
                return
        assert first is not None
        raise first

    def _plan(self, folder: Path, jobs: list[sweeps.Job], at_once: int) -> sweeps.Sweep:
        """Return a new sweep, or with `skip_done` an earlier one, to which the jobs that it lacks are added."""
        assert self.config is not None
        plan = None
        if self.config.get("skip_done"):
            plan = sweeps.earlier(folder, jobs)
            if plan is None:
                print("no earlier sweep has one of these jobs: starting a new one", file=sys.stderr)
            else:
                own_code.find([*sys.argv[1:], str(plan.folder)])  # tells what differs from the code of its first run
        elif sweeps.is_sweep(str(folder)):
            what = f"there is a sweep in this folder already: {folder}"
            raise ConfigError(what, "hydra.sweep.dir", "add skip_done=true to continue it, or give another folder")
        if plan is None and (own := [name for name in (sweeps.TABLE, _MULTIRUN) if inside.is_file(folder / name)]):
            what = f"the folder has a file that a sweep writes, and no sweep: {folder / own[0]}"
            raise ConfigError(what, "hydra.sweep.dir", "give another folder, or move the file")
        plan = plan or sweeps.Sweep(folder, [])
        plan.at_once = at_once
        taken = {job.number for job in plan.jobs}
        for job in jobs:
            if any(job.same_as(known) for known in plan.jobs):
                continue
            if job.number in taken:
                job = dataclasses.replace(job, number=max(taken) + 1)
                if str(self.config.hydra.sweep.subdir) == ".":
                    job.folder = sweeps.folder_name(job.number, job.varies)
            _refuse_own_files(plan.folder / job.folder)
            taken.add(job.number)
            plan.jobs.append(job)
        _refuse_shared_folders(plan.jobs)  # an earlier sweep may have had the same name for another job
        plan.save()
        atomic.write_text(plan.folder / _MULTIRUN, OmegaConf.to_yaml(self.config))
        return plan


def _ray_settings(launcher: DictConfig) -> RayLauncherConfig | None:
    """Return the settings of `hydra/launcher=rltrain_ray`, or None for another launcher. Raises RltrainError."""
    if OmegaConf.get_type(launcher) is not RayLauncherConfig:
        return None
    settings = cast(RayLauncherConfig, OmegaConf.to_object(launcher))
    on_ray.check(settings)
    return settings


def _at_once(n_jobs: int | None) -> int:
    """Return how many jobs run at a time for joblib's `n_jobs`: -1 means one for each core, -2 one less, and so on."""
    n_jobs = 1 if n_jobs is None else int(n_jobs)
    return max(1, n_jobs if n_jobs > 0 else process.usable_cores() + 1 + n_jobs)


def _dry_runs(jobs: list[sweeps.Job]) -> int:
    """Make a dry run of every job, which keeps nothing. Returns 0, or 1 if one failed."""
    from rltrain.app.train import train  # imports TensorBoard

    failed = 0
    for job in jobs:
        print(f"job {job.number + 1} of {len(jobs)}: {job.folder}", file=sys.stderr)
        try:
            if job.config is None:
                raise ConfigError(*job.reason.split("; ", 2))
            with composition.hydra_aside():
                train(resolve(sweeps.settings_of(job)))
        except RltrainError as error:
            if error.exit_code >= 128:  # a signal stops all
                raise
            failed += 1
            notices.tell(f"job failed: {job.folder}: {error}")
    print(f"{len(jobs) - failed} of {len(jobs)} jobs can be trained, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


@contextlib.contextmanager
def _current(composed: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` resolve to a job's values inside."""
    before = copy.copy(HydraConfig.instance().cfg)
    HydraConfig.instance().set_config(composed)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _pairs(overrides: list[str]) -> list[tuple[str, str]]:
    """Return the key and the value of each override, without quotes around a value and with 100 for 100.0."""
    pairs = []
    for override in overrides:
        key, _, value = override.partition("=")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        pairs.append((key, re.sub(r"^(-?\d+)\.0$", r"\1", value)))
    return pairs


def _refuse_endless(parsed: Sequence[Override]) -> None:
    """Raise ConfigError for a sweep of more than _MOST_JOBS jobs, such as range(1,1e9), without a list of them."""
    num_jobs = 1
    for override in parsed:
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                fix = "use choice() or range()"
                raise ConfigError("interval() has no values to try one after another", str(override.key_or_group), fix)
            num_jobs *= sum(1 for _ in itertools.islice(override.sweep_string_iterator(), _MOST_JOBS + 1))
    if num_jobs > _MOST_JOBS:
        what = f"the sweep has more than {_MOST_JOBS:,} jobs"
        raise ConfigError(what, "command line", "give fewer values, or several sweeps one after another")


def _refuse_same(jobs: list[sweeps.Job]) -> None:
    """Raise ConfigError for two jobs that train the same, such as seed=0,0.0. Words alone do not tell it."""
    known: dict[str, sweeps.Job] = {}
    for job in jobs:
        first = known.setdefault(job.identity, job)
        if first is not job:
            what = f"two jobs of the sweep are the same: {' '.join(first.overrides)} and {' '.join(job.overrides)}"
            raise ConfigError(what, "command line", "give each value once")


def _refuse_own_files(place: Path) -> None:
    """Raise ConfigError for the folder of a new job with files of the user's: a run's could replace them.

    Beside a config.yaml the job gets another folder.
    """
    own = [path for path in inside.entries(place) if path.name[0] != "."] if inside.is_folder(place) else []
    if own and not os.path.lexists(place / "config.yaml"):
        what = f"the folder of a job has a file of yours: {own[0]}"
        raise ConfigError(what, "hydra.sweep.subdir", "give another one, or another hydra.sweep.dir, or move the files")


def _refuse_shared_folders(jobs: list[sweeps.Job]) -> None:
    if len({job.folder for job in jobs}) < len(jobs):
        fix = "leave it out, or use hydra.sweep.subdir='${hydra.job.num}'"
        raise ConfigError("several jobs would share a folder", "hydra.sweep.subdir", fix)


def _varying(batch: list[list[str]]) -> list[str]:
    """Return the keys whose values differ between the jobs."""
    values: dict[str, set[str]] = {}
    for overrides in batch:
        for key, value in _pairs(overrides):
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


def _own_command(overrides: list[str], varies: dict[str, str]) -> list[str]:
    """Return the sweep's command line with the values of one job, which trains this job alone."""
    of_key = {override.partition("=")[0]: override for override in overrides}
    own = []
    for arg in _command:
        key = arg.partition("=")[0]
        if arg in ("-m", "--multirun") or arg.startswith(_NOT_OF_A_JOB):
            continue
        own.append(of_key.get(key, arg) if key in varies else arg)
    typed = {arg.partition("=")[0] for arg in own}
    return own + [of_key[key] for key in varies if key not in typed]
