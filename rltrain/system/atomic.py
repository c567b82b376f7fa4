"""Write small files atomically."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rltrain.errors import disk_errors
from rltrain.system import plain_json


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically. Raises DiskError and keeps the old content."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a text file atomically. lines: with their line ends. Raises DiskError and keeps the old content."""
    write_parts(path, (line.encode(errors="backslashreplace") for line in lines))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Replace a file atomically: readers see the old or the new content, also after a power failure.

    A link at `path` is replaced, not followed. Raises DiskError and keeps the old content.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with disk_errors(path.name, path.parent):
            with open(new(temporary), "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def new(path: Path) -> int:
    """Make an empty file in place of what has this name, such as a link, and return its descriptor. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replace a file with JSON atomically. Raises DiskError and keeps the old content."""
    write_text(path, plain_json.dumps(values, indent=1))
