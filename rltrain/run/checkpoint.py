"""Checkpoints: folders of safetensors, npy and JSON files, committed by a rename and checked against a manifest.

A checkpoint is written in a folder with a temporary name. When all files are synced to the disk, the folder is renamed
to `step_000123456`, so a folder with such a name is complete. Loading runs no code from a file.
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

import numpy as np

from rltrain.errors import CheckpointError, disk_errors
from rltrain.run import checkpoint_files as files
from rltrain.system import inside, notices

_NAME = re.compile(r"step_([0-9]{9,15})")
_LEFT_LINKS, _LEFT_FOLDERS = re.compile(r"\.(last|best)-[0-9]+"), re.compile(r"\.(partial|replaced)-[0-9]+-[0-9]+")
"""Temporary names, which a killed process may leave."""
TOLD_BYTES = 500_000_000
"""A save of more new bytes prints a message, because it may take seconds."""


class Stateful(Protocol):
    """A part of a training that a checkpoint saves besides the agent, such as a replay buffer or counters."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as nested dicts of arrays, tensors and JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        ...


def save(
    folder: Path,
    step: int,
    state: dict[str, Any],
    *,
    complete: bool = True,
    made_for: str = "",
    seed: int | None = None,
    previous: int | None = None,
    best_step: int | None = None,
    spaces: list[str] | None = None,
    keep: int = 2,
    keep_every_steps: int | None = None,
) -> Path:
    """Commit the checkpoint `checkpoints/step_<step>`, verify it, and remove old checkpoints. Returns its folder.

    The newest `keep` complete checkpoints and `best` are kept.

    state: nested dicts of torch tensors, numpy arrays and JSON values.
    complete: the run can resume from it, so `last` points to it. A checkpoint of the agent only is for evaluation.
    made_for: fingerprint of the configuration, which `load` compares. seed: that of the run, which it compares, too.
    spaces: the observation and action space that the agent was trained with, in words; None: not known.
    previous: step of the complete checkpoint that the run resumed from or saved last. Later checkpoints belong to an
        abandoned process of the run and are removed.
    best_step: step of the best evaluation so far. Its checkpoint is kept as long as a kept checkpoint refers to it.
    keep_every_steps: also keep the first complete checkpoint at or after each multiple.
    Raises DiskError; the older checkpoints then stay.
    """
    checkpoints = folder / "checkpoints"
    final = checkpoints / f"step_{step:09d}"
    partial = checkpoints / f".partial-{step:09d}-{os.getpid()}"
    needed = _size(state)
    try:
        inside.make_folder(checkpoints)
        inside.remove(partial)
        partial.mkdir()
        if previous == step:  # replaces the checkpoint of the same step
            previous = _number(final, "previous")
            source: Path | None = final
        else:
            source = _before(checkpoints, previous)
        facts = {"step": step, "complete": complete, "made_for": made_for, "previous": previous, "best_step": best_step}
        facts |= {"spaces": spaces, "seed": seed}
        links = files.link_pieces(partial, state, source) if source else {}
        needed -= sum(link["size"] for link in links.values())
        if needed > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if needed > TOLD_BYTES:
            print(f"saving {needed / 1e9:.2f} GB at step {step:,}", file=sys.stderr)
        files.write(partial, state, facts, links)
        if os.path.lexists(final):  # a rename cannot replace a folder: move the old one away first
            replaced = checkpoints / f".replaced-{step:09d}-{os.getpid()}"
            inside.remove(replaced)
            final.rename(replaced)
            partial.rename(final)
            inside.remove(replaced)
        else:
            partial.rename(final)
        files.sync(checkpoints)
        files.verify(final, known=links)
        if complete:
            point(folder, "last", final)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        what = f"the checkpoint ({needed:,} bytes needed"
        with contextlib.suppress(OSError):  # the folder may have been moved
            what += f", {shutil.disk_usage(folder).free:,} free"
        what += ")"
        with disk_errors(what, checkpoints, "free some space, then run `rltrain resume`"):
            raise
    _remove_old(checkpoints, final.name, previous, keep, keep_every_steps)
    return final


