"""Checkpoints: a folder of safetensors, npy and JSON, committed by a rename and checked against its manifest.

A folder is written under a name that is never read, every member is synced, and only then renamed: whatever carries
the name `step_000123456` is whole. Nothing here runs code from a file.
"""

import contextlib
import errno
import os
import re
import shutil
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Protocol

from rltrain.errors import CheckpointError, disk_errors
from rltrain.run import checkpoint_files as files

_NAME = re.compile(r"step_(\d{9,})")
TOLD_BYTES = 500_000_000
"""A checkpoint that takes so many new bytes is announced: it may take seconds."""


class Stateful(Protocol):
    """A part of a training that a checkpoint holds beside the agent: a replay, a loop's counters."""

    def state_dict(self) -> dict[str, Any]:
        """Arrays, tensors and JSON values, nested."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def save(
    folder: Path,
    step: int,
    state: dict[str, Any],
    *,
    complete: bool = True,
    made_for: str = "",
    previous: int | None = None,
    best_step: int | None = None,
    keep: int = 2,
    keep_every_steps: int | None = None,
) -> Path:
    """Commit `checkpoints/step_<step>`, read it back, and remove older ones but `best` and the newest `keep`.

    state: nested dicts of torch tensors, numpy arrays and JSON values. complete: training can go on from it, so `last`
    points to it; one that holds the agent alone is for evaluation. made_for: what `load` is to find again, a
    fingerprint of the configuration. previous: the step of the complete checkpoint that the run came from or wrote
    last; later ones belong to a history that was abandoned, and go. best_step: the best evaluation so far; its
    checkpoint stays as long as one from which a run would go on with it. keep_every_steps: the first complete
    checkpoint from each multiple on stays too.
    Raises DiskError; older checkpoints stay.
    """
    checkpoints = folder / "checkpoints"
    final = checkpoints / f"step_{step:09d}"
    partial = checkpoints / f".partial-{step:09d}-{os.getpid()}"
    needed = _size(state)
    try:
        checkpoints.mkdir(exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if previous == step:  # again, with more in it
            previous = _number(final, "previous")
            source: Path | None = final
        else:
            source = _before(checkpoints, previous)
        facts = {"step": step, "complete": complete, "made_for": made_for, "previous": previous, "best_step": best_step}
        links = files.link_pieces(partial, state, source) if source else {}
        needed -= sum(link["size"] for link in links.values())
        if needed > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if needed > TOLD_BYTES:
            print(f"saving {needed / 1e9:.2f} GB at step {step:,}", file=sys.stderr)
        files.write(partial, state, facts, links)
        if final.exists():  # move the old one out of the way first
            replaced = checkpoints / f".replaced-{step:09d}-{os.getpid()}"
            final.rename(replaced)
            partial.rename(final)
            shutil.rmtree(replaced)
        else:
            partial.rename(final)
        files.sync(checkpoints)
        files.verify(final, known=links)
        if complete:
            point(folder, "last", final)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        what = f"the checkpoint ({needed:,} bytes needed, {free:,} free)"
        with disk_errors(what, checkpoints, "free some space, then `rltrain resume` from the checkpoint before"):
            raise
    _remove_old(checkpoints, final.name, previous, keep, keep_every_steps)
    return final


def point(folder: Path, name: str, target: Path) -> None:
    """Let the link `checkpoints/<name>` (last, best) point to a checkpoint, at once. Raises DiskError."""
    link = folder / "checkpoints" / name
    aside = link.with_name(f".{name}-{os.getpid()}")
    with disk_errors(f"the link `{name}`", link):
        aside.unlink(missing_ok=True)
        aside.symlink_to(target.name)
        aside.replace(link)


def go_on_from(folder: Path, step: int, best_step: int | None) -> None:
    """Point `last` and `best` to where a resumed run stands; an abandoned process may have gone further."""
    for name, where in (("last", step), ("best", best_step)):
        target = folder / "checkpoints" / f"step_{where or 0:09d}"
        if target.is_dir():
            point(folder, name, target)


def find(run: Path, which: str = "last") -> Path:
    """The checkpoint `last`, `best` or STEP of a run folder. Raises CheckpointError."""
    if which in ("last", "best"):
        path = run / "checkpoints" / which
    elif re.fullmatch(r"\d+(_\d+)*", which):
        path = run / "checkpoints" / f"step_{int(which):09d}"
    else:
        raise CheckpointError(f"'{which}' is no checkpoint", "checkpoint", "use last, best or a step")
    if path.is_dir():
        return path.resolve()
    if which == "last":
        complete = _complete(run / "checkpoints")
        if complete:
            return complete[-1]
    folder = run / "checkpoints"
    there = [name for name in ("last", "best") if (folder / name).is_dir()]
    there += [str(int(step.name[5:])) for step in sorted(folder.glob("step_*")) if step.name[5:].isdigit()]
    fix = f"there are {', '.join(there)}" if there else "there is none yet"
    if which == "last" and (folder / "best").is_dir():
        fix = "use checkpoint=best, which an evaluation has left"
    raise CheckpointError("there is no such checkpoint", str(path), fix)


def resumable(run: Path) -> bool:
    """Whether there is a checkpoint that training may go on from, or one that is too damaged to tell."""
    return any(_facts(path).get("complete", True) for path in _committed(run / "checkpoints"))


def candidates(
    run: Path, which: str = "last", made_for: Container[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Steps and states (arrays as numpy, tensors as torch) to go on from, the wanted one first.

    made_for: what `save` may have been told that they are made for; None: anything.
    A damaged `last` gives way, with a warning, to the next older one; so does one that its taker found unfit, who then
    asks for the next. Raises CheckpointError where none is left, and for one asked for by its step that is damaged.
    """
    chosen = find(run, which)
    paths = [chosen]
    if which == "last":
        paths += [path for path in reversed(_complete(run / "checkpoints")) if _step(path) < _step(chosen)]
    for path, older in zip(paths, [*paths[1:], None], strict=True):
        try:
            yield _step(path), _read(path, made_for)
            reason: Exception | str = "it does not fit this run"
        except CheckpointError as error:
            reason = error.what
        except OSError as error:
            reason = error
        follow = f"trying {older.name}" if older else "there is no older one"
        print(f"rltrain: warning: checkpoint {path} cannot be used ({reason}); {follow}", file=sys.stderr)
    fix = f"the oldest failed with: {reason}"
    if _facts(run / "checkpoints" / "best"):
        fix += "; eval, play and export may still take checkpoint=best"
    raise CheckpointError("no usable checkpoint is left", str(run / "checkpoints"), fix)


