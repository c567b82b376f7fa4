"""Lines on stderr for what somebody may not expect, while the command goes on. Errors are in errors.py."""

import sys

from rltrain.errors import printable

_told: set[str] = set()
"""What `is_new` was given in this process."""


def tell(text: str) -> None:
    """Print `rltrain: TEXT` as one line. The text may come from a folder or an environment."""
    print(printable(f"rltrain: {text}"), file=sys.stderr)


def warn(text: str) -> None:
    """Print `rltrain: warning: TEXT` as one line, for what may be wrong."""
    tell(f"warning: {text}")


def is_new(what: str) -> bool:
    """Return True at the first call with `what` in this process, so that it is told once."""
    if what in _told:
        return False
    _told.add(what)
    return True


def warn_once(text: str, about: str | None = None) -> None:
    """Warn once in this process. about: what the warning is about, if the text holds numbers of one occasion."""
    if is_new(about or text):
        warn(text)


def has_told(start: str) -> bool:
    """Return True if something that was told once begins so."""
    return any(text.startswith(start) for text in _told)
