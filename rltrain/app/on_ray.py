"""Jobs of a sweep on a Ray cluster (`hydra/launcher=rltrain_ray`). Ray is imported for such a sweep alone.

Each job has an actor, for which Ray reserves cores and GPUs on one of the nodes. The job itself is a process as in
side_by_side.py, and meets nothing of Ray.
"""

import contextlib
import dataclasses
import math
import os
import sys
import time
from typing import Any

from rltrain.app import side_by_side
from rltrain.app import sweep as sweeps
from rltrain.app.keeper import Keeper
from rltrain.app.resolve import require_ray
from rltrain.config.runtime import RayLauncherConfig
from rltrain.errors import ConfigError, EnvironmentFailure, FolderInUse, ProcessLost
from rltrain.runtime import ray_cluster
from rltrain.system import notices, process
from rltrain.system.signals import answering

_POLL_S = 0.5
"""The longest wait for an answer of the cluster, in seconds, before the sweep looks for signals."""
_PAUSE_S = 5.0
"""Seconds before a job is tried again: until Ray has noticed that a node is lost, it places actors there."""
_LATE_S = 60.0
"""Seconds in which a network file system shows the files that a job has written on another node."""
_START_S = 30.0
"""Seconds without any job after which a warning says what the jobs wait for."""


def check(settings: RayLauncherConfig) -> None:
    """Raise EnvironmentFailure if Ray is not installed, and ConfigError if a Ray of our own could run no job."""
    require_ray("hydra/launcher")
    cores = process.usable_cores()
    if settings.address == "local" and settings.cpus_per_job > cores:
        what = f"a job needs {settings.cpus_per_job:g} cores, and this machine has {cores}"
        raise ConfigError(what, "hydra.launcher.cpus_per_job", "reserve fewer, or join a cluster")


