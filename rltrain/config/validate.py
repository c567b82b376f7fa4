"""Range checks of settings, with error messages for the user."""

from collections.abc import Iterable

from rltrain.errors import ConfigError, nearest

LARGEST = 2**63 - 1
"""The largest whole number of a setting: that of 64 bits."""


def at_least(key: str, value: float | None, minimum: float) -> None:
    """Raise ConfigError if value is below minimum. None passes."""
    if value is not None and not value >= minimum:
        raise ConfigError(f"{value} is too small", key, f"give a value of at least {minimum}")


def in_range(key: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    """Raise ConfigError unless low <= value <= high; with open_low, unless low < value <= high."""
    if not (low <= value <= high) or (open_low and value == low):
        raise ConfigError(f"{value} is out of range", key, f"give a value in {'(' if open_low else '['}{low}, {high}]")


def utf8(key: str, path: str) -> None:
    """Raise ConfigError unless a path is text in UTF-8: TensorBoard takes no other, and no path has a zero byte."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the path '{path}' is no text in UTF-8", key, "give a folder with another name") from error
    if "\0" in path:
        raise ConfigError("a path cannot have a zero byte", key, "give a folder with another name")


def one_of(key: str, value: str, known: Iterable[str]) -> None:
    """Raise ConfigError, with the most similar known value, if value is unknown."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"unknown value '{value}'", key, nearest(value, known))
