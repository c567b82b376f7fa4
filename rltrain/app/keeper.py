"""Start the process of a sweep's job, and keep it: from this process, or from an actor on a Ray cluster.

A job's standard input is a pipe. The process that started it holds the other end, so a job whose parent is gone notices
it, saves, and ends. What is imported here is in the memory of every node once more for each job.
"""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

from rltrain.errors import disk_errors
from rltrain.system import inside, process
from rltrain.system.signals import STOP_SIGNALS, answering

_JOB = "from rltrain.app import side_by_side; side_by_side.work()"
# The packages of the node come first, then the folders of the machine where the sweep was started.
_HOLDER = "import sys; sys.path += {folders!r}; from rltrain.app import keeper; keeper.hold()"


def start(log: Path, threads: int, words: list[str]) -> "subprocess.Popen[bytes]":
    """Start the process of a job.

    log: what the job prints is appended here. threads: for large layers, unless OMP_NUM_THREADS says another number.
    words: those of `side_by_side.arguments`. Raises CheckpointError, DiskError, OSError.
    """
    with disk_errors("the log of the job", log):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = inside.append(log)
    with output:
        return subprocess.Popen(
            [*process.python(_JOB), *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={"OMP_NUM_THREADS": str(max(1, threads)), **os.environ},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on once
        )  # fmt: skip


def watch_parent() -> None:
    """Send SIGTERM to this process as soon as its parent is gone."""

    def watch() -> None:
        os.read(0, 1)  # returns at the end of the pipe
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class Keeper:
    """An actor of Ray that keeps one job. `stop` is called in another thread while `wait` waits.

    Between the actor and the job is a third process, the holder: if an actor ends, Ray kills its children at once, but
    not their children. So a job that loses its actor can still save.
    """

    def start(
        self, plan: str, log: str, threads: int, working_directory: str, folders: list[str], words: list[str]
    ) -> str:
        """Start the job on this node. Return "" if it runs, or why it cannot.

        plan: a file that must be there. log, threads, words: as of `start`. working_directory, folders: where the sweep
        was started, and the search path there.
        """
        if not inside.is_file(Path(plan)):
            return f"the node {platform.node()} does not see the sweep's folder"
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with inside.append(Path(log)) as output:
            self._holder = subprocess.Popen(
                [sys.executable, "-P", "-c", _HOLDER.format(folders=[_root(), *folders]), log, str(threads), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=working_directory if os.path.isdir(working_directory) else None,
                start_new_session=True,
            )
        return ""

    def wait(self) -> int | None:
        """Wait for the end of the job. Return its return code, negative after a signal.

        None: the holder was killed. Ray kills it a moment before this process, so the answer may still arrive.
        """
        assert self._holder.stdout is not None
        told = self._holder.stdout.read()
        code = self._holder.wait()
        if told:
            return int(told)
        return code if code >= 0 else None

    def stop(self, number: int) -> None:
        """Pass a signal on to the job."""
        self._holder.send_signal(number)


def hold() -> None:
    """Start a job, wait for it, and print its return code: the main function of a holder."""
    # Ray blocks SIGINT in its processes, and what they start inherits that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    log, threads, *words = sys.argv[1:]
    job = start(Path(log), int(threads), words)
    with answering(lambda number, frame: job.send_signal(number)):
        watch_parent()
        code = job.wait()
    with contextlib.suppress(OSError):  # nobody listens if the actor is gone
        os.write(1, str(code).encode())


def _root() -> str:
    """Return the folder where this process has found rltrain."""
    return str(Path(__file__).parent.parent.parent)
