"""Whether a state that was loaded is there again."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rltrain.system import plain_json


def forgotten(
    own: Mapping[str, Any], again: Callable[[], Mapping[str, Any]], loaded: Mapping[str, Any], whole: bool = True
) -> str:
    """Return what `lost` returns; "" for a state that changes by itself, as it holds a clock.

    own: the state after the load. again: returns it once more.
    """
    key = lost(own, loaded, whole)
    return "" if key and lost(again(), own) else key


def lost(own: Mapping[str, Any], loaded: Mapping[str, Any], whole: bool = True) -> str:
    """Return the name of the first value of a loaded state that `own`, the state after the load, has not; else "".

    Both are nested dicts of tensors, arrays and JSON values. Numbers are compared as `own` holds them, which may round
    them. whole: a name that `own` lacks counts, too.
    """
    texts = {str(key): key for key in own}  # older checkpoints made texts of all keys
    for found, value in loaded.items():
        key = found if found in own else texts.get(found, found)
        if key not in own:
            if whole:
                return str(key)
        elif key == "param_groups":  # an optimizer's settings are those of the configuration and of the device
            continue
        elif isinstance(value, dict) and isinstance(own[key], dict):
            if below := lost(own[key], value, whole):
                return f"{key}/{below}"
        elif not _is_same(own[key], value):
            return str(key)
    return ""


def _is_same(own: Any, loaded: Any) -> bool:
    if hasattr(own, "untyped_storage") and hasattr(loaded, "untyped_storage"):
        loaded = loaded.detach().to(own)  # no copy if dtype and device are the same
        return bool(own.equal(loaded)) or (own.shape == loaded.shape and _all_same(own, loaded))
    own, loaded = _plain(own), _plain(loaded)
    if not (isinstance(own, np.ndarray) or isinstance(loaded, np.ndarray)):
        text, loaded_text = _as_json(own), _as_json(loaded)
        if text is None or loaded_text is None:  # a piece of a replay buffer, which is rltrain's own; a dict
            return text is None
        return text == loaded_text or bool(plain_json.loads(text) == plain_json.loads(loaded_text))
    own, loaded = np.asarray(own), np.asarray(loaded)
    if own.shape != loaded.shape or own.dtype.kind not in "biufc":
        return bool(np.array_equal(own, loaded))
    return np.array_equal(own, loaded) or _all_same(own, loaded.astype(own.dtype))


def _all_same(own: Any, loaded: Any) -> bool:
    """Return True for equal numbers, also with NaN among them, which equals nothing."""
    return bool(((own == loaded) | ((own != own) & (loaded != loaded))).all())


def _as_json(value: Any) -> str | None:
    try:
        return plain_json.dumps(value)
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    """Return a tensor as an array, and everything else as it is."""
    if not hasattr(value, "untyped_storage"):
        return value
    value = value.detach().cpu()
    return (value.double() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
