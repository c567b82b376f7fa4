"""The arguments of the commands that are not Hydra's: words and key=value pairs."""

import re

from rltrain.errors import ConfigError, nearest


def split(argv: list[str], keys: set[str], usage: str, num_words: int = 1) -> tuple[list[str], dict[str, str]]:
    """Words and values. Raises ConfigError for an unknown key or a wrong number of words."""
    words = [arg for arg in argv if "=" not in arg]
    values = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    for key in values:
        if key not in keys:
            raise ConfigError(f"unknown key '{key}'", key, nearest(key, keys))
    if len(words) != num_words:
        raise ConfigError(f"{len(words)} words where {num_words} belongs", "command line", f"usage: {usage}")
    return words, values


def whole_number(key: str, text: str, minimum: int = 1) -> int:
    """An integer such as 5000, 1_000 or 1e6. Raises ConfigError."""
    try:
        value = float(text.replace("_", "")) if re.search(r"[eE]", text) else int(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is no number", key, "give an integer, such as 1e6") from error
    if value != int(value) or value < minimum:
        raise ConfigError(f"{text} is not allowed", key, f"give an integer of at least {minimum}")
    return int(value)
