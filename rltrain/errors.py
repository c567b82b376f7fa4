"""Errors that a user can cause, each with an exit code. Any other exception is a bug of rltrain."""

import contextlib
import difflib
import errno
import os
import re
import shlex
import signal
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def printable(text: str) -> str:
    """Return a text whose control characters are escaped, so that a terminal shows them instead of obeying them.

    Use it for every text that comes from a file, a folder's name or an environment. Line ends are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character for character in text
    )


def _is_control(character: str) -> bool:
    # Cc: control characters. Cf: formatting, such as changes of the direction of writing. Cs: bytes that are no text.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


class RltrainError(Exception):
    """An error with a message of one line, `<what is wrong>; <where>; <what to do>`, and an exit code."""

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        # The texts may come from a run folder or an environment.
        self.what, self.where, self.fix = (printable(" ".join(part.split())) for part in (what, where, fix))
        super().__init__("; ".join(part for part in (self.what, self.where, self.fix) if part))


class Halt(BaseException):
    """Ends what runs, as rltrain itself wants it. It is no Exception, so that no library catches it on the way."""


class Ignored(Halt):
    """Ends an algorithm of a plugin that has caught `error`, or one before it, and goes on."""

    def __init__(self, error: RltrainError) -> None:
        super().__init__()
        self.error = error


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
    is_final = False
    """True if a new environment in a new process would fail in the same way."""


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


_DISK_FIXES = {
    errno.EROFS: "use a folder that can be written",
    errno.EACCES: "use a folder that you may write to",
    errno.EPERM: "use a folder that you may write to",
    errno.ENOENT: "the folder was moved or deleted: start again from where it is now",
    errno.EISDIR: "it is a folder: give the path of a file",
    errno.EBADF: "something in this process has closed the file",
}
_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Errors that only writing meets."""
_OF_A_FILE = (
    *(*_OF_A_DISK, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
)
"""Errors of the file and its place. Others, such as of a file that is there already, are a bug."""
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


@contextlib.contextmanager
def disk_errors(what: str, where: object, fix: str = "free some space") -> Iterator[None]:
    """Turn an OSError inside into a DiskError that says that `what` cannot be written.

    fix: the advice for a full disk. Other causes, such as a read-only file system, have their own.
    """
    try:
        yield
    except OSError as error:
        fix = _DISK_FIXES.get(error.errno or 0, fix)
        raise DiskError(f"{what} cannot be written: {error.strerror or error}", str(where), fix) from error


def causes(error: BaseException, implicit: bool = True) -> Iterator[BaseException]:
    """Yield an error, what caused it, what caused that, and so on. The chain may be a ring: `raise error from error`.

    implicit: also follow an error to the one that was being handled when it was raised.
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (found.__context__ if implicit else None)


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Turn an error inside, while a saved state is loaded, into UnfitCheckpoint."""
    try:
        yield
    except (LookupError, ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, AssertionError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnfitCheckpoint(f"the checkpoint does not fit: {what}", str(folder), "use another checkpoint") from error


def lacking(error: BaseException) -> RltrainError | None:
    """Return the error line if the system has no further file, process or folder for temporary files; else None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        fix = "raise it, e.g. ulimit -n 4096; an environment may also have lowered it, or leave files open"
        return DiskError(f"no further file can be opened: {error.strerror}", "the limit of open files", fix)
    # A write to a pipe that is full and does not wait has the same number, and counts what it has written.
    if error.errno == errno.EAGAIN and not hasattr(error, "characters_written"):
        return no_process(error.strerror)
    if "No usable temporary directory" in str(error):
        fix = "set TMPDIR to a folder that can be written to, on a disk with free space"
        return DiskError("there is no folder for temporary files", "TMPDIR", fix)
    return None


def of_a_file(error: BaseException) -> RltrainError | None:
    """Return the error line of a file that the system refuses, with code 3 for reading and 7 for writing.

    None for other errors, and for a file of rltrain's own code, which is a bug.
    """
    if not isinstance(error, OSError) or not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    path = os.fsdecode(error.filename)
    if not path or error.errno not in _OF_A_FILE or os.path.abspath(path).startswith(f"{_PACKAGE}{os.sep}"):
        return None
    why = error.strerror or type(error).__name__
    refused = isinstance(error, PermissionError)
    if error.errno in _OF_A_DISK or (refused and _may_be_read(path)):
        fix = _DISK_FIXES.get(error.errno or 0, "free some space")
        return DiskError(f"a file or folder cannot be written: {why}", path, fix)
    fix = "use one that you may read, or change its rights" if refused else "correct this path, or use another"
    return CheckpointError(f"a file or folder cannot be {'read' if refused else 'used'}: {why}", path, fix)


def _may_be_read(path: str) -> bool:
    """Return True for a file that may be read, or is missing in a folder that may be entered: writing was refused."""
    effective = os.access in os.supports_effective_ids
    if os.path.lexists(path):
        return os.access(path, os.R_OK, effective_ids=effective)
    return os.access(os.path.dirname(path) or ".", os.X_OK, effective_ids=effective)


def no_process(reason: object) -> OutOfMemory:
    """Return the error line of a process that cannot be started."""
    fix = "raise it, e.g. ulimit -u 4096, or start fewer: num_envs, env.workers, hydra.launcher.n_jobs"
    return OutOfMemory(f"no further process can be started: {reason}", "the limit of processes", fix)


class FolderInUse(RltrainError):
    """Another process uses the run folder."""

    exit_code = 8


class LockLost(FolderInUse):
    """Another process has taken the folder over while this one used it."""


class ProcessLost(RltrainError):
    """A process or a machine of a distributed run is lost."""

    exit_code = 9


class Stopped(RltrainError):
    """A signal stopped the run or the command. If `where` is given, what is kept is there."""

    def __init__(self, signal_number: int, where: str = "", again: str = "", kept: str = "") -> None:
        """again: the arguments of `rltrain resume`, quoted for a shell, if `where` alone is not enough.

        kept: what is kept in `where`, in words, if it is no run that can be resumed.
        """
        name = signal.Signals(signal_number).name
        by = f"Ctrl-C ({name})" if signal_number == signal.SIGINT else name
        fix = kept or "nothing was kept"
        if where and not kept:
            fix = f"all is saved, resume with: rltrain resume {again or shlex.quote(where)}"
        super().__init__(f"stopped by {by}", where, fix)
        self.signal_number, self.again = signal_number, again
        # Cluster schedulers send SIGUSR1 before SIGTERM, with the same meaning.
        self.exit_code = 128 + (signal.SIGTERM if signal_number == signal.SIGUSR1 else signal_number)


def by_exit_code(exit_code: int) -> type[RltrainError]:
    """Return the error class of an exit code, for errors from another process."""
    kinds = [kind for kind in RltrainError.__subclasses__() if kind is not Stopped]
    return next((kind for kind in kinds if kind.exit_code == exit_code), RltrainError)


_NEAR = 0.65
"""The least similarity of a name that may be meant."""


def _similarity(word: str, name: str) -> float:
    """Return how similar two names are, from 0 to 1, apart from what many names share: case, groups and versions.

    Otherwise `Nope-v0` would be near to any `...-v0`, and `env.frame_skip` to any `env....`.
    """
    one, other = (re.sub(r"^.*[.:](?=.)|-v\d+$", "", text.lower()) for text in (word, name))
    ratio = _ratio(one, other)
    is_part = len(min(one, other, key=len)) > 2 and (one in other or other in one)
    return max(ratio, _NEAR) if is_part else ratio


def _ratio(word: str, name: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), word.lower()).ratio()


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with up to three known names similar to `word`, or with the first 12 names if none is similar.

    Names much less similar than the best one are left out.
    """
    known = sorted(known)
    similarity = {name: _similarity(word, name) for name in known}
    best = max(similarity.values(), default=0.0)
    near = [name for name in known if similarity[name] >= max(_NEAR, best - 0.2)]
    matches = sorted(near, key=lambda name: (-similarity[name], -_ratio(word, name)))
    if matches:
        matches = matches[:3]
        return "did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known: {listed}"
