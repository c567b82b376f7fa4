"""Files of a checkpoint: tensors as safetensors, arrays as npy, other values as JSON, and the manifest.

Reading runs no code from a file. A damaged file raises CheckpointError.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rltrain.buffers.pieces import Piece
from rltrain.errors import CheckpointError
from rltrain.run import keys
from rltrain.system import inside, plain_json

FORMAT = 1
_LONGEST_NAME = 250
"""Bytes of the name of an array, which is that of its file."""
_KEYS = "escaped"
"""What the manifest says of the names of the parts: `keys` has written them."""


def link_pieces(folder: Path, state: dict[str, Any], source: Path) -> dict[str, Any]:
    """Hard-link the pieces of the state that are unchanged since the checkpoint `source`.

    A file that somebody has changed since is not linked. Returns the manifest entries of the linked files by name.
    `write` writes the other pieces.
    """
    links: dict[str, Any] = {}
    with contextlib.suppress(CheckpointError, FileNotFoundError):
        members = manifest(source)["members"]
        written_ns = (source / "manifest.json").stat().st_mtime_ns  # after all else
        for key, piece in _split(state)[1].items():
            facts = members.get(f"{key}.npy", {})
            if isinstance(piece, Piece) and facts.get("stamp") == piece.stamp:
                with contextlib.suppress(OSError):  # no hard links on this file system, or a missing file
                    path = source / f"{key}.npy"
                    if inside.is_file(path):
                        found = path.stat()
                        if found.st_size == facts["size"] and found.st_mtime_ns <= written_ns:
                            os.link(path, folder / path.name)
                            links[path.name] = facts
    return links


def write(folder: Path, state: dict[str, Any], facts: dict[str, Any], links: dict[str, Any] | None = None) -> None:
    """Write all files and, last, the manifest with `facts` and each file's size and SHA-256. Syncs all to the disk.

    folder: a new folder, which holds nothing but the links.
    links: the result of `link_pieces`; these files are already on the disk.
    """
    tensors, arrays, values = _split(state)
    members = dict(links or {})
    if tensors:
        from safetensors.torch import save

        # Not `save_file`: on a full disk it raises an error of its own type instead of OSError.
        content = save({key: tensor.clone().contiguous() for key, tensor in tensors.items()})
        (folder / "tensors.safetensors").write_bytes(content)
    for key, array in arrays.items():
        if f"{key}.npy" not in members:
            np.save(folder / f"{key}.npy", array.array() if isinstance(array, Piece) else array, allow_pickle=False)
    (folder / "state.json").write_text(plain_json.dumps(values))
    for path in sorted(folder.iterdir()):
        if path.name not in members:
            sync(path)
            members[path.name] = {"size": path.stat().st_size, "sha256": digest(path)}
            if isinstance(piece := arrays.get(path.stem), Piece):
                members[path.name]["stamp"] = piece.stamp
    (folder / "manifest.json").write_text(
        plain_json.dumps({"format": FORMAT, "keys": _KEYS, **facts, "members": members}, indent=1)
    )
    sync(folder / "manifest.json")
    sync(folder)


def unsaveable(state: Any) -> str:
    """Return what of a state no checkpoint can hold, in words; empty for nested dicts of tensors, arrays and JSON."""
    if not isinstance(state, dict):
        return f"a {type(state).__name__}"
    try:
        _, arrays, values = _split(state)
    except TypeError as error:
        return f"a dict in which {error}"
    except RecursionError:
        return "a list that holds itself, or lists of too many levels"
    if long := [name for name in arrays if len(name.encode(errors="replace")) > _LONGEST_NAME]:
        return f"an array under a name of more than {_LONGEST_NAME} bytes, '{long[0][:50]}...'"
    for name, value in values.items():
        try:
            plain_json.dumps(value)
        except (TypeError, ValueError):
            return f"a {type(value).__name__} at '{shown(name)}'"
    objects = [name for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype.hasobject]
    return f"an array of objects at '{shown(objects[0])}'" if objects else ""


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking its structure. Raises CheckpointError."""
    try:
        values = inside.read_json(inside.folder(folder) / "manifest.json")
        members = values["members"]
        whole = all(isinstance(facts["size"], int) and isinstance(facts["sha256"], str) for facts in members.values())
        whole = whole and isinstance(values.get("made_for", ""), str)
    except (OSError, CheckpointError, KeyError, TypeError, AttributeError) as error:
        what = f"the checkpoint's manifest cannot be read: {type(error).__name__}: {error}"
        raise CheckpointError(what, str(folder), "use an older checkpoint") from error
    if not whole or "state.json" not in members:
        raise CheckpointError("the checkpoint's manifest is incomplete", str(folder), "use an older checkpoint")
    if values.get("format") != FORMAT:
        what = f"the checkpoint's format is {values.get('format')}, not {FORMAT}"
        raise CheckpointError(what, str(folder), "use the version of rltrain that wrote it")
    return values


