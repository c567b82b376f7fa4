"""Describe an error that the code of a user or of a library raised: its type, its text and its place."""

import os
import sysconfig
import traceback
from pathlib import Path

from rltrain.errors import causes

_RLTRAIN = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Folders of Python's own modules and of installed packages."""
_KNOWN = ("rltrain", "gymnasium", "numpy", "importlib", "contextlib")
"""Packages that are named only if nothing else was running."""


_LONGEST = 300
"""The most characters of an error's text. An assertion of NumPy or a parser may quote all of its data."""


def describe(error: BaseException) -> str:
    """Return the type, the text and the place of an error: `ValueError: no map (mine.py, line 12, in reset)`."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the text of an error of the user's own is the user's code, too
        text = ""
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    place = place_of(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}{f' ({place})' if place else ''}"


def place_of(error: BaseException) -> str:
    """Return file, line and function of the user's code that raised an error; empty if only libraries were running.

    The innermost frame outside of rltrain and of installed packages counts. Without one, it is the innermost frame of
    an installed package other than gymnasium and NumPy.
    """
    place = ""
    for each in causes(error, implicit=False):  # a library may have raised the user's error again
        place, is_users = _place_in(each)
        if is_users:
            break
    return place


def _place_in(error: BaseException) -> tuple[str, bool]:
    """Return the place of `place_of` in the traceback of one error, and whether it is in the user's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}, line {error.lineno}", True
    frames = list(traceback.walk_tb(error.__traceback__))
    files = [(frame.f_code.co_filename, frame.f_globals.get("__name__") or "") for frame, _ in frames]
    users = [i for i, (file, _) in enumerate(files) if not file.startswith(("<", _RLTRAIN, *LIBRARIES))]
    stdlib = LIBRARIES[:2]
    packages = [
        i
        for i, (file, name) in enumerate(files)
        if name.split(".")[0] not in _KNOWN
        and not file.startswith("<")
        and (not file.startswith(stdlib) or "site-packages" in file)
    ]
    found = users or packages
    if not found:
        return "", False
    frame, line = frames[found[-1]]
    return f"{_short(frame.f_code.co_filename)}, line {line}, in {frame.f_code.co_name}", bool(users)


def _short(file: str) -> str:
    """Return a path relative to the working directory if the file is below it."""
    try:
        path = os.path.relpath(file)
    except (OSError, ValueError):
        return file
    return file if path.startswith("..") else path
