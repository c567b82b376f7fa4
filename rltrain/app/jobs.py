"""Run the jobs of a sweep that are not done: one after the other, side by side, on a Ray cluster, or in a queue."""

import sys
import time
from collections.abc import Callable
from typing import Any

from rltrain.app import on_ray, side_by_side
from rltrain.app import sweep as sweeps
from rltrain.errors import ConfigError, Stopped
from rltrain.run import folder as run_folder
from rltrain.system import notices
from rltrain.system.signals import answering


def run(
    sweep: sweeps.Sweep,
    jobs: list[sweeps.Job],
    fail_fast: bool,
    run_one: Callable[[sweeps.Job], None] | None = None,
    run_all: Callable[[list[sweeps.Job]], None] | None = None,
) -> int:
    """Run the given jobs of a sweep that are not done, then print the table. Returns 0, or 1 if a job is not done.

    run_one: runs a job in this process; None: `attempt`. run_all: puts all jobs into the queue of a cluster, and waits
    for them. Raises Stopped, FolderInUse, DiskError, and on a Ray cluster ConfigError, EnvironmentFailure, ProcessLost.
    """
    lock = run_folder.Lock(sweep.folder)
    number = None
    try:
        sweep.refuse_other_runs(sweep.jobs)
        todo = [job for job in jobs if not sweep.finished(job)]
        for job in todo:
            if job.config is None:
                sweeps.record(sweep.folder / job.folder, job.reason, ConfigError.exit_code)
        todo = [job for job in todo if job.config is not None]
        if already := sum(map(sweep.finished, jobs)):
            print(f"{already} of {len(jobs)} jobs are done already", file=sys.stderr)
        pace = sweeps.Pace(len(jobs), len(jobs) - len(todo), max(1, sweep.at_once), sweep.tell_edited)
        if todo:  # jobs in a queue and on a cluster do not tell it: this process does, before they begin
            sweep.tell_edited()
        if run_all:
            if todo:
                _in_queue(sweep, todo, run_all)
            return sweeps.report(sweep, jobs, fix="the same command and skip_done=true")
        if sweep.ray:
            number = on_ray.run(sweep, todo, fail_fast, pace, sweep.ray)
        elif sweep.at_once:
            number = side_by_side.run(sweep, todo, fail_fast, pace)
        else:
            number = _one_by_one(sweep, todo, fail_fast, pace, run_one or (lambda job: sweeps.attempt(sweep, job)))
        with answering(lambda *_: None):  # the jobs have ended: a signal now would cost only the table
            code = sweeps.report(sweep, jobs, interrupted=number is not None)
    finally:
        lock.release()
    if number is not None:
        raise Stopped(number, str(run_folder.from_here(sweep.folder)), sweeps.again(sweep, jobs))
    return code


def _in_queue(sweep: sweeps.Sweep, todo: list[sweeps.Job], run_all: Callable[[list[sweeps.Job]], None]) -> None:
    """Wait for jobs in the queue of a cluster. Raises Stopped: the jobs go on without this process."""

    def stop(number: int, frame: Any) -> None:
        raise sweeps.Interrupt(number)

    try:
        with answering(stop):
            run_all(todo)
    except sweeps.Interrupt as interrupt:
        kept = "its jobs stay in the queue; if you cancel them, go on with the same command and skip_done=true"
        raise Stopped(interrupt.number, str(run_folder.from_here(sweep.folder)), kept=kept) from None
    except Exception as error:
        # A job was killed. The launcher has not waited for those after it.
        what = " ".join(f"{type(error).__name__}: {error}".split())
        notices.warn(f"the launcher waits no longer: {what}; other jobs may still run")


def _one_by_one(
    sweep: sweeps.Sweep,
    todo: list[sweeps.Job],
    fail_fast: bool,
    pace: sweeps.Pace,
    run_one: Callable[[sweeps.Job], None],
) -> int | None:
    """Run jobs in this process. Returns the number of the signal that stopped them, or None."""

    def stop(number: int, frame: Any) -> None:
        sweeps.received.append(number)
        raise sweeps.Interrupt(number)

    sweeps.received.clear()

    try:
        with answering(stop):
            for job in todo:
                pace.begin(job)
                start_s = time.monotonic()
                run_one(job)
                pace.end(time.monotonic() - start_s)
                sweeps.stop_if_asked()
                if fail_fast and not sweep.finished(job):
                    break
    except sweeps.Interrupt as interrupt:
        return interrupt.number
    return None
