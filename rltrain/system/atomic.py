"""Small files that are written at once or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from rltrain.errors import disk_errors


def write_text(path: Path, text: str) -> None:
    """Replace a file: a reader sees the old one or the new one. Raises DiskError; then the old one is as it was."""
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with disk_errors(path.name, path.parent):
            aside.write_text(text)
            aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, values: dict[str, Any]) -> None:
    """The same for JSON. Raises DiskError."""
    write_text(path, json.dumps(values, indent=1))
