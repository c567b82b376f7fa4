"""The process of one Doom engine. It ends with its trainer, can be killed at any time, and leaves no files behind.

ViZDoom starts an engine and talks to it through three entries in /dev/shm. This has two problems:

- An engine and its entries outlive a trainer that was killed.
- An engine that ends during its start crashes the trainer (ViZDoom 1.3.2 reads a null pointer).

So ViZDoom starts a small supervisor script instead of the engine. The supervisor starts the engine, is killed together
with the trainer (by Linux's parent-death signal), and does not end before ViZDoom tolerates it. The names of the
entries are removed as soon as both sides have opened them.

Two cases remain: a trainer killed while an engine starts, and a system without `setpriv`. `sweep` cleans up after them
at the next start. A living trainer locks the folder with its pool's files, so that `sweep` leaves it alone.
"""

import contextlib
import errno
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

# The script runs itself a second time, with $1 = supervise, to set the parent-death signal. If the parent has died
# before that, the process has another parent and exits. The engine ignores signals to the process group, such as
# Ctrl-C: the trainer handles them. PATH may lack the programs of the system, as that of a cron job can.
_SUPERVISOR = """#!/bin/sh
PATH="${{PATH:+$PATH:}}/usr/bin:/bin"
trap '' HUP INT TERM USR1 USR2
exec </dev/null >/dev/null 2>&1
cd {folder}
if [ "$1" != supervise ]; then exec {dies_with_parent} /bin/sh "$0" supervise "$@"; fi
shift
[ "$PPID" = {trainer} ] || exit 1
{dies_with_parent} /bin/sh -c '[ "$PPID" = "$0" ] && exec "$@"' $$ {engine} "$@" >engine.log 2>&1 &
echo "$$ $! $*" >processes.tmp && mv processes.tmp processes
wait $!
: >ended
[ -e started ] && exit 1
while kill -0 {trainer}; do sleep 1; done
"""


class PoolFolder:
    """A temporary folder for the files of a pool's engines. It is locked as long as the trainer lives."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = self.path / "lock.tmp"
        self._lock = lock.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        lock.rename(self.path / "lock")

    def remove(self) -> None:
        """Remove the folder with its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove engines, shared memory and folders of this user's trainers that have died."""
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
    """Kill the engine of one start, and remove the names of its shared memory."""
    try:
        started = _read(script.parent)
    except FileNotFoundError:  # the supervisor did not write down the name: find the entries by age, user and mapping
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
    """The process of one engine, with a new folder of its own."""

    def __init__(self, engine: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._supervisor: psutil.Process | None = None
        self.supervisor = folder / "engine.sh"
        """The script that ViZDoom starts instead of the engine."""
        values = {"folder": shlex.quote(str(folder)), "engine": shlex.quote(str(engine)), "trainer": os.getpid()}
        self.supervisor.write_text(_SUPERVISOR.format(**values, dies_with_parent=_dies_with_parent()))
        self.supervisor.chmod(0o700)
        if not os.access(self.supervisor, os.X_OK):
            fix = "set TMPDIR to a folder on a file system without the noexec option"
            raise EnvironmentFailure(f"programs cannot run in {folder}", "TMPDIR", fix)

    @property
    def ended(self) -> bool:
        """True if the engine has ended."""
        if (self._folder / "ended").exists():
            return True
        # The engine dies with its supervisor.
        return self._supervisor is not None and not _is_alive(self._supervisor)

    @property
    def last_line(self) -> str:
        """The last line that the engine has printed."""
        with contextlib.suppress(OSError):
            lines = (self._folder / "engine.log").read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def confirm_start(self) -> None:
        """Remove the names of the shared memory, and let the supervisor end with the engine from now on.

        Call it after ViZDoom's `init`. Then both sides have opened the shared memory, and ViZDoom tolerates the
        engine's end.
        """
        started = _read(self._folder)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._supervisor = psutil.Process(started.supervisor)
        (self._folder / "started").touch()
        _remove_names(started.instance)
        if self.ended and self._supervisor is not None:  # the engine ended before the supervisor could see `started`
            with contextlib.suppress(psutil.NoSuchProcess):
                self._supervisor.kill()

    def give_up_start(self) -> None:
        """Kill an engine that does not start. ViZDoom needs its supervisor, which stays until the trainer ends."""
        with contextlib.suppress(OSError):
            started = _read(self._folder)
            _kill(started.engine, names=str(self._folder))
            _remove_names(started.instance)

    def kill_unconfirmed(self) -> None:
        """Kill the engine and its supervisor, which has not written its file, after ViZDoom's `init`."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                arguments = " ".join(process.cmdline())
                if str(self._folder) in arguments:
                    process.kill()
                    _remove_names(_instance(arguments))

    def kill(self) -> None:
        """Kill the engine and its child processes. Can be called from any thread and more than once."""
        if self._supervisor is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in self._supervisor.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


class _Started(NamedTuple):
    supervisor: int
    engine: int
    instance: str
    """ViZDoom's id of this engine. The names of its shared memory end with it."""


def _read(folder: Path) -> _Started:
    """Return what the supervisor wrote to its file. Raises FileNotFoundError if it has not written it as a whole."""
    found = re.fullmatch(r"(\d+) (\d+) (.*)\n", (folder / "processes").read_text(errors="replace"), re.DOTALL)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "the file is not whole", str(folder / "processes"))
    return _Started(int(found[1]), int(found[2]), _instance(found[3]))


def _instance(arguments: str) -> str:
    found = re.search(r"\+viz_instance_id (\w+)", arguments)
    return found[1] if found else ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_mapped(path: Path) -> bool:
    """Return true if a running process maps the file."""
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
    """Kill a process if its command line contains `names`. Another process may have the process id by now."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        if any(names in argument for argument in process.cmdline()):
            process.kill()


@functools.cache
def _dies_with_parent() -> str:
    """Return a command prefix that makes a command die with its parent. Empty if this system has none."""
    command = ["setpriv", "--pdeathsig", "KILL"]
    env = {**os.environ, "PATH": ":".join(filter(None, (os.environ.get("PATH"), "/usr/bin", "/bin")))}
    try:
        works = subprocess.run([*command, "true"], capture_output=True, timeout=10, env=env).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    return shlex.join(command) if works else ""