def point(folder: Path, name: str, target: Path) -> None:
    """Point the link `checkpoints/<name>` (last or best) to a checkpoint, atomically. Raises DiskError."""
    link = inside.folder(folder / "checkpoints") / name
    temporary = link.with_name(f".{name}-{os.getpid()}")
    with disk_errors(f"the link `{name}`", link):
        inside.remove(temporary)
        temporary.symlink_to(target.name)
        if inside.is_folder(link):  # a copy of the run that followed links
            inside.remove(link)
        temporary.replace(link)


def sweep(folder: Path) -> None:
    """Remove what a killed process left in `checkpoints`. Call it while the run is locked.

    A checkpoint that was moved away for another of the same step, which never took its place, is put back.
    """
    for left in inside.entries(folder / "checkpoints"):
        moved = re.fullmatch(r"\.replaced-([0-9]+)-[0-9]+", left.name)
        if moved and inside.is_folder(left) and not os.path.lexists(final := left.with_name(f"step_{moved[1]}")):
            with contextlib.suppress(OSError):
                left.rename(final)
    inside.sweep(folder / "checkpoints", _LEFT_LINKS, _LEFT_FOLDERS)


def go_on_from(folder: Path, step: int, best_step: int | None) -> None:
    """Point `last` and `best` to the checkpoints of a resumed run. The links may point to a later, abandoned one.

    Raises DiskError.
    """
    checkpoints = folder / "checkpoints"
    for name, where in (("last", step), ("best", best_step)):
        target, pointed = checkpoints / f"step_{where or 0:09d}", _pointed(checkpoints, name)
        if inside.is_folder(target):
            point(folder, name, target)
        elif pointed is not None and _step(pointed) > step:  # the link would keep it for ever
            with disk_errors(f"the link `{name}`", checkpoints):
                inside.remove(checkpoints / name)


def find(run: Path, which: str = "last") -> Path:
    """Return the checkpoint `last`, `best` or STEP of a run folder. Raises CheckpointError."""
    checkpoints = run / "checkpoints"
    committed = _committed(checkpoints)
    name = which
    if which in ("last", "best"):
        found = _pointed(checkpoints, which)
        if found is None and (complete := _complete(checkpoints)):  # the link was lost or leads nowhere
            best_step = _number(_pointed(checkpoints, "last") or complete[-1], "best_step")
            step_name = complete[-1].name if which == "last" else f"step_{best_step or 0:09d}"
            found = next((path for path in committed if path.name == step_name), None)
    elif re.fullmatch(r"[0-9]{1,15}(_[0-9]{1,15}){0,5}", which):
        name = f"step_{int(which):09d}"
        found = next((path for path in committed if path.name == name), None)
    else:
        raise CheckpointError(f"'{which}' is not a checkpoint", "checkpoint", "use last, best or a step")
    if found is not None:
        return found
    names = [name for name in ("last", "best") if _pointed(checkpoints, name)]
    names += [str(_step(path)) for path in committed]
    fix = f"use one of {', '.join(names)}" if names else "the run has no checkpoint yet"
    if which == "last" and "best" in names:
        fix = "use checkpoint=best, which an evaluation saved"
    raise CheckpointError("there is no such checkpoint", str(checkpoints / name), fix)


def _pointed(checkpoints: Path, name: str) -> Path | None:
    """Return the checkpoint that `last` or `best` names, or None.

    It is a link. In a copy that followed links it is a folder, and in some archives a file with the link's text.
    """
    path = checkpoints / name
    target = ""
    with contextlib.suppress(OSError, CheckpointError):
        if path.is_symlink():
            target = os.readlink(path)
        elif inside.is_folder(path):
            target = f"step_{_number(path, 'step') or 0:09d}"
        elif inside.is_file(path):
            target = inside.read_text(path).strip()
    if _NAME.fullmatch(target) and inside.is_folder(checkpoints / target):
        return checkpoints / target
    return path if inside.is_folder(path) else None


def has_any(run: Path) -> bool:
    """Return True if a run has a checkpoint of any kind. Raises CheckpointError if its folder is a link."""
    checkpoints = run / "checkpoints"
    return bool(_committed(checkpoints)) or any(_pointed(checkpoints, name) for name in ("last", "best"))


