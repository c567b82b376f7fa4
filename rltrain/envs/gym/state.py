"""Save and restore the state of toy-text and classic-control environments as plain data, for exact resumes."""

import contextlib
import hashlib
import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from rltrain.system import plain_json

_MODULES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.", "rltrain.envs.")
_ATTRIBUTES = ("state", "steps_beyond_terminated", "last_u", "s", "lastaction", "fickle_step", "taxi_orientation")
"""All attributes that a step of these environments changes, besides the random generator."""


def can_save(env: gymnasium.Env) -> bool:
    """Return true if all of the state can be saved: an environment of `_MODULES` without wrapper, but not Blackjack.

    Its methods may have been replaced by others, with a state of their own.
    """
    return (
        env is env.unwrapped
        and not any(callable(value) and callable(getattr(type(env), name, None)) for name, value in vars(env).items())
        and all(function.__module__.startswith(_MODULES) for function in _functions(type(env)))
        and type(env).__module__.startswith(_MODULES)
        and type(env).__name__ != "BlackjackEnv"
        and bool({"state", "s"} & vars(env).keys())
    )


def _functions(kind: type) -> Iterator[Any]:
    """Yield the functions of a class and those that it inherits from the classes of `_MODULES`."""
    for each in kind.__mro__:
        if each.__module__.startswith(_MODULES):
            yield from filter(inspect.isfunction, vars(each).values())


def save(env: gymnasium.Env) -> dict[str, Any]:
    """Return the state as arrays and JSON values."""
    state: dict[str, Any] = {"generator": env.np_random.bit_generator.state}
    for name in _ATTRIBUTES:
        if hasattr(env, name):
            value = getattr(env, name)
            # Arrays keep the precision of NumPy numbers.
            state[name] = np.asarray(value) if isinstance(value, np.generic | np.ndarray | tuple | list) else value
    return state | {"game": _game(env)}


def _game(env: gymnasium.Env) -> str:
    """Return a hash of all numbers, texts and tables of an environment that a step does not change."""
    found = hashlib.sha256()
    for name, value in sorted(vars(env).items()):
        if name not in _ATTRIBUTES and not name.startswith("_np_random"):
            with contextlib.suppress(TypeError, ValueError):  # an object, such as a window
                found.update(f"{name}: {plain_json.dumps(value, default=_plain)}\n".encode())
    return found.hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.astype(str).tolist() if value.dtype.kind == "S" else value.tolist()
    raise TypeError


def is_same_game(env: gymnasium.Env, state: dict[str, Any]) -> bool:
    """Return false if the constructor of the saved environment drew something else, such as another random map."""
    return "game" not in state or state["game"] == _game(env)  # older checkpoints do not have it


def restore(env: gymnasium.Env, state: dict[str, Any]) -> None:
    """Restore the state that `save` returned. Raises ValueError for what is not the environment's state."""
    own, state = ({key: value for key, value in each.items() if key != "game"} for each in (save(env), state))
    if state.keys() != own.keys():
        raise ValueError(f"the saved environment has {', '.join(sorted(state))}, not {', '.join(sorted(own))}")
    for name, value in state.items():
        if name == "generator":
            env.np_random.bit_generator.state = value
            continue
        value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
        if not _is_like(value, own[name]) or (name == "s" and value not in range(int(env.observation_space.n))):  # type: ignore[attr-defined]
            raise ValueError(f"the saved environment has the {name} {value!r}")
        setattr(env, name, value)


def _is_like(value: Any, own: Any) -> bool:
    """Return true for a number or None, or for an array where the environment has an array or nothing yet."""
    if isinstance(own, np.ndarray) and own.ndim:
        return isinstance(value, np.ndarray) and value.shape == own.shape and value.dtype.kind in "biuf"
    if isinstance(value, np.ndarray):
        return own is None and value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float | np.number | np.bool_)
