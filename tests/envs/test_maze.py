"""The mouse and the cheese: the layout, by walking through it."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rltrain.config.environments import GymConfig
from rltrain.envs.maze import CELLS, MazeEnv
from rltrain.envs.tabular.table import evaluate_policy, optimal_q, transition_table

LEFT, RIGHT, UP, DOWN = range(4)
EATEN = 6


def walk(*actions):
    """(state, reward, terminated) after each action."""
    env = MazeEnv()
    assert env.reset()[0] == 0
    return [env.step(action)[:3] for action in actions]


def test_the_best_way_eats_both_cheeses():
    assert walk(RIGHT, RIGHT, DOWN) == [(EATEN + 1, 1, False), (EATEN + 2, 0, False), (EATEN + 5, 10, True)]
    table = transition_table(GymConfig("x", id="rltrain.envs.maze:Maze-v0"))
    q = optimal_q(table, 0.99)
    assert q[0].max() == pytest.approx(1 + 0.99**2 * 10)
    assert evaluate_policy(table, q.argmax(axis=1)) == (11, 0)


def test_the_poison_ends_it_below_the_small_cheese_and_beside_the_cell_below_the_start():
    assert walk(RIGHT, DOWN) == [(EATEN + 1, 1, False), (EATEN + 4, -10, True)]
    assert walk(DOWN, RIGHT) == [(3, 0, False), (4, -10, True)]


def test_the_small_cheese_is_eaten_once_and_walls_hold():
    assert [reward for _, reward, _ in walk(RIGHT, LEFT, RIGHT)] == [1, 0, 0]
    assert walk(LEFT, UP, DOWN, DOWN) == [(0, 0, False), (0, 0, False), (3, 0, False), (3, 0, False)]
    assert walk(RIGHT, UP, RIGHT, RIGHT)[-1] == (EATEN + 2, 0, False)


def test_five_steps_cut_the_episode():
    env = gymnasium.make("rltrain.envs.maze:Maze-v0")
    env.reset()
    assert [env.step(LEFT)[2:4] for _ in range(5)] == [(False, False)] * 4 + [(False, True)]


def test_gymnasium_finds_nothing_to_blame_and_the_picture_changes(recwarn):
    env = gymnasium.make("rltrain.envs.maze:Maze-v0", render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset()
    before = env.render()
    env.step(RIGHT)
    after = env.render()
    assert before.shape == (128, 192, 3) and before.dtype == np.uint8
    assert (before != after).any(axis=-1)[:64, :128].any()
    assert not (before != after)[64:].any()


def test_the_table_names_every_state_and_action():
    env = MazeEnv()
    assert env.observation_space.n == len(env.P) == 2 * len(CELLS)
    assert all(len(env.P[state]) == 4 for state in env.P)
