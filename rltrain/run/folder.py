"""The folder of a run: find it, create it with its config.yaml, command.txt and meta.json, and lock it."""

import contextlib
import errno
import fcntl
import itertools
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.config.validate import utf8
from rltrain.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    FolderInUse,
    LockLost,
    RltrainError,
    disk_errors,
)
from rltrain.run import checkpoint
from rltrain.system import atomic, inside, notices, process

_MINUTE_S = 60.0
_OF_A_RUN = ("checkpoints", "code", "eval", "export", "videos")
"""The folders in a run folder."""
_PACKAGES = ("rltrain", "torch", "numpy", "gymnasium", "ale-py", "vizdoom", "hydra-core", "numba")


def command_line(words: list[str]) -> str:
    """Return what command.txt says for the words after `rltrain`."""
    return shlex.join(["rltrain", *words]) + "\n"


def create(config: RunConfig, folder: Path | None) -> Path:
    """Create a run folder with config.yaml, command.txt and meta.json, and return its absolute path.

    folder: the folder of a sweep's job; None: a new one in run_dir. Raises DiskError if it cannot be written, and
    ConfigError if its path is no text.
    """
    root = process.absolute(config.run_dir)
    utf8("run_dir", str(folder or root))
    is_job = folder is not None
    if folder is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        suffix = f"-{config.name}" if config.name else ""
        folder = root / config.env.name / config.algo.name / f"{stamp}-s{config.seed}{suffix}"
    folder = process.absolute(folder)
    refuse_links_out(folder)
    fix = "give a writable run_dir with free disk space"
    with disk_errors("the run folder", folder if is_job else root, fix):
        # A sweep's job may have left a status.json there before it could make its run.
        folder.mkdir(parents=True, exist_ok=not (folder / "config.yaml").exists())
        saved_config.save(config, folder / "config.yaml")
        atomic.write_text(folder / "command.txt", command_line(sys.argv[1:]))
        atomic.write_json(folder / "meta.json", _meta(config))
        # A sweep from somebody else may name any folder of the user's as its run_dir.
        if not is_job or folder.parents[1] == root / "sweeps":
            _point_latest(root, folder)
    return folder


def refuse_links_out(folder: Path) -> None:
    """Raise ConfigError if a link in the run or sweep in which the user stands would lead a new folder out of it."""
    here = process.absolute(".")
    is_out = not os.path.realpath(folder).startswith(f"{os.path.realpath(here)}{os.sep}")
    if is_out and os.path.normpath(folder).startswith(f"{here}{os.sep}") and inside.stands_in_a_run():
        what = f"a link in this folder, which may be somebody else's run, leads to {os.path.realpath(folder)}"
        raise ConfigError(what, "run_dir", "stand in another folder, or give run_dir=DIR")


def find(word: str, run_dir: str = "runs") -> tuple[Path, str | None]:
    """Return the run folder that RUN names, and the checkpoint if RUN is the path of one, else None.

    RUN is a path, also with `~` for the home, a path relative to `run_dir`, `last`, or the name that `name=...` gave
    the run. Raises CheckpointError.
    """
    path = (
        _latest(Path(run_dir)) if word == "last" else Path(word if os.path.lexists(word) else os.path.expanduser(word))
    )
    if not os.path.exists(path):  # unlike Path.exists, it takes any name, and hidden ones
        named = _named(word, Path(run_dir))
        if len(named) > 1:
            first = ", ".join(map(str, named[:3]))
            raise CheckpointError(f"{len(named)} runs are called '{word}'", run_dir, f"give the folder of one: {first}")
        if not named:
            fix, what = "give a run folder, a checkpoint in it, a run's name, or `last`", "there is no such run"
            if word == "last":
                what, fix = "there is no last run here", "stand where you trained, or give PLACE/runs/latest"
            raise CheckpointError(_refused(path) or what, str(path), fix)
        path = named[0]
    path = Path(os.path.realpath(path.parent)) / path.name if _is_pointer(path) else Path(os.path.realpath(path))
    which = None
    if path.parent.name == "checkpoints" and not os.path.lexists(path / "config.yaml"):  # else a run in such a folder
        which = path.name.removeprefix("step_")
        path = path.parent.parent
    if not os.path.lexists(path / "config.yaml"):
        what = _refused(path / "config.yaml") or "this is not a run folder: it has no config.yaml"
        raise CheckpointError(what, str(path), "give a run folder, as `rltrain runs` shows them")
    return path, which


def _is_pointer(path: Path) -> bool:
    """Return True for `checkpoints/last` and `checkpoints/best`, which `checkpoint.find` resolves."""
    return path.parent.name == "checkpoints" and path.name in ("last", "best")


