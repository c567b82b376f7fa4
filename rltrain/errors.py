"""Errors that a user can cause, each with an exit code. Any other exception is a bug of rltrain."""

import contextlib
import difflib
import shlex
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class RltrainError(Exception):
    """An error with a message of one line, `<what is wrong>; <where>; <what to do>`, and an exit code."""

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__("; ".join(" ".join(part.split()) for part in (what, where, fix) if part))


class ConfigError(RltrainError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class CheckpointError(RltrainError):
    """The run or a usable checkpoint is missing."""

    exit_code = 3


class UnfitCheckpoint(CheckpointError):
    """The checkpoint is intact but belongs to another configuration."""


class EnvironmentFailure(RltrainError):
    """An environment cannot be started or keeps failing: a missing ROM, WAD or package."""

    exit_code = 4


class NonFiniteError(RltrainError):
    """A loss, gradient, reward or observation is NaN or infinite. `facts` are written to the run's nonfinite.json."""

    exit_code = 5

    def __init__(self, what: str, where: str, fix: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(what, where, fix)
        self.facts = facts or {}  # not sent from worker processes, whose error line names the tensor


class OutOfMemory(RltrainError):
    """Host or device memory is too small."""

    exit_code = 6


class DiskError(RltrainError):
    """The disk is full or not writable."""

    exit_code = 7


@contextlib.contextmanager
def disk_errors(what: str, where: object, fix: str = "free some space") -> Iterator[None]:
    """Turn an OSError inside into a DiskError that says that `what` cannot be written."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{what} cannot be written: {error.strerror or error}", str(where), fix) from error


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Turn an error inside, while a saved state is loaded, into UnfitCheckpoint."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnfitCheckpoint(f"the checkpoint does not fit: {what}", str(folder), "use another checkpoint") from error


class FolderInUse(RltrainError):
    """Another process uses the run folder."""

    exit_code = 8


class ProcessLost(RltrainError):
    """A process or a machine of a distributed run is lost."""

    exit_code = 9


class Stopped(RltrainError):
    """A signal stopped the run. If `where` is given, the state is saved in that folder."""

    def __init__(self, signal_number: int, where: str = "") -> None:
        name = signal.Signals(signal_number).name
        by = f"Ctrl-C ({name})" if signal_number == signal.SIGINT else name
        fix = f"all is saved, resume with: rltrain resume {shlex.quote(where)}" if where else "nothing was kept"
        super().__init__(f"stopped by {by}", where, fix)
        self.signal_number = signal_number
        # Cluster schedulers send SIGUSR1 before SIGTERM, with the same meaning.
        self.exit_code = 128 + (signal.SIGTERM if signal_number == signal.SIGUSR1 else signal_number)


def by_exit_code(exit_code: int) -> type[RltrainError]:
    """Return the error class of an exit code, for errors from another process."""
    kinds = [kind for kind in RltrainError.__subclasses__() if kind is not Stopped]
    return next((kind for kind in kinds if kind.exit_code == exit_code), RltrainError)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with up to three known names similar to `word`, or with the first 12 names if none is similar.

    Case is ignored. Names much less similar than the best one are left out.
    """
    known = sorted(known)
    similarity = {name: difflib.SequenceMatcher(None, name.lower(), word.lower()).ratio() for name in known}
    best = max(similarity.values(), default=0.0)
    matches = sorted(
        (name for name in known if similarity[name] >= max(0.55, best - 0.2)), key=lambda name: -similarity[name]
    )
    if matches:
        matches = matches[:3]
        return "did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known: {listed}"
