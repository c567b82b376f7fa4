"""The folder of a run: find it, create it with its config.yaml, command.txt and meta.json, and lock it."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, FolderInUse, disk_errors
from rltrain.system import atomic, process

_PACKAGES = ("rltrain", "torch", "numpy", "gymnasium", "ale-py", "vizdoom", "hydra-core", "numba")


def create(config: RunConfig, folder: Path | None) -> Path:
    """Create a run folder with config.yaml, command.txt and meta.json, and return it.

    folder: the folder of a sweep's job; None: a new one in run_dir. Raises DiskError if it cannot be written.
    """
    root = Path(config.run_dir)
    fix = "give a writable run_dir with free disk space"
    with disk_errors("the run folder", folder or root, fix):
        if folder is None:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
            suffix = f"-{config.name}" if config.name else ""
            folder = root / config.env.name / config.algo.name / f"{stamp}-s{config.seed}{suffix}"
        folder.mkdir(parents=True)
        saved_config.save(config, folder / "config.yaml")
        (folder / "command.txt").write_text(shlex.join(["rltrain", *sys.argv[1:]]) + "\n")
        (folder / "meta.json").write_text(json.dumps(_meta(config), indent=1))
        _point_latest(root, folder)
    return folder


def find(word: str, run_dir: str = "runs") -> tuple[Path, str | None]:
    """Return the run folder that RUN names, and the checkpoint if RUN is the path of one, else None.

    RUN is a path, a path relative to `run_dir`, `last`, or the name that `name=...` gave the run. Raises
    CheckpointError.
    """
    path = Path(run_dir) / "latest" if word == "last" else Path(word)
    if not path.exists():
        named = _named(word, Path(run_dir))
        if len(named) > 1:
            first = ", ".join(map(str, named[:3]))
            raise CheckpointError(f"{len(named)} runs are called '{word}'", run_dir, f"give the folder of one: {first}")
        if not named:
            fix = "give a run folder, a checkpoint in it, a run's name, or `last`"
            raise CheckpointError("there is no such run", str(path), fix)
        path = named[0]
    path = path.resolve()
    which = None
    if path.parent.name == "checkpoints":
        which = path.name.removeprefix("step_")
        path = path.parent.parent
    if not (path / "config.yaml").is_file():
        what = "this is not a run folder: it has no config.yaml"
        raise CheckpointError(what, str(path), "give a run folder, as `rltrain runs` shows them")
    return path, which


def _named(word: str, run_dir: Path) -> list[Path]:
    """Return the run folders below run_dir with this name, newest first."""
    inside = run_dir / word
    if inside.exists():
        return [inside]
    ends = re.compile(rf"(\d{{8}}-\d{{6}}-\d{{6}}-s\d+-)?{re.escape(word)}")
    found = [path.parent for path in run_dir.rglob("config.yaml") if ends.fullmatch(path.parent.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("step_*"))


def find_trained(word: str, usable: Callable[[Path], bool] = _has_checkpoint) -> tuple[Path, str | None]:
    """Find a run like `find`, but only one with a checkpoint, for which `usable(folder)` is True.

    Raises CheckpointError with advice how to get a checkpoint.
    """
    folder, which = find(word)
    if usable(folder):
        return folder, which
    where = os.path.relpath(folder)
    what = f"`last` is {folder.name}, which has no checkpoint" if word == "last" else "the run has no checkpoint yet"
    try:
        Lock(folder).release()
        command = (folder / "command.txt").read_text().strip()
        fix = f"start it again: {command}"
    except FolderInUse:
        fix = "it is still training: wait for its first checkpoint"
    except OSError:
        fix = "start it again"
    others = [path.parent for path in Path("runs").rglob("config.yaml") if usable(path.parent)]
    if word == "last" and others:
        newest = max(others, key=lambda path: (path / "config.yaml").stat().st_mtime)
        fix += f", or use the newest run with a checkpoint: {shlex.quote(str(newest))}"
    raise CheckpointError(what, where, fix)


def from_here(folder: Path) -> Path:
    """Return a folder relative to the working directory if it is inside, as a new run prints it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def find_all(word: str) -> list[Path]:
    """Return all run folders in the folder `word`, or `word` itself if it is one; `last` is the newest run.

    Links such as runs/latest are not followed, so no run counts twice. Raises CheckpointError if there is no run.
    """
    top = find(word)[0] if word == "last" else Path(word).resolve()
    if not top.is_dir():
        raise CheckpointError("there is no such run", word, "give a run folder, a folder of runs, or `last`")
    found = []
    for place, folders, files in os.walk(top):
        if "config.yaml" in files or "status.json" in files:  # a sweep's job that failed early has only status.json
            found.append(Path(place))
            folders.clear()
        folders.sort()
    if not found:
        raise CheckpointError("there are no runs in this folder", word, "give a run folder, or a folder of runs")
    return found


class Lock:
    """An advisory lock on a run folder. The system frees it if the process dies."""

    def __init__(self, folder: Path) -> None:
        """Lock a folder. Raises FolderInUse, DiskError."""
        with disk_errors("the run folder", folder):
            self._file = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise FolderInUse("another process uses this folder", str(folder), "wait for it or stop it") from error

    def release(self) -> None:
        """Free the lock."""
        self._file.close()


def clear_logs(folder: Path) -> None:
    """Remove the logs of a run that begins again in its folder, because it had no checkpoint yet. Raises DiskError."""
    with disk_errors("the logs", folder):
        for path in (folder / "metrics.jsonl", folder / "episodes.csv", *folder.glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)


def note_lost(folder: Path, reason: str, exit_code: int) -> None:
    """Write to status.json that the run ended because a process was lost, with the step that the file has."""
    facts = json.loads((folder / "status.json").read_text())
    atomic.write_json(folder / "status.json", facts | {"state": "failed", "reason": reason, "exit_code": exit_code})


def _point_latest(root: Path, folder: Path) -> None:
    temporary = root / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):  # training does not need the link, and some file systems have none
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(folder, root))
        temporary.replace(root / "latest")


def _meta(config: RunConfig) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "created": datetime.now().astimezone().isoformat(),
        "seed": config.seed,
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
    meta = json.loads((folder / "meta.json").read_text())
    torch = sys.modules.get("torch")
    threads = {"usable_cores": process.usable_cores(), "torch": torch.get_num_threads() if torch else None}
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    atomic.write_json(folder / "meta.json", meta | {"threads": threads, "gpu": gpu})


def _git() -> dict[str, Any]:
    """Return the revision of the checkout that rltrain runs from, and whether it has changes; None without checkout."""
    here = Path(__file__).resolve().parent.parent.parent
    if not (here / ".git").exists():
        return {"git_revision": None, "git_dirty": None}
    try:
        revision = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
        changes = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return {"git_revision": None, "git_dirty": None}
    return {"git_revision": revision.stdout.strip() or None, "git_dirty": bool(changes.stdout.strip())}
