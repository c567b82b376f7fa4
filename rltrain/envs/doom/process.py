"""The process of one Doom engine: it ends with its trainer, can be killed at any moment, and leaves nothing behind.

ViZDoom starts an engine and talks to it through three entries in /dev/shm. Left alone, an engine and its entries
outlive a trainer that was killed, and an engine that ends before it has started takes the trainer with it (ViZDoom
1.3.2 reads a null pointer). So ViZDoom gets a small supervisor in place of its engine, which starts the engine, is
killed with the trainer (Linux's parent-death signal), and does not end before ViZDoom can bear it. The entries lose
their names as soon as both sides have opened them. What that does not cover (a trainer killed while an engine starts, a
system without `setpriv`) is swept up by the next start: the folder that holds a pool's files is locked by its trainer
while it lives.
"""

import contextlib
import fcntl
import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from rltrain.errors import EnvironmentFailure

_PREFIX = "rltrain-doom-"
_SHARED_MEMORY = Path("/dev/shm")

# $1 tells the second pass, for which the parent-death signal is set. A process that was too late for that signal finds
# itself with another parent and ends. Signals that a terminal or a scheduler sends to a whole group are the trainer's
# to answer: the engine ignores them.
_SUPERVISOR = """#!/bin/sh
trap '' HUP INT TERM USR1 USR2
exec </dev/null >/dev/null 2>&1
cd {folder}
if [ "$1" != supervise ]; then exec {dies_with_parent} /bin/sh "$0" supervise "$@"; fi
shift
[ "$PPID" = {trainer} ] || exit 1
{dies_with_parent} /bin/sh -c '[ "$PPID" = "$0" ] && exec "$@"' $$ {engine} "$@" >engine.log 2>&1 &
echo "$$ $! $*" >processes.tmp
mv processes.tmp processes
wait $!
: >ended
[ -e started ] && exit 1
while kill -0 {trainer}; do sleep 1; done
"""


class PoolFolder:
    """A temporary folder for the files of a pool's engines, which a living trainer holds locked."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = self.path / "lock.tmp"
        self._lock = lock.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        lock.rename(self.path / "lock")

    def remove(self) -> None:
        """Remove it with all that it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove what dead trainers of this user left: engines, shared memory, folders. Leaves all others alone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid() or folder.is_symlink():
                continue
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its trainer lives
                for script in folder.glob("*/*/engine.sh"):
                    _sweep_start(script)
                shutil.rmtree(folder)


def _sweep_start(script: Path) -> None:
    """End the engine of one start, and remove its names."""
    try:
        started = _read(script.parent)
    except FileNotFoundError:  # the trainer was killed before its engine said how its shared memory is named
        begun_s = script.stat().st_mtime
        for entry in _SHARED_MEMORY.glob("ViZDoom*"):
            facts = entry.stat()
            in_time = begun_s - 1 < facts.st_ctime < begun_s + 30
            if in_time and facts.st_uid == os.getuid() and not _is_mapped(entry):
                entry.unlink()
        return
    for pid in (started.engine, started.supervisor):
        _kill(pid, names=str(script.parent))
    _remove_names(started.instance)


class EngineProcess:
    """One start of an engine, in a new folder of its own."""

    def __init__(self, engine: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._supervisor: psutil.Process | None = None
        self.supervisor = folder / "engine.sh"
        """What ViZDoom is to start."""
        values = {"folder": shlex.quote(str(folder)), "engine": shlex.quote(str(engine)), "trainer": os.getpid()}
        self.supervisor.write_text(_SUPERVISOR.format(**values, dies_with_parent=_dies_with_parent()))
        self.supervisor.chmod(0o700)
        if not os.access(self.supervisor, os.X_OK):
            raise EnvironmentFailure(f"no program may run in {folder}", "TMPDIR", "set it to a folder where they may")

    @property
    def ended(self) -> bool:
        """Whether the engine has ended."""
        if (self._folder / "ended").exists():
            return True
        # Whatever killed its supervisor, the engine went with it.
        return self._supervisor is not None and not _is_alive(self._supervisor)

    @property
    def last_words(self) -> str:
        """The last line that the engine printed."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "engine.log").read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def confirm_start(self) -> None:
        """Both sides have opened their shared memory; from now on ViZDoom bears the engine's end."""
        started = _read(self._folder)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._supervisor = psutil.Process(started.supervisor)
        (self._folder / "started").touch()
        _remove_names(started.instance)
        if self.ended and self._supervisor is not None:  # before the supervisor could know of the start
            with contextlib.suppress(psutil.NoSuchProcess):
                self._supervisor.kill()

    def give_up_start(self) -> None:
        """End an engine that does not start. Its supervisor stays, for ViZDoom, until the trainer ends."""
        with contextlib.suppress(OSError):
            started = _read(self._folder)
            _kill(started.engine, names=str(self._folder))
            _remove_names(started.instance)

    def kill(self) -> None:
        """End the engine with its children, at once. From any thread, as often as wanted."""
        if self._supervisor is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in self._supervisor.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


class _Started(NamedTuple):
    supervisor: int
    engine: int
    instance: str
    """ViZDoom's name for this engine, which ends the names of its shared memory."""


def _read(folder: Path) -> _Started:
    """What the supervisor wrote down. Raises OSError before it has."""
    supervisor, engine, arguments = (folder / "processes").read_text().split(" ", 2)
    instance = re.search(r"\+viz_instance_id (\w+)", arguments)
    return _Started(int(supervisor), int(engine), instance[1] if instance else "")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_mapped(path: Path) -> bool:
    """Whether a running process has it in its memory."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if str(path) in maps.read_text():
                return True
    return False


def _remove_names(instance: str) -> None:
    if instance and _SHARED_MEMORY.is_dir():
        for entry in _SHARED_MEMORY.glob(f"ViZDoom*{instance}"):
            entry.unlink(missing_ok=True)


def _kill(pid: int, names: str) -> None:
    """Kill a process whose command line names a folder of ours, so that no other is hit that got its number."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        if any(names in argument for argument in process.cmdline()):
            process.kill()


@functools.cache
def _dies_with_parent() -> str:
    """A command before a command that makes it die with its parent; nothing where there is none."""
    command = ["setpriv", "--pdeathsig", "KILL"]
    try:
        works = subprocess.run([*command, "true"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    return shlex.join(command) if works else ""