def _refused(path: Path) -> str | None:
    """Return what is wrong if a path lies in a folder that may not be entered, else None."""
    try:
        os.lstat(path)
    except PermissionError as error:
        return f"the run cannot be read: {error.strerror}"
    except (OSError, ValueError):  # it is missing; a name with a zero byte
        pass
    return None


def _latest(run_dir: Path) -> Path:
    """Return the run in `run_dir` that `latest` points to, else the newest one that can be read, with a warning.

    The folder may be somebody else's, and its link must not choose a run of the user's."""
    latest = run_dir / "latest"
    if not (why := _useless(latest)):
        return latest
    runs = sorted((path for path in _below(run_dir) if path != latest), key=created, reverse=True)
    newest = next(filter(_can_read, runs), None)
    if newest is None:
        return latest
    if os.path.lexists(latest):
        notices.warn_once(f"{latest}: {why}; `last` is now the newest run, {newest}")
    return newest


def _useless(latest: Path) -> str | None:
    """Return why `last` cannot mean the link `latest`, or None if it can."""
    if not os.path.islink(latest):
        return "it is no link"
    if not _is_ours(latest):
        return "it is a link to something else than a run"
    if not os.path.exists(latest) and not _refused(Path(os.path.realpath(latest))):
        return "it points to a run that was deleted"
    if not Path(os.path.realpath(latest)).is_relative_to(os.path.realpath(latest.parent)):
        return "it leads out of this folder"
    return None if _can_read(latest) else "it points to a run that cannot be read"


def _can_read(folder: Path) -> bool:
    """Return False for a run whose settings this user may not read. A damaged one says so itself."""
    try:
        inside.read_bytes(folder / "config.yaml")
    except FileNotFoundError:
        return False
    except CheckpointError as error:
        return not isinstance(error.__cause__, OSError)
    return True


def _is_ours(latest: Path) -> bool:
    """Return True for a link to a run, also a deleted or hidden one. Other links of this name are the user's."""
    path = latest / "config.yaml"
    is_run = os.path.lexists(path) or _refused(path) is not None or not os.path.exists(latest)
    return os.path.islink(latest) and is_run


_LOOKED_AT = 2000
"""Folders below a hidden one in which runs are looked for."""


