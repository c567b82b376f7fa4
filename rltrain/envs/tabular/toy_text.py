"""Names of the states and actions of toy-text environments, and pictures of policies on their grids."""

from typing import Any

import gymnasium
import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.conversion import Conversion
from rltrain.envs.gym.guard import layers
from rltrain.envs.gym.make import opened

ACTION_NAMES = {
    "TaxiEnv": ("south", "north", "east", "west", "pickup", "dropoff"),
    "FrozenLakeEnv": ("left", "down", "right", "up"),
    "CliffWalkingEnv": ("up", "right", "down", "left"),
    "MazeEnv": ("left", "right", "up", "down"),
}
"""The names of the actions in order, by the class of the environment (`known_class`)."""

SYMBOLS = {
    **{"left": "←", "right": "→", "up": "↑", "down": "↓"},
    **{"west": "←", "east": "→", "north": "↑", "south": "↓"},
    **{"pickup": "P", "dropoff": "D"},
}

TAXI_START, TAXI_GOAL, IN_TAXI = 0, 3, 4
"""The passenger and the destination in the picture of Taxi: from R to B."""


def known_class(env: gymnasium.Env) -> str:
    """Return the name of an environment's class if it is Gymnasium's or rltrain's own, else an empty text.

    A class of somebody else's may have the same name, and a wrapper may change what an action does.
    """
    are_own = all(
        type(layer).__module__.startswith(("gymnasium.", "rltrain.")) and not isinstance(layer, gymnasium.ActionWrapper)
        for layer in layers(env)
    )
    return type(env.unwrapped).__name__ if are_own else ""


def action_names(config: GymConfig, num_actions: int) -> tuple[str, ...]:
    """Return the names of the actions if they are known, else action_0, action_1, ... as the environment counts."""
    kind, (_, first) = _look(config)
    return ACTION_NAMES.get(kind, tuple(f"action_{first + action}" for action in range(num_actions)))


def state_names(config: GymConfig, num_states: int) -> list[str]:
    """Return the names of the states if they are known, else their numbers as the environment counts them."""
    kind, (first, _) = _look(config)
    if kind == "MazeEnv":
        from rltrain.envs.maze import CELLS

        return [*CELLS, *(f"{cell}, cheese eaten" for cell in CELLS)]
    return [str(first + state) for state in range(num_states)]


def state_numbers(config: GymConfig, num_states: int) -> range:
    """Return the numbers of the states as the environment counts them."""
    _, (first, _) = _look(config)
    return range(first, first + num_states)


def policy_picture(config: GymConfig, policy: np.ndarray) -> str:
    """Return the actions of a policy, [S] int, drawn on the environment's grid. Empty if the grid is not known."""
    with opened(config) as env:
        base: Any = env.unwrapped
        kind = known_class(env)
        if kind not in ACTION_NAMES:
            return ""
        arrows = np.array([SYMBOLS[name] for name in ACTION_NAMES[kind]])[policy]
        return {"TaxiEnv": _taxi, "FrozenLakeEnv": _lake, "CliffWalkingEnv": _cliff, "MazeEnv": _maze}[kind](
            base, arrows
        )


def _look(config: GymConfig) -> tuple[str, tuple[int, Any]]:
    """Return `known_class` and `Conversion.counted_from` of the environment."""
    with opened(config) as env:
        return known_class(env), Conversion(env, config).counted_from


def _lake(base: Any, arrows: np.ndarray) -> str:
    tiles = base.desc.astype(str)
    return _grid(np.where(np.isin(tiles, ("H", "G")), tiles, arrows.reshape(tiles.shape))) + "\nH hole, G goal"


def _cliff(base: Any, arrows: np.ndarray) -> str:
    cells = np.where(base._cliff, "C", arrows.reshape(base.shape))
    cells[-1, -1] = "G"
    return _grid(cells) + "\nC cliff, G goal"


def _maze(base: Any, arrows: np.ndarray) -> str:
    there, eaten = arrows.reshape(2, 2, 3)
    for cells in (there, eaten):
        cells[1, 1:] = "X", "G"
    # The mouse cannot be on or behind the small cheese without having eaten it.
    there[0, 1], there[0, 2] = "c", " "
    return _beside("cheese there", _grid(there), "cheese eaten", _grid(eaten)) + (
        "\nc small cheese, X poison, G big cheese"
    )


def _taxi(base: Any, arrows: np.ndarray) -> str:
    empty, taken = (_taxi_map(base, arrows, passenger) for passenger in (TAXI_START, IN_TAXI))
    picture = _beside("passenger at R", empty, "passenger for B", taken)
    return f"{picture}\nP pick up, D drop off; the top left is R, the bottom right but one is B"


def _taxi_map(base: Any, arrows: np.ndarray, passenger: int) -> str:
    """Return Taxi's own map with its walls, with the action in each cell."""
    cells = base.desc.astype(str)
    for row in range(5):
        for column in range(5):
            cells[row + 1, 2 * column + 1] = arrows[base.encode(row, column, passenger, TAXI_GOAL)]
    return "\n".join("".join(row) for row in cells)


def _grid(cells: np.ndarray) -> str:
    return "\n".join(" ".join(row) for row in cells)


def _beside(left_title: str, left: str, right_title: str, right: str) -> str:
    """Return two blocks of lines side by side, each with a title."""
    lefts, rights = [left_title, *left.split("\n")], [right_title, *right.split("\n")]
    width = max(map(len, lefts)) + 4
    return "\n".join(f"{one:<{width}}{other}" for one, other in zip(lefts, rights, strict=True))
