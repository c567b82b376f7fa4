"""Jobs of a sweep side by side (`hydra/launcher=joblib`), each in a process of its own.

A pool of joblib would kill the other jobs if one is stopped or dies, and cannot pass signals on. Here a job that is
killed fails alone, and if the parent stops or dies, its jobs save and end.
"""

import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from rltrain.app import keeper
from rltrain.app import sweep as sweeps
from rltrain.config import plugin_modules
from rltrain.errors import DiskError, LockLost, RltrainError
from rltrain.system import inside, notices, process, terminal
from rltrain.system.signals import STOP_SIGNALS, answering

_POLL_S = 0.05
"""Seconds between two looks at the running jobs."""
_TAIL_BYTES = 10_000
"""Bytes at the end of a job's log in which its last line is looked for."""


def run(sweep: sweeps.Sweep, todo: list[sweeps.Job], fail_fast: bool, pace: sweeps.Pace) -> int | None:
    """Run jobs, `sweep.at_once` at a time. Returns the number of the signal that stopped them, or None."""
    received: list[int] = []
    waiting, running = list(todo), dict[subprocess.Popen[bytes], tuple[sweeps.Job, float]]()
    told = 0
    try:
        with answering(lambda number, frame: received.append(number)):
            while running or (waiting and not received):
                while waiting and len(running) < sweep.at_once and not received:
                    job = waiting.pop(0)
                    pace.begin(job)
                    try:
                        running[_start(sweep, job)] = job, time.monotonic()
                    except DiskError as error:  # such as a log of another user
                        sweeps.record_failure(sweep.place(job), error)
                        if fail_fast:
                            waiting.clear()
                time.sleep(_POLL_S)
                if len(received) > told:  # every signal is passed on, so a second Ctrl-C ends jobs that are saving
                    told = len(received)
                    notices.tell(f"stopping: {len(running)} jobs are saving")
                    for child in running:
                        child.send_signal(received[-1])
                for child in [child for child in running if child.poll() is not None]:
                    job, start_s = running.pop(child)
                    pace.end(time.monotonic() - start_s)
                    check(sweep, job, child.returncode, stopping=bool(received))
                    if fail_fast and not sweep.finished(job):
                        waiting.clear()
    finally:
        for child in running:
            child.terminate()
        for child in running:
            child.wait()
    return received[-1] if received else None


def log_of(sweep: sweeps.Sweep, job: sweeps.Job) -> Path:
    """Return the file with what a job prints."""
    return sweep.folder / f"{job.folder}.log"


def _start(sweep: sweeps.Sweep, job: sweeps.Job) -> "subprocess.Popen[bytes]":
    if not inside.is_file(sweep.folder / sweeps.PLAN):  # the process would read it
        fix = "the folder was moved or deleted: resume it from where it is now"
        raise DiskError("the sweep's plan is gone", str(sweep.folder), fix)
    return keeper.start(log_of(sweep, job), process.usable_cores() // sweep.at_once, arguments(sweep, job))


def arguments(sweep: sweeps.Sweep, job: sweeps.Job) -> list[str]:
    """Return the arguments of a job's process. `progress` is among them, as `resume` may change it but not the plan."""
    assert job.config is not None
    return [str(sweep.folder), str(job.number), str(job.config.get("progress", True)), *plugin_modules.LOADED]


def _job_of(words: list[str]) -> tuple[sweeps.Sweep, sweeps.Job]:
    """Return the sweep and the job that the arguments of a process name, with the plugins loaded."""
    folder, number, progress, *plugins = words
    plugin_modules.load(plugins)
    sweep = sweeps.load(Path(folder))
    job = next(job for job in sweep.jobs if job.number == int(number))
    assert job.config is not None
    job.config["progress"] = progress == "True"
    return sweep, job


def check(sweep: sweeps.Sweep, job: sweeps.Job, return_code: int, stopping: bool) -> None:
    """Record the failure of a job that could not record it itself, because it was killed or could not start.

    return_code: of its process, negative after a signal, as in `subprocess`. stopping: a signal stops the sweep.
    """
    state, _ = sweep.state(job, interrupted=stopping)
    if state in ("done", "stopped") or (stopping and (-return_code in STOP_SIGNALS or return_code > 128)):
        return
    place = sweep.place(job)
    if return_code == LockLost.exit_code:  # the folder is another process's now
        notices.tell(f"job failed: {place.name}: another process has taken it over")
    elif return_code < 0:
        sweeps.record_failure(place, RuntimeError(f"killed by {signal.Signals(-return_code).name}"))
    elif state == "not begun" or sweeps.state_in(place) == "running":
        lines = [line for line in inside.tail(log_of(sweep, job), _TAIL_BYTES) if line.strip()] or ["no output"]
        sweeps.record_failure(place, RuntimeError(f"ended with code {return_code}: {lines[-1].strip()}"))
    else:
        notices.tell(f"job failed: {place.name}: {sweep.state(job)[1]}")


def work() -> None:
    """Train one job: the main function of a job's process, whose arguments are those of `arguments`."""
    process.prepare()
    terminal.guard()
    if select.select([0], [], [], 0)[0]:  # the parent is gone already
        return
    keeper.watch_parent()
    try:
        sweep, job = _job_of(sys.argv[1:])
        sweeps.attempt(sweep, job)
        sweeps.stop_if_asked()
        code = 0 if sweep.finished(job) else 1
    except sweeps.Interrupt as interrupt:
        code = 128 + interrupt.number
    except RltrainError as error:  # the parent reads the last line
        notices.tell(f"error: {error}")
        code = error.exit_code
    process.end_soon(code)  # an environment may have left a thread behind
    sys.exit(code)
