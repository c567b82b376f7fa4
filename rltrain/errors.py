"""Errors that a user can cause, each with its exit code; what is not one of these is a bug of ours."""

import contextlib
import difflib
import shlex
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class RltrainError(Exception):
    """`what; where; what to do`, one line, and the exit code that goes with it."""

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__("; ".join(" ".join(part.split()) for part in (what, where, fix) if part))


class ConfigError(RltrainError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class CheckpointError(RltrainError):
    """There is no usable checkpoint, or no run."""

    exit_code = 3


class UnfitCheckpoint(CheckpointError):
    """A checkpoint that is whole and not for this run."""


class EnvironmentFailure(RltrainError):
    """An environment cannot be started or keeps failing: a missing ROM, WAD or package."""

    exit_code = 4


class NonFiniteError(RltrainError):
    """A loss, gradient, reward or observation stopped being finite; `facts` go to nonfinite.json in the run folder."""

    exit_code = 5

    def __init__(self, what: str, where: str, fix: str, facts: dict[str, Any] | None = None) -> None:
        super().__init__(what, where, fix)
        self.facts = facts or {}  # those of a worker process stay there: its error line names the tensor


class OutOfMemory(RltrainError):
    """Host or device memory does not suffice."""

    exit_code = 6


class DiskError(RltrainError):
    """The disk is full or cannot be written."""

    exit_code = 7


@contextlib.contextmanager
def disk_errors(what: str, where: object, fix: str = "free some space") -> Iterator[None]:
    """Turn what the system says of a disk into a DiskError: `what` cannot be written."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{what} cannot be written: {error.strerror or error}", str(where), fix) from error


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """What comes up while a saved state is taken over: it is whole, and of something else."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnfitCheckpoint(f"the checkpoint does not fit: {what}", str(folder), "use another") from error


class FolderInUse(RltrainError):
    """Another process has the run folder."""

    exit_code = 8


class Stopped(RltrainError):
    """A signal asked the run to stop; its state is saved in the folder `where`, if one is given."""

    def __init__(self, signal_number: int, where: str = "") -> None:
        name = signal.Signals(signal_number).name
        by = f"Ctrl-C ({name})" if signal_number == signal.SIGINT else name
        fix = f"all is saved, go on with: rltrain resume {shlex.quote(where)}" if where else "nothing was kept"
        super().__init__(f"stopped by {by}", where, fix)
        self.signal_number = signal_number
        # SIGUSR1 is what schedulers send ahead of a SIGTERM, and means the same.
        self.exit_code = 128 + (signal.SIGTERM if signal_number == signal.SIGUSR1 else signal_number)


def by_exit_code(exit_code: int) -> type[RltrainError]:
    """The error class of an exit code, for errors that come from another process."""
    kinds = [kind for kind in RltrainError.__subclasses__() if kind is not Stopped]
    return next((kind for kind in kinds if kind.exit_code == exit_code), RltrainError)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names what the user may have meant, or lists the first few where nothing is near.

    Capitals do not count: PPO is near to ppo. What is much less near than the nearest is not named.
    """
    known = sorted(known)
    nearness = {name: difflib.SequenceMatcher(None, name.lower(), word.lower()).ratio() for name in known}
    best = max(nearness.values(), default=0.0)
    matches = sorted(
        (name for name in known if nearness[name] >= max(0.55, best - 0.2)), key=lambda name: -nearness[name]
    )
    if matches:
        matches = matches[:3]
        return "did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known: {listed}"
