"""Checkpoints: a folder of safetensors, npy and JSON, committed by a rename and checked against its manifest.

A folder is written under a name that is never read, every member is synced, and only then renamed: whatever carries
the name `step_000123456` is whole. Nothing here runs code from a file.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.errors import CheckpointError, DiskError

FORMAT = 1
_NAME = re.compile(r"step_(\d{9,})")


def save(folder: Path, step: int, state: dict[str, Any], complete: bool = True, keep: int = 2) -> Path:
    """Commit `checkpoints/step_<step>` and remove older ones but `best` and the newest `keep`.

    state: nested dicts of torch tensors, numpy arrays and JSON values. complete: training can go on from it, so `last`
    points to it; one that holds the agent alone is for evaluation. Raises DiskError; older checkpoints stay.
    """
    checkpoints = folder / "checkpoints"
    final = checkpoints / f"step_{step:09d}"
    partial = checkpoints / f".partial-{step:09d}-{os.getpid()}"
    try:
        checkpoints.mkdir(exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write_members(partial, state, complete)
        _sync(partial)
        if final.exists():  # the same step again, with more in it: move the old one out of the way first
            replaced = checkpoints / f".replaced-{step:09d}-{os.getpid()}"
            final.rename(replaced)
            partial.rename(final)
            shutil.rmtree(replaced)
        else:
            partial.rename(final)
        _sync(checkpoints)
        if complete:
            point(folder, "last", final)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
            free = shutil.disk_usage(folder).free
            raise DiskError(
                f"the checkpoint cannot be written: {error.strerror}, {free:,} bytes free",
                str(checkpoints),
                "free some space, then `rltrain resume` from the checkpoint before",
            ) from error
        raise
    _remove_old(checkpoints, keep, final.name)
    return final


def point(folder: Path, name: str, target: Path) -> None:
    """Let the link `checkpoints/<name>` (last, best) point to a checkpoint, at once."""
    link = folder / "checkpoints" / name
    aside = link.with_name(f".{name}-{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.name)
    aside.replace(link)


def find(run: Path, which: str = "last") -> Path:
    """The checkpoint `last`, `best` or STEP of a run folder. Raises CheckpointError."""
    if which in ("last", "best"):
        path = run / "checkpoints" / which
    elif which.replace("_", "").isdigit():
        path = run / "checkpoints" / f"step_{int(which):09d}"
    else:
        raise CheckpointError(f"'{which}' is no checkpoint", "checkpoint", "use last, best or a step")
    if path.is_dir():
        return path.resolve()
    if which == "last":
        complete = _complete(run / "checkpoints")
        if complete:
            return complete[-1]
    raise CheckpointError("there is no such checkpoint", str(path), "look into the run's checkpoints folder")


def load(run: Path, which: str = "last") -> tuple[int, dict[str, Any]]:
    """Read a checkpoint; a damaged `last` gives way, with a warning, to the next older one.

    Returns its step and its state, arrays as numpy and tensors as torch. Raises CheckpointError.
    """
    chosen = find(run, which)
    candidates = [chosen]
    if which == "last":
        candidates += [path for path in reversed(_complete(run / "checkpoints")) if _step(path) < _step(chosen)]
    for path in candidates:
        try:
            return _step(path), read(path)
        except (CheckpointError, OSError, ValueError, KeyError) as error:
            reason = error
            print(f"rltrain: warning: checkpoint {path} is damaged ({error}); trying an older one", file=sys.stderr)
    raise CheckpointError("no usable checkpoint is left", str(run / "checkpoints"), f"the oldest failed with: {reason}")


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
    complete = []
    for path in _committed(checkpoints):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads((path / "manifest.json").read_text()).get("complete"):
                complete.append(path)
    return complete


def _remove_old(checkpoints: Path, keep: int, newest: str) -> None:
    best = (checkpoints / "best").resolve().name
    kept = {newest, best} | {path.name for path in _complete(checkpoints)[-keep:]}
    for path in _committed(checkpoints):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _write_members(folder: Path, state: dict[str, Any], complete: bool) -> None:
    tensors, arrays, values = _split(state)
    if tensors:
        from safetensors.torch import save_file

        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, folder / "tensors.safetensors")
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array, allow_pickle=False)
    (folder / "state.json").write_text(json.dumps(values))
    manifest = {}
    for path in sorted(folder.iterdir()):
        _sync(path)
        manifest[path.name] = {"size": path.stat().st_size, "sha256": _digest(path)}
    (folder / "manifest.json").write_text(
        json.dumps({"format": FORMAT, "complete": complete, "members": manifest}, indent=1)
    )
    _sync(folder / "manifest.json")


def read(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint folder, after its manifest was checked. Raises CheckpointError."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        members = manifest["members"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("its manifest cannot be read", str(folder), str(error)) from error
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"its format is {manifest.get('format')}", str(folder), f"this rltrain reads {FORMAT}")
    for name, facts in members.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise CheckpointError("a member is missing", str(path), "use an older checkpoint")
        if path.stat().st_size != facts["size"] or _digest(path) != facts["sha256"]:
            raise CheckpointError("a member does not match its manifest", str(path), "use an older checkpoint")
    flat: dict[str, Any] = json.loads((folder / "state.json").read_text())
    if "tensors.safetensors" in members:
        from safetensors.torch import load_file

        flat.update(load_file(folder / "tensors.safetensors"))
    for name in members:
        if name.endswith(".npy"):
            flat[name.removesuffix(".npy")] = np.load(folder / name, allow_pickle=False)
    return _nest(flat)


def _split(state: dict[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Flatten nested dicts to dotted keys, by kind: tensors, arrays, JSON values."""
    tensors: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            parts = _split(value, f"{name}/")
            for whole, part in zip((tensors, arrays, values), parts, strict=True):
                whole.update(part)
        elif isinstance(value, np.ndarray):
            arrays[name.replace("/", "~").removeprefix("agent~")] = value
        elif hasattr(value, "untyped_storage"):  # a torch tensor, told without importing torch
            tensors[name] = value.detach().cpu()
        else:
            values[name] = value
    return tensors, arrays, values


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        parts = key.replace("~", "/").split("/")
        if isinstance(value, np.ndarray) and len(parts) == 1:
            parts = ["agent", *parts]
        node = nested
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return nested


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
