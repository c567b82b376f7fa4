"""Where an environment of gymnasium's toy text and classic control stands, as plain data: for exact resumes."""

from typing import Any

import gymnasium
import numpy as np

_MODULES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.", "rltrain.envs.")
_ATTRIBUTES = ("state", "steps_beyond_terminated", "last_u", "s", "lastaction", "fickle_step", "taxi_orientation")
"""Everything that a step of these environments changes, besides their generator."""


def can_save(env: gymnasium.Env) -> bool:
    """Whether all of the state is known: no wrapper of its own, no physics engine, no hand of cards."""
    return (
        env is env.unwrapped
        and type(env).__module__.startswith(_MODULES)
        and type(env).__name__ != "BlackjackEnv"
        and bool({"state", "s"} & vars(env).keys())
    )


def save(env: gymnasium.Env) -> dict[str, Any]:
    """Arrays and JSON values."""
    state: dict[str, Any] = {"generator": env.np_random.bit_generator.state}
    for name in _ATTRIBUTES:
        if hasattr(env, name):
            value = getattr(env, name)
            # As an array a number keeps its precision, and a tuple of them its order.
            state[name] = np.asarray(value) if isinstance(value, np.generic | np.ndarray | tuple | list) else value
    return state


def restore(env: gymnasium.Env, state: dict[str, Any]) -> None:
    """Take back what `save` gave."""
    for name, value in state.items():
        if name == "generator":
            env.np_random.bit_generator.state = value
        else:
            setattr(env, name, value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value)
