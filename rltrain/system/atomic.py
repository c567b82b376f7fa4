"""Write small files atomically."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from rltrain.errors import disk_errors


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically: readers see the old or the new content. Raises DiskError and keeps the old content."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with disk_errors(path.name, path.parent):
            temporary.write_text(text)
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Replace a file with JSON atomically. Raises DiskError and keeps the old content."""
    write_text(path, json.dumps(values, indent=1))
