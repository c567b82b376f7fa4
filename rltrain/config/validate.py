"""Range checks of configuration values, worded for the user."""

from collections.abc import Iterable

from rltrain.errors import ConfigError, nearest


def at_least(key: str, value: float | None, minimum: float) -> None:
    """Raise ConfigError unless value is None or not below minimum."""
    if value is not None and not value >= minimum:
        raise ConfigError(f"{value} is too small", key, f"give a value of at least {minimum}")


def in_range(key: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    """Raise ConfigError unless low <= value <= high (low < value where open_low)."""
    if not (low <= value <= high) or (open_low and value == low):
        raise ConfigError(f"{value} is out of range", key, f"give a value in {'(' if open_low else '['}{low}, {high}]")


def one_of(key: str, value: str, known: Iterable[str]) -> None:
    """Raise ConfigError, naming the nearest, unless value is known."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"unknown value '{value}'", key, nearest(value, known))
