"""Libraries of machine code beside the user's modules, such as extension modules: a run keeps their hashes.

They are not copied as the modules are, because nobody could read what they do.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from rltrain.config import plugin_modules
from rltrain.system import atomic, inside

HASHES = "compiled.json"
"""The file in a run's copy of the user's code with the SHA-256 of each library, by its place below its folder."""
_LARGEST_BYTES = 100_000_000
"""The largest library to read: each `eval` and `resume` reads them."""
_MOST = 100
_GONE = " (deleted)"
"""What Linux adds to the name of a file that was replaced since it was loaded."""


def note(roots: Collection[Path], copy: Path) -> None:
    """Add the hashes of what this process has loaded from the folders of the user's modules. Only Linux tells that.

    A library that was built anew since it was loaded has no hash, which equals none. Raises DiskError, CheckpointError.
    """
    known = hashes(copy)
    added: dict[str, str | None] = {}
    for loaded in _loaded() if roots else ():
        path = Path(os.path.realpath(loaded.removesuffix(_GONE)))
        for root in roots:
            if path.is_relative_to(root) and _is_own(path, root):
                place = str(path.relative_to(root))
                added |= {} if place in known else {place: "" if loaded.endswith(_GONE) else _digest(path)}
    if added:
        atomic.write_json(copy / HASHES, known | {place: found for place, found in added.items() if found is not None})


def hashes(copy: Path) -> dict[str, str]:
    """Return the hashes in a run's copy by the places. Raises CheckpointError."""
    if not os.path.lexists(copy / HASHES):
        return {}
    found = {}
    for place, digest in inside.read_json(copy / HASHES).items():
        path = Path(place)  # without `.` and `//`, by which one file would have many names
        if isinstance(digest, str) and not path.is_absolute() and ".." not in path.parts and ".so" in path.name:
            found[str(path)] = digest
    return dict(list(found.items())[:_MOST])


def changed(folders: Iterable[Path], copy: Path) -> list[Path]:
    """Return the libraries below the folders of the user's modules that are others than a run's. Raises as `hashes`."""
    folders = list(dict.fromkeys(folders))
    others = []
    for place, noted in hashes(copy).items():
        found = [folder / place for folder in folders if os.path.isfile(folder / place)]
        if found and all(_digest(path) not in (noted, None) for path in found):
            others.append(found[0])
    return others


def _loaded() -> list[str]:
    """Return the files with machine code in this process' memory."""
    found: dict[str, None] = {}
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as file:
        for line in file:
            match line.rstrip(b"\n").split(maxsplit=5):
                case [_, access, _, _, _, path] if b"x" in access and b".so" in path:
                    found[os.fsdecode(path)] = None
    return list(found)


def _is_own(path: Path, root: Path) -> bool:
    """Return True for a library of the user's: of no package, not of a Python below his folder, not of a cache."""
    if plugin_modules.is_library(str(path)) or any(part.startswith(".") for part in path.relative_to(root).parts):
        return False
    pythons = map(os.path.realpath, (sys.prefix, sys.base_prefix, sys.exec_prefix))
    return not any(path.is_relative_to(python) and not root.is_relative_to(python) for python in pythons)


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None for one that is too large or cannot be read."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= _LARGEST_BYTES:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return None