def resumable(run: Path) -> bool:
    """Return True if a run has a checkpoint to resume from, or one that is too damaged to tell."""
    checkpoints = run / "checkpoints"
    last = _pointed(checkpoints, "last")
    found = [*_committed(checkpoints), *([last] if last else [])]
    return any(_facts(path).get("complete", True) for path in found)


def newest_step(run: Path) -> int:
    """Return the step of the newest checkpoint to resume from, or 0 if there is none."""
    return max(map(_step, _complete(run / "checkpoints")), default=0)


def candidates(
    run: Path, which: str = "last", made_for: Container[str] | None = None, seed: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the step and state of each checkpoint to resume from, starting with `which`, then older ones.

    Arrays are numpy arrays and tensors are torch tensors. made_for: the accepted fingerprints; None: any.
    seed: that of the run; None: any.
    If `last` is damaged, or the caller asks for the next one because it did not fit, this prints a warning and tries
    the next older checkpoint. If `which` is a step or `best`, no other checkpoint is tried. Raises CheckpointError if
    none is left.
    """
    chosen = find(run, which)
    paths = [chosen]
    if which == "last":
        paths += [path for path in reversed(_complete(run / "checkpoints")) if _step(path) < _step(chosen)]
    for path, older in zip(paths, [*paths[1:], None], strict=True):
        try:
            check_of_run(path, made_for, seed)
            yield _step(path), _read(path)
            reason: Exception | str = "it does not fit this run"
        except CheckpointError as error:
            reason = error.what
        except OSError as error:
            reason = error
        follow = f"trying {older.name}" if older else "there is no older one"
        notices.warn(f"checkpoint {path} cannot be used ({reason}); {follow}")
    fix = f"the oldest failed with: {reason}"
    best = _pointed(run / "checkpoints", "best")
    if best is not None and _is_usable(best, made_for, seed):
        fix += "; eval, play and export can still use checkpoint=best"
    raise CheckpointError("no usable checkpoint is left", str(run / "checkpoints"), fix)


def _is_usable(path: Path, made_for: Container[str] | None, seed: int | None) -> bool:
    """Return True if `eval` can take the agent of a checkpoint."""
    with contextlib.suppress(CheckpointError, OSError):
        check_of_run(path, made_for, seed)
        files.read(path, without="replay")
        return True
    return False


def load(run: Path, which: str = "last", made_for: Container[str] | None = None) -> tuple[int, dict[str, Any]]:
    """Return the first of `candidates`. Raises CheckpointError."""
    return next(candidates(run, which, made_for))


def rows_like(array: np.ndarray, saved: Any) -> np.ndarray:
    """Return an array of a checkpoint. Raises ValueError unless it has the shape and dtype of `array`."""
    if not isinstance(saved, np.ndarray) or saved.shape != array.shape or saved.dtype != array.dtype:
        found = f"{saved.dtype} {saved.shape}" if isinstance(saved, np.ndarray) else type(saved).__name__
        raise ValueError(f"a saved array is {found}, not {array.dtype} {array.shape}")
    return saved


def spaces_of(path: Path) -> list[str] | None:
    """Return the spaces that a checkpoint's agent was made for, in words; None in older checkpoints."""
    spaces = files.manifest(path).get("spaces")
    return spaces if isinstance(spaces, list) and len(spaces) == 2 else None


def check_spaces(path: Path, spaces: list[str]) -> None:
    """Raise CheckpointError if a checkpoint's agent was trained with another observation or action space, in words."""
    if differ := _other_spaces(path, spaces):
        then, now = differ
        what = f"the environment has changed since the training: it had {then}, now it has {now}"
        raise CheckpointError(what, str(path), "use the environment that the run was trained with")


def check_first_weights(path: Path, spaces: list[str]) -> None:
    """Raise CheckpointError if the checkpoint of `init_from` is of a run with another observation or action space."""
    if differ := _other_spaces(path, spaces):
        then, now = differ
        what = f"the run of init_from has another environment than this one: {then}, not {now}"
        raise CheckpointError(what, str(path), "give a run with the same spaces, or leave init_from out")


def _other_spaces(path: Path, spaces: list[str]) -> tuple[str, str] | None:
    """Return the spaces of a checkpoint's agent and ours in words, or None if they are the same or not known."""
    trained = spaces_of(path)
    if trained is None or trained == spaces:
        return None
    then, now = (f"observations {obs} and actions {action}" for obs, action in (trained, spaces))
    return then, now


def read(path: Path, without: str | None = None) -> dict[str, Any]:
    """Return the state in a checkpoint folder, without the arrays of the part `without`. Raises CheckpointError."""
    return files.read(path, without)


def check_of_run(path: Path, made_for: Container[str] | None, seed: int | None) -> None:
    """Raise CheckpointError for a checkpoint of another step than its name says, or of a run with another configuration
    or seed. made_for, seed: None: any.

    Older checkpoints hold no seed.
    """
    facts = files.manifest(path)
    if facts.get("step") not in (None, _step(path)):
        what = f"the checkpoint is of step {facts['step']}, as its manifest says"
        raise CheckpointError(what, str(path), "use the run's own checkpoints, under their names")
    if made_for is not None and facts.get("made_for") not in made_for:
        what = "the checkpoint belongs to another configuration"
        fix = "use the run's own checkpoints, and its config.yaml as rltrain wrote it"
        raise CheckpointError(what, str(path), fix)
    if seed is not None and facts.get("seed") not in (None, seed):
        what = f"the checkpoint belongs to a run with seed={facts['seed']}, this run has seed={seed}"
        raise CheckpointError(what, str(path), "use the run's own checkpoints")


def _read(path: Path) -> dict[str, Any]:
    if not files.manifest(path).get("complete"):
        what = "the checkpoint holds only the agent, saved by an evaluation"
        raise CheckpointError(what, str(path), "eval, play and export can use it")
    return files.read(path)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    # A copy that followed links may have nothing but `last`.
    step = int(match[1]) if match else _number(path, "step")
    if step is None:
        raise CheckpointError("this is not a checkpoint folder", str(path), "give a folder named step_<number>")
    return step


def _committed(checkpoints: Path) -> list[Path]:
    """Return the committed checkpoints, oldest first. Raises CheckpointError if the folder is a link."""
    found = [path for path in inside.entries(checkpoints) if _NAME.fullmatch(path.name) and inside.is_folder(path)]
    return sorted(found, key=_step)


def _complete(checkpoints: Path) -> list[Path]:
    """Return the checkpoints to resume from, oldest first, without those whose manifest cannot be read."""
    return [path for path in _committed(checkpoints) if _facts(path).get("complete")]


def _before(checkpoints: Path, previous: int | None) -> Path | None:
    """Return the checkpoint before `previous`, with which the next checkpoint may share files.

    The newest two checkpoints thus share no file, so a damaged file cannot damage both.
    """
    if previous is None:
        return None
    before = _number(checkpoints / f"step_{previous:09d}", "previous")
    return checkpoints / f"step_{before:09d}" if before is not None else None


def _facts(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, or {} if it cannot be read."""
    with contextlib.suppress(CheckpointError):
        return files.manifest(path)
    return {}


def _number(path: Path, key: str) -> int | None:
    """Return an integer of the manifest, or None: a damaged or foreign manifest can hold any value."""
    value = _facts(path).get(key)
    return value if type(value) is int and 0 <= value < 10**15 else None


def _remove_old(checkpoints: Path, newest: str, previous: int | None, keep: int, keep_every_steps: int | None) -> None:
    complete = _complete(checkpoints)
    if previous is not None:
        complete = [path for path in complete if _step(path) <= previous or path.name == newest]
    best = _pointed(checkpoints, "best")
    kept = {newest, best.name if best else newest} | {path.name for path in complete[-keep:]}
    if keep_every_steps:
        first_of = {_step(path) // keep_every_steps: path.name for path in reversed(complete)}
        kept |= set(first_of.values())
    # A process killed after an evaluation may have moved the link `best`. A resumed run uses `best_step` instead.
    kept |= {f"step_{_number(path, 'best_step') or 0:09d}" for path in complete if path.name in kept}
    for path in _committed(checkpoints):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
    inside.sweep(checkpoints, _LEFT_LINKS, _LEFT_FOLDERS)


def _size(state: dict[str, Any]) -> int:
    """Return the size of all arrays and tensors in bytes."""
    return sum(_size(value) if isinstance(value, dict) else getattr(value, "nbytes", 0) for value in state.values())
