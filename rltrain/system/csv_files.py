"""Tables of a run or sweep in CSV, to which people add their own columns and lines."""

import csv
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, printable
from rltrain.system import atomic, inside


def write(path: Path, rows: Iterable[list[Any]], may_have: Iterable[str] = ()) -> None:
    """Replace a CSV file atomically. Its first row names the columns.

    A file to which somebody has added columns, or lines of another form, gets another name, which one line says.
    may_have: columns that an earlier file of rltrain's own may have. Raises DiskError, OSError.
    """
    text = io.StringIO(newline="")
    rows = list(rows)
    csv.writer(text).writerows(rows)
    if inside.is_file(path) and not _is_ours(path, {*rows[0], *may_have}):
        other = set_aside(path)
        what = f"{path.name} had columns or lines of yours: it is now {other}, beside a new {path.name}"
        print(printable(f"rltrain: {what}"), file=sys.stderr)
    atomic.write_text(path, text.getvalue())


def _is_ours(path: Path, columns: set[str]) -> bool:
    try:
        rows = list(csv.reader(io.StringIO(inside.read_text(path), newline="")))
    except (OSError, CheckpointError, csv.Error):
        return False
    return not rows or (set(rows[0]) <= columns and all(len(row) == len(rows[0]) for row in rows))


def set_aside(path: Path) -> str:
    """Give a file another name in its folder, `NAME.replaced` or the next that is free. Returns it. Raises OSError."""
    other = f"{path.name}.replaced"
    while os.path.lexists(path.with_name(other)):
        other += "-again"
    os.replace(path, path.with_name(other))
    return other