def _below(
    top: Path,
    names: Collection[str] = ("config.yaml",),
    links: list[Path] | None = None,
    hidden: list[Path] | None = None,
) -> Iterator[Path]:
    """Yield the folders below `top` with a file of these names, without what may not be read.

    Hidden folders, such as .Trash-1000 and .snapshot, hold what was deleted, and copies. No link is followed. links and
    hidden: those that may hold runs are added here.
    """
    for place, folders, files in os.walk(top):
        if not {*names}.isdisjoint(files):
            yield Path(place)
            # Not all: a file of this name, or a pipe, may lie in a folder of runs.
            folders[:] = [name for name in folders if name not in _OF_A_RUN]
        elif links is not None:
            links += [path for name in folders if os.path.islink(path := Path(place, name))]
        if hidden is not None:
            hidden += [Path(place, name) for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def created(folder: Path) -> float:
    """Return the time at which a run was made, in seconds since 1970: of its meta.json, its name, or its files.

    The name alone has no time zone. Raises OSError.
    """
    with contextlib.suppress(OSError, CheckpointError, LookupError, TypeError, ValueError, OverflowError):
        return datetime.fromisoformat(inside.read_json(folder / "meta.json")["created"]).timestamp()
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.strptime(folder.name[:22], "%Y%m%d-%H%M%S-%f").timestamp()
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(folder / "config.yaml").st_mtime
    return os.lstat(folder).st_mtime  # a sweep's job that failed early


def _named(word: str, run_dir: Path) -> list[Path]:
    """Return the run folders below run_dir with this name, newest first."""
    below = run_dir / word
    if os.path.exists(below):
        return [below]
    ends = re.compile(rf"([0-9]{{8}}-[0-9]{{6}}-[0-9]{{6}}-s[0-9]+-)?{re.escape(word)}")
    found = [path for path in _below(run_dir) if ends.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def find_trained(word: str, usable: Callable[[Path], bool] = checkpoint.has_any) -> tuple[Path, str | None]:
    """Find a run like `find`, but only one with a checkpoint, for which `usable(folder)` is True.

    Raises CheckpointError with advice how to get a checkpoint.
    """
    folder, which = find(word)
    if usable(folder):
        return folder, which
    where = os.path.relpath(folder)
    what = f"`last` is {folder.name}, which has no checkpoint" if word == "last" else "the run has no checkpoint yet"
    if is_locked(folder):
        fix = "it is still training: wait for its first checkpoint"
    else:
        fix = "start it again"
        with contextlib.suppress(OSError, CheckpointError):
            fix += f": {inside.read_text(folder / 'command.txt').strip()}"
    others = []
    for path in _below(Path("runs")) if word == "last" else ():
        with contextlib.suppress(CheckpointError):
            if usable(path):
                others.append(path)
    if others:
        newest = max(others, key=created)
        fix += f", or use the newest run with a checkpoint: {shlex.quote(str(newest))}"
    raise CheckpointError(what, where, fix)


def require_text(folder: Path) -> None:
    """Raise CheckpointError for a run folder whose path is no text in UTF-8. It can be read, but has no logs."""
    try:
        utf8("run_dir", str(folder))
    except ConfigError as error:
        raise CheckpointError("the run's path is no text in UTF-8", str(folder), "rename or move it") from error


def from_here(path: Path) -> Path:
    """Return a path relative to the working directory if it is inside, as a new run prints it."""
    try:
        here = process.absolute("")
    except FileNotFoundError:  # the working directory was deleted
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def find_all(*words: str) -> list[Path]:
    """Return all run folders in the folders `words`; a word may be a run itself, and `last` is the newest run.

    Links such as runs/latest are not followed, so no run counts twice; one line names what is left out. So does one for
    hidden folders with runs. Raises CheckpointError if there is no run.
    """
    tops, found, links, hidden = list[Path](), dict[Path, None](), list[Path](), list[Path]()
    for word in words:
        top = Path(os.path.realpath(word if os.path.lexists(word) else os.path.expanduser(word)))
        tops.append(top := find(word)[0] if word == "last" else top)
        if not os.path.isdir(top):  # unlike Path.is_dir, it takes any name
            raise CheckpointError("there is no such run", word, "give a run folder, a folder of runs, or `last`")
        # A sweep's job that failed early has only status.json.
        runs = list(_below(top, ("config.yaml", "status.json"), links, hidden))
        if not runs:
            _tell_hidden(hidden)
            raise CheckpointError("there are no runs in this folder", word, "give a run folder, or a folder of runs")
        found |= dict.fromkeys(runs)
    _tell_hidden(hidden)
    targets = {link: Path(os.path.realpath(link)) for link in links}
    if out := [link for link, place in targets.items() if not any(place.is_relative_to(top) for top in tops)]:
        what = f"links to folders are left out ({len(out)}, such as {from_here(out[0])}); name a link to count its runs"
        if notices.is_new(what):
            notices.tell(what)
    return list(found)


def _tell_hidden(folders: list[Path]) -> None:
    """Say which hidden folders hold runs, which do not count. Of a large one, the first folders are looked at."""

    def has_run(place: Path) -> bool:
        found = itertools.islice(os.walk(place), _LOOKED_AT)
        return not place.is_symlink() and any({"config.yaml", "meta.json"} <= {*files} for _, _, files in found)

    if kept := list(filter(has_run, folders)):
        count = f"{len(kept)}, such as {from_here(kept[0])}"
        notices.tell(f"hidden folders with runs are left out ({count}); name one to count them")


def holding(path: Path) -> Path | None:
    """Return the run folder in which a path without links lies, or None. A folder of the user's has no meta.json."""
    names = ("config.yaml", "meta.json")
    return next((place for place in path.parents if all(inside.is_file(place / name) for name in names)), None)


def own_modules(config: RunConfig) -> dict[str, str]:
    """Return the absolute folder of each module of the user's that a configuration names, by its top-level name."""
    env_id = getattr(config.env, "id", "")
    names = plugin_modules.named([f"plugins=[{','.join(config.plugins)}]", f"env.id={env_id}"])
    return {name: place for name in sorted(names) if (place := plugin_modules.own_folder(name))}


_held: list["Lock"] = []
"""The locks of this process."""


_replaced: list[BinaryIO] = []
"""Files of locks whose names were removed."""


def _identity(file: BinaryIO) -> tuple[int, int]:
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino


class Lock:
    """An advisory lock on a run folder. The system frees it if the process dies."""

    def __init__(self, folder: Path) -> None:
        """Lock a folder. Raises FolderInUse, DiskError, CheckpointError."""
        self._folder = folder
        self._file = self._locked()
        self._identity = _identity(self._file)
        _held.append(self)

    def _locked(self) -> BinaryIO:
        with disk_errors("the run folder", self._folder):
            file = inside.open_lock(self._folder / ".lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise FolderInUse(
                "another process uses this folder", str(self._folder), "wait for it or stop it"
            ) from error
        facts = os.fstat(file.fileno())
        if facts.st_size == 0 and facts.st_nlink == 1:  # else it may be somebody else's file
            with contextlib.suppress(OSError):  # a full disk
                file.write(b"locked\n")  # a clean-up such as `find -empty -delete` leaves it
        return file

    def keep(self) -> None:
        """Lock the folder again if somebody has removed the file of the lock.

        Raises LockLost if another process has locked it since. Other errors are left to what writes there.
        """
        try:
            found = os.lstat(self._folder / ".lock")
            if (found.st_dev, found.st_ino) == self._identity or os.path.samestat(found, os.fstat(self._file.fileno())):
                return
        except FileNotFoundError:
            pass
        except (OSError, ValueError):  # the folder cannot be read now; an environment has closed the file
            return
        if not self._folder.is_dir():
            return
        try:
            file = self._locked()
        except FolderInUse as error:
            what = "another process has begun to use this folder, after its .lock was removed"
            raise LockLost(what, str(self._folder), "remove no files of a run while it trains") from error
        except (RltrainError, OSError):
            return
        # Not closed: an environment may have closed it, and its number may be that of another file.
        _replaced.append(self._file)
        self._file, self._identity = file, _identity(file)

    def release(self) -> None:
        """Free the lock. A second call does nothing."""
        if self in _held:
            _held.remove(self)
        with contextlib.suppress(OSError):  # an environment may have closed all files of the process
            self._file.close()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def keep_locks() -> None:
    """Call `keep` of each lock of this process. Raises LockLost."""
    for lock in _held:
        lock.keep()


def is_locked(folder: Path) -> bool:
    """Return True if another process uses a run folder. Unlike `Lock`, this writes nothing."""
    try:
        with inside.open_binary(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    except CheckpointError:
        return False
    return False


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left. Call it while the run is locked."""
    inside.sweep(folder)
    checkpoint.sweep(folder)


def clear_logs(folder: Path) -> None:
    """Remove the logs of a run that begins again in its folder, because it had no checkpoint yet. Raises DiskError."""
    with disk_errors("the logs", folder):
        for path in (folder / "metrics.jsonl", folder / "episodes.csv", *folder.glob("events.out.tfevents.*")):
            inside.remove(path)


def note_lost(folder: Path, reason: str, exit_code: int) -> None:
    """Write to status.json that the run ended because a process was lost, or ends this one.

    The lost process may be the one that writes the file. Does nothing if the file already tells the end of the run, or
    cannot be read or written.
    """
    with contextlib.suppress(OSError, CheckpointError, DiskError):
        facts = inside.read_json(folder / "status.json")
        if facts.get("state") == "running":
            lost = {"state": "failed", "reason": reason, "exit_code": exit_code}
            atomic.write_json(folder / "status.json", facts | lost)


def _point_latest(root: Path, folder: Path) -> None:
    """Let the link `latest` in run_dir point to a run. Anything else of this name is the user's and stays."""
    latest = root / "latest"
    if os.path.lexists(latest) and not _is_ours(latest):
        what = "it is a link to something else than a run" if os.path.islink(latest) else "it is no link"
        why = f"{what}, so it stays as it is; rename it to get a link to the newest run"
        notices.warn_once(f"{latest}: {why}")
        return
    temporary = root / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):  # training does not need the link, and some file systems have none
        for left in root.glob(".latest-*"):
            is_ours = re.fullmatch(r"\.latest-\d+", left.name) and left.is_symlink()
            if is_ours and time.time() - left.lstat().st_mtime > _MINUTE_S:  # left by a killed process
                left.unlink()
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(folder, root))
        temporary.replace(latest)


def _meta(config: RunConfig) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "created": datetime.now().astimezone().isoformat(),
        "seed": config.seed,
        "working_directory": os.getcwd(),
        "modules": own_modules(config),
        "python": platform.python_version(),
        "packages": versions,
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        **_git(),
    }


