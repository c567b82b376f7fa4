"""Tables of a run or sweep in CSV, to which people add their own columns and lines."""

import contextlib
import csv
import io
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, disk_errors
from rltrain.system import atomic, inside, notices


class Dialect(csv.Dialect):
    """The CSV of RFC 4180, whatever a module of the user's has registered as "excel"."""

    delimiter = ","
    quotechar = '"'
    doublequote = True
    skipinitialspace = False
    lineterminator = "\r\n"
    quoting = csv.QUOTE_MINIMAL


_LARGEST_BYTES = 100_000_000
"""The largest table to look into."""


def write(path: Path, rows: Iterable[list[Any]]) -> None:
    """Replace a CSV file atomically. Its first row names the columns; each other one begins with a number, or empty.

    A file to which somebody has added columns, or lines of another form, gets another name, which one line says.
    Raises DiskError.
    """
    text = io.StringIO(newline="")
    rows = list(rows)
    csv.writer(text, Dialect).writerows(rows)
    if inside.is_file(path) and not _is_ours(path, set(rows[0])):
        with disk_errors(path.name, path.parent):
            other = set_aside(path)
        what = f"{path.name} had columns or lines of yours: it is now {other}, beside a new {path.name}"
        notices.tell(what)
    atomic.write_text(path, text.getvalue())


def _is_ours(path: Path, columns: set[str]) -> bool:
    """Return False for a table that has other columns, or lines that no table of ours has."""
    limit = csv.field_size_limit(_LARGEST_BYTES)  # the folders of a large sweep are one field
    try:
        text = inside.read_text(path, _LARGEST_BYTES).removeprefix("\ufeff")
        header, *rows = csv.reader(io.StringIO(text, newline=""), Dialect) if text.strip() else ([],)
    except (OSError, CheckpointError, csv.Error):
        return path.stat().st_size > _LARGEST_BYTES  # nobody edits such a table by hand
    finally:
        csv.field_size_limit(limit)
    rows = [row for row in rows if row]
    return set(header) <= columns and all(len(row) == len(header) and _is_number(row[0]) for row in rows)


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return not text or float(text) is not None
    return False


def set_aside(path: Path) -> str:
    """Give a file another name in its folder, `NAME.replaced` or the next that is free. Returns it. Raises OSError."""
    numbers = itertools.count(2)
    other = f"{path.name}.replaced"
    while os.path.lexists(path.with_name(other)):
        other = f"{path.name}.replaced-{next(numbers)}"
    os.replace(path, path.with_name(other))
    return other
