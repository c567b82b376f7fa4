"""The mouse and the cheese, a toy-text environment. Importing this module registers `Maze-v0`.

    mouse         small cheese +1   .
    .             poison -10        big cheese +10

The mouse starts in the upper left cell and moves left, right, up or down. A move into a wall leaves it in its cell. The
poison and the big cheese terminate the episode; after five steps it is truncated. The small cheese can be eaten once.
(Otherwise it would pay more to step back and forth than to eat the big cheese.)
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

CELLS = ("start", "small cheese", "top right", "bottom left", "poison", "big cheese")
"""The names of the cells, row by row."""
NUM_ROWS, NUM_COLUMNS = 2, 3
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""The change of row and column of each action: left, right, up, down."""
SMALL_CHEESE, POISON, BIG_CHEESE = 1, 4, 5
REWARD = {POISON: -10.0, BIG_CHEESE: 10.0}
COLOURS = {SMALL_CHEESE: (250, 220, 90), POISON: (110, 40, 120), BIG_CHEESE: (240, 170, 20)}
CELL_PIXELS = 64


class MazeEnv(gymnasium.Env):
    """The maze. States 0 to 5 are the cells, row by row; states 6 to 11 are these cells with the small cheese eaten."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (gymnasium expects this form)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(2 * len(CELLS))
        self.action_space = spaces.Discrete(len(MOVES))
        self.initial_state_distrib = np.eye(2 * len(CELLS))[0]
        self.P = {
            state: {action: [_outcome(state, move)] for action, move in enumerate(MOVES)}
            for state in range(2 * len(CELLS))
        }
        """P[state][action] lists (probability, next state, reward, terminated), as in gymnasium's toy-text."""
        self.s = 0  # the state; named as in gymnasium's toy-text, so that checkpoints save it

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Put the mouse and the small cheese back."""
        super().reset(seed=seed)
        self.s = 0
        return self.s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move the mouse."""
        _, self.s, reward, terminated = self.P[self.s][int(action)][0]
        return self.s, reward, terminated, False, {}

    def render(self) -> np.ndarray:
        """Return a picture of the maze from above, [128, 192, 3] uint8."""
        picture = np.full((NUM_ROWS * CELL_PIXELS, NUM_COLUMNS * CELL_PIXELS, 3), 235, np.uint8)
        eaten, mouse = divmod(self.s, len(CELLS))
        for cell, colour in COLOURS.items():
            if not (cell == SMALL_CHEESE and eaten):
                _square(picture, cell, margin=12)[:] = colour
        _square(picture, mouse, margin=22)[:] = 90
        return picture


def _outcome(state: int, move: tuple[int, int]) -> tuple[float, int, float, bool]:
    eaten, cell = divmod(state, len(CELLS))
    if cell in REWARD:
        return 1.0, state, 0.0, True
    row, column = divmod(cell, NUM_COLUMNS)
    row = min(max(row + move[0], 0), NUM_ROWS - 1)
    column = min(max(column + move[1], 0), NUM_COLUMNS - 1)
    entered = row * NUM_COLUMNS + column
    eats = entered == SMALL_CHEESE and not eaten
    next_state = entered + len(CELLS) * (eaten or eats)
    return 1.0, next_state, REWARD.get(entered, float(eats)), entered in REWARD


def _square(picture: np.ndarray, cell: int, margin: int) -> np.ndarray:
    """Return the inner part of a cell of the picture, as a view."""
    row, column = divmod(cell, NUM_COLUMNS)
    top, left = row * CELL_PIXELS, column * CELL_PIXELS
    return picture[top + margin : top + CELL_PIXELS - margin, left + margin : left + CELL_PIXELS - margin]


gymnasium.register("Maze-v0", "rltrain.envs.maze:MazeEnv", max_episode_steps=5)
