"""Keys of a state's dicts in the files of a checkpoint, which know only texts. They come back as they were.

A text stays as it is but for `%`, `/` and `~`, which the names of files and tensors are joined by. What else Python can
write down as a constant, such as 3 or (0, 1), follows `%=`.
"""

import ast
import re
from collections.abc import Hashable
from numbers import Integral
from typing import Any

_ITEMS = "%items"
"""The key in JSON of a dict whose keys are not all texts: its pairs."""
_LONGEST = 10_000
"""Characters of a key. A checkpoint may be somebody else's, and Python takes its time to read a constant."""


def written(key: Any) -> str:
    """Return a key as a part of a name. Raises TypeError for one that no file can hold, such as an object."""
    if isinstance(key, str):
        return _escaped(key) or "%"
    return f"%={_escaped(_constant(key))}"


def read(part: str) -> Hashable:
    """Return the key for which `written` returned `part`. Raises ValueError, SyntaxError."""
    if part.startswith("%=") and len(part) <= _LONGEST:
        key: Hashable = ast.literal_eval(_unescaped(part[2:]))
        return key
    return "" if part == "%" else _unescaped(part)


def packed(value: Any) -> Any:
    """Return a value for JSON, in which the dicts inside of lists have texts as keys. Raises TypeError as `written`."""
    if isinstance(value, list | tuple):
        return [packed(each) for each in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != _ITEMS for key in value):
            return {key: packed(each) for key, each in value.items()}
        return {_ITEMS: [[written(key), packed(each)] for key, each in value.items()]}
    return value


def unpacked(value: Any) -> Any:
    """Return what `packed` was given; lists in place of tuples. Raises as `read`."""
    if isinstance(value, list):
        return [unpacked(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {_ITEMS}:
            return {read(key): unpacked(each) for key, each in value[_ITEMS]}
        return {key: unpacked(each) for key, each in value.items()}
    return value


def _constant(key: Any) -> str:
    if isinstance(key, tuple):
        return f"({''.join(f'{_constant(each)}, ' for each in key)})"
    text = repr(int(key) if isinstance(key, Integral) and not isinstance(key, bool) else key)
    plain = key.item() if hasattr(key, "item") else key
    if isinstance(plain, float | bool | None | str):
        text = repr(plain)
    try:
        if ast.literal_eval(text) == key and len(text) < _LONGEST // 3:
            return text
    except (ValueError, SyntaxError):
        pass
    raise TypeError(f"the key {key!r:.100} is neither a text nor a number")


def _escaped(text: str) -> str:
    return re.sub(r"[%/~\0]", lambda found: f"%{ord(found[0]):02X}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)