def _processor() -> str:
    """Return the model of the processor if the system tells it, else its architecture."""
    with contextlib.suppress(OSError):
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if model:
            return model[1]
    return platform.processor() or platform.machine()


def note_computing(folder: Path) -> None:
    """Add the thread counts and the GPU to meta.json, once the agent is built. Raises DiskError.

    Without torch, as for a tabular algorithm, both are None.
    """
    meta = inside.read_json(folder / "meta.json")
    torch = sys.modules.get("torch")
    threads = {"usable_cores": process.usable_cores(), "torch": torch.get_num_threads() if torch else None}
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    atomic.write_json(folder / "meta.json", meta | {"threads": threads, "gpu": gpu})


def _git() -> dict[str, Any]:
    """Return the revision of the checkout that rltrain runs from, and whether it has changes; None without checkout."""
    here = Path(__file__).resolve().parent.parent.parent
    if not (here / ".git").exists():
        return {"git_revision": None, "git_dirty": None}
    # GIT_DIR would name another repository than the folder does, as in a hook of git's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        revision, changes = (
            subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=5, env=environment)
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.TimeoutExpired):
        return {"git_revision": None, "git_dirty": None}
    return {"git_revision": revision.stdout.strip() or None, "git_dirty": bool(changes.stdout.strip())}
