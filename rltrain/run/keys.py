"""Keys of a state's dicts in the files of a checkpoint, which know only texts. They come back as they were.

A text stays as it is but for `%`, `/` and `~`, which the names of files and tensors are joined by. What else Python can
write down as a constant, such as 3 or (0, 1), follows `%=`.
"""

import ast
import re
import warnings
from collections.abc import Hashable
from numbers import Integral
from typing import Any

_ITEMS = "%items"
"""The key in JSON of a dict whose keys are not all texts: its pairs."""
_LONGEST = 150
"""Characters of a constant. It is a part of the name of a file, and Python takes its time to read a long one."""
_NUMBER = re.compile(r"%=(-?[0-9]{1,140})")


def written(key: Any) -> str:
    """Return a key as a part of a name. Raises TypeError for one that no file can hold, such as an object."""
    if isinstance(key, str):
        return _escaped(key) or "%"
    if isinstance(key, Integral) and not isinstance(key, bool):
        key = int(key)
    try:
        text = repr(_plain(key))
        if len(text) <= _LONGEST and (type(key) is int or ast.literal_eval(text) == key):
            return f"%={_escaped(text)}"
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    raise TypeError(f"the key {_shown(key)} is neither a text nor a number, or too long")


def read(part: str) -> Hashable:
    """Return the key for which `written` returned `part`. Raises ValueError, SyntaxError for any other text."""
    if "%" not in part:
        return part
    if number := _NUMBER.fullmatch(part):
        return int(number[1])
    key: Hashable = "" if part == "%" else _unescaped(part)
    if part.startswith("%="):
        if len(part) > 4 * _LONGEST:
            raise ValueError("a name in the checkpoint is too long")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants such as `1if`
            key = ast.literal_eval(_unescaped(part[2:]))
    if written(key) != part:  # a second name for another key
        raise ValueError(f"'{part}' is no name that rltrain writes")
    return key


def packed(value: Any) -> Any:
    """Return a value for JSON, in which the dicts inside of lists have texts as keys. Raises TypeError as `written`."""
    if isinstance(value, list | tuple):
        return (
            [packed(each) for each in value] if any(isinstance(each, list | tuple | dict) for each in value) else value
        )
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != _ITEMS for key in value):
            return {key: packed(each) for key, each in value.items()}
        return {_ITEMS: [[written(key), packed(each)] for key, each in value.items()]}
    return value


def unpacked(value: Any) -> Any:
    """Return what `packed` was given; lists in place of tuples. Raises as `read`."""
    if isinstance(value, list):
        return [unpacked(each) for each in value] if any(isinstance(each, list | dict) for each in value) else value
    if isinstance(value, dict):
        if value.keys() == {_ITEMS}:
            return {read(key): unpacked(each) for key, each in value[_ITEMS]}
        return {key: unpacked(each) for key, each in value.items()}
    return value


def _plain(key: Any) -> Any:
    """Return a key without NumPy's numbers."""
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    return key.item() if hasattr(key, "item") else key


def _shown(key: Any) -> str:
    try:
        return f"{key!r:.100}"
    except Exception:  # of its own class, or a number of thousands of digits
        return f"of the type {type(key).__name__}"


def _escaped(text: str) -> str:
    return re.sub(r"[%/~\0]", lambda found: f"%{ord(found[0]):02X}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)