def at_once_here(settings: RayLauncherConfig) -> int:
    """Return how many jobs run side by side if the sweep is continued on this machine without Ray."""
    return max(1, process.usable_cores() // math.ceil(settings.cpus_per_job))


@dataclasses.dataclass
class _Attempt:
    """A job on the cluster."""

    job: sweeps.Job
    restarts: int = 0
    """How often the job was tried before."""
    due_s: float = 0.0
    """The earliest time to ask for an actor."""
    actor: Any = None
    begun_s: float | None = None
    """When the job began; None while its actor waits for a node."""
    is_announced: bool = False


def run(
    sweep: sweeps.Sweep, todo: list[sweeps.Job], fail_fast: bool, pace: sweeps.Pace, settings: RayLauncherConfig
) -> int | None:
    """Run jobs on a cluster. Returns the number of the signal that stopped them, or None.

    Raises ConfigError or EnvironmentFailure if there is no Ray, and ProcessLost if Ray itself is lost.
    """
    received: list[int] = []
    with answering(lambda number, frame: received.append(number)):
        num_gpus = None if settings.gpus_per_job else 0
        try:
            leave = ray_cluster.connect(settings.address, process.usable_cores(), "hydra.launcher.address", num_gpus)
        except EnvironmentFailure:
            if received:  # Ray answers SIGTERM while it starts
                return received[-1]
            raise
        try:
            _Cluster(sweep, pace, settings, received).run(todo, fail_fast)
        finally:
            leave()  # jobs that still run save and end
    return received[-1] if received else None


class _Cluster:
    """The jobs of a sweep on a cluster, as the process that was started sees them."""

    def __init__(
        self, sweep: sweeps.Sweep, pace: sweeps.Pace, settings: RayLauncherConfig, received: list[int]
    ) -> None:
        """received: the stop signals that this process has received so far."""
        import ray

        self._ray, self._sweep, self._pace, self._settings, self._received = ray, sweep, pace, settings, received
        # Spread over the nodes: the loss of one then costs few jobs.
        self._remote = ray.remote(
            num_cpus=settings.cpus_per_job,
            num_gpus=settings.gpus_per_job,
            max_restarts=0,
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )(Keeper)
        self._later: list[_Attempt] = []
        """Attempts whose actor is not asked for yet."""
        self._running: dict[Any, _Attempt] = {}
        """Attempts by the reference of the answer for which they wait: that the job began, or how it ended."""

    def run(self, todo: list[sweeps.Job], fail_fast: bool) -> None:
        """Run jobs until all have ended, or until a signal comes and those that have begun are saved."""
        self._later = [_Attempt(job) for job in todo]
        warn_s, told = time.monotonic() + _START_S, 0
        try:
            while self._running or self._later:
                self._ask()
                for reference in self._answers():
                    attempt = self._running.pop(reference)
                    self._hear(attempt, reference)
                    if fail_fast and self._has_failed(attempt):
                        self._drop_waiting()
                if len(self._received) > told:  # every signal is passed on, so a second Ctrl-C ends jobs that save
                    told = len(self._received)
                    self._drop_waiting()
                    notices.tell(f"stopping: {len(self._running)} jobs are saving")
                    for attempt in self._running.values():
                        attempt.actor.stop.remote(self._received[-1])
                if any(attempt.is_announced for attempt in self._running.values()):
                    warn_s = math.inf
                elif time.monotonic() > warn_s:
                    warn_s = math.inf
                    self._warn()
        except self._ray.exceptions.RayError as error:
            for attempt in self._running.values():
                self._wait_until_saved(attempt.job)
            if not self._received:  # the signal may have reached Ray, too
                what = f"Ray is lost: {ray_cluster.first_line(error)}"
                fix = "go on with `rltrain resume` and the sweep's folder"
                raise ProcessLost(what, "hydra.launcher.address", fix) from error

    def _ask(self) -> None:
        """Ask the cluster for an actor for each job that is due. Ray queues those for which no node has room."""
        now_s = time.monotonic()
        due = [attempt for attempt in self._later if attempt.due_s <= now_s]
        self._later = [attempt for attempt in self._later if attempt.due_s > now_s]
        plan, threads = str(self._sweep.folder / sweeps.PLAN), int(self._settings.cpus_per_job)
        here = os.getcwd(), [folder for folder in sys.path if folder]
        for attempt in due:
            log, words = side_by_side.log_of(self._sweep, attempt.job), side_by_side.arguments(self._sweep, attempt.job)
            attempt.actor = self._remote.remote()
            self._running[attempt.actor.start.remote(plan, str(log), threads, *here, words)] = attempt

    def _answers(self) -> list[Any]:
        """Return the references of the answers that have arrived. Waits a moment for the first one."""
        if not self._running:
            time.sleep(_POLL_S)
            return []
        return list(self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)[0])

    def _hear(self, attempt: _Attempt, reference: Any) -> None:
        """Take an answer: the job began, cannot begin, ended, or is lost."""
        job, place = attempt.job, self._sweep.place(attempt.job)
        try:
            answer = self._ray.get(reference)
            if answer == "":
                self._begun(attempt)
                return
            if answer is None:
                self._lost(attempt, "the process that holds it was killed")
            elif isinstance(answer, str):
                fix = "put run_dir on a file system that all nodes share"
                sweeps.record_failure(place, EnvironmentFailure(answer, str(self._sweep.folder), fix))
            else:
                self._pace.end(time.monotonic() - (attempt.begun_s or 0.0))
                if answer == 0:
                    self._wait_for_result(job)
                side_by_side.check(self._sweep, job, answer, stopping=bool(self._received))
        except self._ray.exceptions.RayTaskError as error:
            fix = "install the same versions of rltrain and its packages on all machines"
            what = f"the job cannot start: {_last_line(error)}"
            sweeps.record_failure(place, EnvironmentFailure(what, "hydra.launcher.address", fix))
        except self._ray.exceptions.RayError as error:
            self._lost(attempt, f"its actor is lost: {ray_cluster.first_line(error)}")
        self._kill(attempt)

    def _begun(self, attempt: _Attempt) -> None:
        attempt.begun_s = time.monotonic()
        self._running[attempt.actor.wait.remote()] = attempt
        self._pace.at_once = sum(each.begun_s is not None for each in self._running.values())
        if not attempt.is_announced:
            self._pace.begin(attempt.job)
            attempt.is_announced = True

    def _lost(self, attempt: _Attempt, what: str) -> None:
        """Try a job again whose actor or node is lost. Over `max_restarts` it fails alone. what: in words."""
        job = attempt.job
        if self._sweep.finished(job):
            return
        if self._received:  # the signal may have reached Ray, too
            self._wait_until_saved(job)
        elif attempt.restarts < self._settings.max_restarts:
            again = dataclasses.replace(attempt, restarts=attempt.restarts + 1, begun_s=None)
            again.due_s = time.monotonic() + _PAUSE_S
            self._later.append(again)
            count = f"{again.restarts} of {self._settings.max_restarts}"
            notices.warn(f"{job.folder}: {what}; it is tried again ({count})")
        else:
            self._wait_until_saved(job)
            what += f", in try {attempt.restarts + 1}" if attempt.restarts else ""
            fix = "find out what ends it, or set a higher hydra.launcher.max_restarts"
            sweeps.record_failure(self._sweep.place(job), ProcessLost(what, "hydra.launcher.max_restarts", fix))

    def _has_failed(self, attempt: _Attempt) -> bool:
        """Return True if a job is not done and will not be tried again."""
        is_open = any(each.job is attempt.job for each in (*self._running.values(), *self._later))
        return not is_open and not self._sweep.finished(attempt.job)

    def _drop_waiting(self) -> None:
        """Begin no other job."""
        self._later.clear()
        for reference, attempt in list(self._running.items()):
            if attempt.begun_s is None:
                self._kill(attempt)
                del self._running[reference]

    def _kill(self, attempt: _Attempt) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(attempt.actor)

    def _wait_for_result(self, job: sweeps.Job) -> None:
        """Wait until this machine sees the result that a job has written."""
        end_s = time.monotonic() + _LATE_S
        while not self._sweep.finished(job) and time.monotonic() < end_s:
            time.sleep(0.1)

    def _wait_until_saved(self, job: sweeps.Job) -> None:
        """Wait for a job without an actor, which saves and ends."""
        place = self._sweep.place(job)
        if os.path.exists(place / "config.yaml"):
            with contextlib.suppress(FolderInUse):
                sweeps.wait_for(place)

    def _warn(self) -> None:
        needs = f"{self._settings.cpus_per_job:g} cores and {self._settings.gpus_per_job:g} GPUs"
        has = self._ray.cluster_resources()
        what = f"no job has begun for {_START_S:.0f} s: a job needs {needs} of one node"
        what += f", and the cluster has {has.get('CPU', 0):g} and {has.get('GPU', 0):g} in all"
        notices.warn(f"{what}; hydra.launcher.cpus_per_job, hydra.launcher.gpus_per_job")


def _last_line(error: Exception) -> str:
    """Return the last line of an error of a task, which is that of its traceback."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