def verify(folder: Path, known: Collection[str] = (), without: str | None = None) -> dict[str, Any]:
    """Read every file and compare it with the manifest. Returns the manifest. Raises CheckpointError.

    known: files to check by size only. without: a part of the state to skip.
    """
    values = manifest(folder)
    if without:
        values["members"] = {name: facts for name, facts in values["members"].items() if not _is_of(name, without)}
    # Sizes first: reading a file takes a minute for each 100 GB, and a file with holes needs no space to be so large.
    for name, facts in values["members"].items():
        path = folder / name
        if Path(name).name != name or not inside.is_file(path):
            raise CheckpointError("a file of the checkpoint is missing", str(path), "use an older checkpoint")
        if path.stat().st_size != facts["size"]:
            raise _mismatch(path)
        if inside.is_hollow(path):
            raise CheckpointError("a file of the checkpoint is almost empty", str(path), "use an older checkpoint")
    total = sum(facts["size"] for facts in values["members"].values())
    if total > shutil.disk_usage(folder).total:  # many names of one file
        what = f"the checkpoint has {total:,} bytes, more than its disk"
        raise CheckpointError(what, str(folder), "use an older checkpoint")
    for name, facts in values["members"].items():
        path = folder / name
        if name not in known and digest(path) != facts["sha256"]:
            raise _mismatch(path)
    return values


def _mismatch(path: Path) -> CheckpointError:
    what = "a file of the checkpoint does not match the manifest"
    return CheckpointError(what, str(path), "use an older checkpoint")


def read(folder: Path, without: str | None = None) -> dict[str, Any]:
    """Verify a checkpoint folder and return its state. Raises CheckpointError.

    Pieces are read-only and memory-mapped, so they take memory only while they are used. without: a part of the state
    whose arrays to leave out, such as the replay.
    """
    try:
        facts = verify(folder, without=without)
        members, are_escaped = facts["members"], facts.get("keys") == _KEYS
        flat = inside.read_json(folder / "state.json")
        if are_escaped:
            flat = {name: keys.unpacked(value) for name, value in flat.items()}
        if "tensors.safetensors" in members:
            from safetensors.torch import load_file

            flat.update(load_file(folder / "tensors.safetensors"))
        for name in members:
            if name.endswith(".npy"):
                mode: Literal["r"] | None = "r" if "stamp" in members[name] else None
                array = np.load(folder / name, mmap_mode=mode, allow_pickle=False)
                if not isinstance(array, np.ndarray):  # NumPy also opens a zip of arrays
                    raise ValueError(f"{name} is no array")
                flat[name.removesuffix(".npy")] = array
        state = _nest(flat, are_escaped)
        unsound = _first_unsound({name: value for name, value in flat.items() if _is_of_agent(name)})
    except CheckpointError:
        raise
    except Exception as error:  # a file can match its manifest and still have any content
        what = f"the checkpoint cannot be read: {type(error).__name__}: {error}"
        raise CheckpointError(what, str(folder), "use an older checkpoint") from error
    if unsound:
        what = f"'{shown(unsound)}' of the checkpoint's agent has values that are NaN or infinite"
        raise CheckpointError(what, str(folder), "use an older checkpoint")
    return state


def _split(state: dict[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Flatten nested dicts to keys joined by `/` (`~` for arrays). Returns tensors, arrays and JSON values.

    Raises TypeError for a key that no file can hold.
    """
    tensors: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for key, value in state.items():
        name = f"{prefix}{keys.written(key)}"
        if isinstance(value, dict) and value:
            parts = _split(value, f"{name}/")
            for whole, part in zip((tensors, arrays, values), parts, strict=True):
                whole.update(part)
        elif isinstance(value, np.ndarray | Piece):
            flat = name.replace("/", "~")
            # An array of the agent itself, such as its table, has its own name; one further inside keeps its path.
            arrays[flat.removeprefix("agent~") if flat.count("~") == 1 else flat] = value
        elif hasattr(value, "untyped_storage"):  # a torch tensor, recognised without importing torch
            tensors[name] = value.detach().cpu()
        else:
            values[name] = keys.packed(value)
    return tensors, arrays, values


def _is_of_agent(name: str) -> bool:
    path = name.replace("~", "/")
    return path.startswith("agent/") or "/" not in path


def first_unsound(agent: dict[str, Any]) -> str | None:
    """Return the name of the first tensor or array in an agent's state with NaN or infinity, or None if there is none.

    `read` refuses such a checkpoint.
    """
    tensors, arrays, _ = _split({"agent": agent})
    unsound = _first_unsound(tensors | arrays)
    return unsound and shown(unsound).removeprefix("agent/")


def shown(name: str) -> str:
    """Return the name of a part for a message."""
    with contextlib.suppress(ValueError, SyntaxError):  # of an older checkpoint
        return "/".join(str(keys.read(part)) for part in name.replace("~", "/").split("/"))
    return name


def _first_unsound(flat: dict[str, Any]) -> str | None:
    return next((name for name, value in flat.items() if not _is_sound(value)), None)


def _is_sound(value: Any) -> bool:
    """Return False if an array or a tensor of floats has values that are not finite. A mask of 0 and -inf is sound."""
    if hasattr(value, "untyped_storage"):
        if not value.is_floating_point():
            return True
        finite = value.isfinite()
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        finite = np.isfinite(value)
    else:
        return True
    return bool(finite.all() or (finite.any() and (value[~finite] < 0).all() and not value[finite].any()))


def _is_of(member: str, part: str) -> bool:
    return member.startswith(f"{part}~")


def _nest(flat: dict[str, Any], are_escaped: bool) -> dict[str, Any]:
    """Return the nested state. are_escaped: its names are those of `keys.written`; older checkpoints have the keys."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        parts = key.replace("~", "/").split("/")
        if isinstance(value, np.ndarray) and len(parts) == 1:
            parts = ["agent", *parts]
        *above, last = map(keys.read, parts) if are_escaped else parts
        node: dict[Any, Any] = nested
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return nested


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with inside.open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