def load(run: Path, which: str = "last", made_for: Container[str] | None = None) -> tuple[int, dict[str, Any]]:
    """The first of `candidates`. Raises CheckpointError."""
    return next(candidates(run, which, made_for))


def read(path: Path, without: str | None = None) -> dict[str, Any]:
    """The state in a checkpoint folder; `without` the arrays of a part, if given. Raises CheckpointError."""
    return files.read(path, without)


def _read(path: Path, made_for: Container[str] | None) -> dict[str, Any]:
    facts = files.manifest(path)
    if made_for is not None and facts.get("made_for") not in made_for:
        raise CheckpointError("it belongs to another configuration", str(path), "use the run's own checkpoints")
    if not facts.get("complete"):
        what = "it holds the agent alone, as an evaluation left it"
        raise CheckpointError(what, str(path), "eval, play and export take it")
    return files.read(path)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError("this is no checkpoint folder", str(path), "give a folder named step_<number>")
    return int(match[1])


def _committed(checkpoints: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    if not checkpoints.is_dir():
        return []
    committed = [path for path in checkpoints.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(committed, key=_step)


def _complete(checkpoints: Path) -> list[Path]:
    """Those that training can go on from, oldest first; one whose manifest cannot be read is left out."""
    return [path for path in _committed(checkpoints) if _facts(path).get("complete")]


def _before(checkpoints: Path, previous: int | None) -> Path | None:
    """The checkpoint that the second newest came from: what the next one may share files with.

    So no file belongs to both of the newest two, and damage to one of them leaves the other whole.
    """
    if previous is None:
        return None
    before = _number(checkpoints / f"step_{previous:09d}", "previous")
    return checkpoints / f"step_{before:09d}" if before is not None else None


def _facts(path: Path) -> dict[str, Any]:
    """The manifest; nothing where it cannot be read."""
    with contextlib.suppress(CheckpointError):
        return files.manifest(path)
    return {}


def _number(path: Path, key: str) -> int | None:
    """A step in the manifest, which may be of any origin."""
    value = _facts(path).get(key)
    return value if isinstance(value, int) else None


def _remove_old(checkpoints: Path, newest: str, previous: int | None, keep: int, keep_every_steps: int | None) -> None:
    complete = _complete(checkpoints)
    if previous is not None:
        complete = [path for path in complete if _step(path) <= previous or path.name == newest]
    kept = {newest, (checkpoints / "best").resolve().name} | {path.name for path in complete[-keep:]}
    if keep_every_steps:
        first_of = {_step(path) // keep_every_steps: path.name for path in reversed(complete)}
        kept |= set(first_of.values())
    # The link `best` may be of a process that was killed before its next checkpoint; these are what resumes go by.
    kept |= {f"step_{_number(path, 'best_step') or 0:09d}" for path in complete if path.name in kept}
    for path in _committed(checkpoints):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in checkpoints.glob(".*-*"):  # what a killed process was writing; the run's lock says it is not ours
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _size(state: dict[str, Any]) -> int:
    """Bytes of the arrays and tensors."""
    return sum(_size(value) if isinstance(value, dict) else getattr(value, "nbytes", 0) for value in state.values())
