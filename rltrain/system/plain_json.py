"""JSON as Python writes it, whatever a module of the user's makes of the `json` of its process.

Such a module may round the numbers of its own logs by a change of `json.encoder`, or put a faster library in its place.
Checkpoints, fingerprints and results must not change with that.
"""

import importlib.util
from types import ModuleType
from typing import Any


def _copy_of(name: str) -> ModuleType:
    """Return a module of Python's library once more, which nobody else has."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_decoder, _encoder = _copy_of("json.decoder"), _copy_of("json.encoder")
_plain_decoder = _decoder.JSONDecoder()


def loads(text: str | bytes, **options: Any) -> Any:
    """Return the value of a JSON text, in UTF-8 if it is bytes. options: of `json.JSONDecoder`. Raises ValueError."""
    decoder = _decoder.JSONDecoder(**options) if options else _plain_decoder
    return decoder.decode(text if isinstance(text, str) else text.decode())


def dumps(value: Any, **options: Any) -> str:
    """Return `value` as JSON. options: those of `json.JSONEncoder`. Raises TypeError, ValueError."""
    return str(_encoder.JSONEncoder(**options).encode(value))
