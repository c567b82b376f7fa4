"""Names and pictures, checked against the environments: what an arrow says must be what the action does."""

import gymnasium
import numpy as np
import pytest

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import make_env
from rltrain.envs.gym.viewer import action_names as captions
from rltrain.envs.tabular.table import optimal_q, transition_table
from rltrain.envs.tabular.toy_text import action_names, policy_picture, state_names

LAKE = GymConfig("x", id="FrozenLake-v1", kwargs={"map_name": "4x4", "is_slippery": False})
CLIFF = GymConfig("x", id="CliffWalking-v1")
TAXI = GymConfig("x", id="Taxi-v4")
MAZE = GymConfig("x", id="rltrain.envs.maze:Maze-v0")
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0), "west": (0, -1), "east": (0, 1),
         "north": (-1, 0), "south": (1, 0)}  # fmt: skip


@pytest.mark.parametrize(("config", "shape"), [(LAKE, (4, 4)), (CLIFF, (4, 12)), (MAZE, (2, 3))])
def test_moves_go_where_their_names_say(config, shape):
    table, names = transition_table(config), action_names(config, 4)
    size, agreed = shape[0] * shape[1], 0
    for state in range(size):
        row, column = divmod(state, shape[1])
        for action, name in enumerate(names):
            to = row + MOVES[name][0], column + MOVES[name][1]
            inside = 0 <= to[0] < shape[0] and 0 <= to[1] < shape[1]
            if inside and table.next_state[state, action, 0] % size == to[0] * shape[1] + to[1]:
                agreed += 1
    inner = 2 * (shape[0] * (shape[1] - 1) + shape[1] * (shape[0] - 1))
    assert agreed > 0.5 * inner, "only holes, the cliff and ends may lead elsewhere"


def test_taxis_actions_do_what_their_names_say():
    env, table, names = make_env(TAXI).unwrapped, transition_table(TAXI), action_names(TAXI, 6)
    state = env.encode(2, 2, 0, 1)  # the middle, where no wall stands
    for name, (rows, columns) in list(MOVES.items())[4:]:
        row, column, *_ = env.decode(table.next_state[state, names.index(name), 0])
        assert (row, column) == (2 + rows, 2 + columns)
    at_r = env.encode(0, 0, 0, 1)
    assert list(env.decode(table.next_state[at_r, names.index("pickup"), 0]))[2] == 4
    at_goal = env.encode(0, 4, 4, 1)
    assert table.reward[at_goal, names.index("dropoff"), 0] == 20


def test_the_lakes_picture_shows_the_way_around_the_holes():
    picture = policy_picture(LAKE, optimal_q(transition_table(LAKE), 0.99).argmax(axis=1))
    assert picture == "↓ → ↓ ←\n↓ H ↓ H\n→ ↓ ↓ H\nH → → G\nH hole, G goal"


def test_the_cliffs_picture_runs_along_the_edge():
    rows = policy_picture(CLIFF, optimal_q(transition_table(CLIFF), 0.999).argmax(axis=1)).split("\n")
    assert rows[2] == "→ → → → → → → → → → → ↓"
    assert rows[3] == "↑ C C C C C C C C C C G"


def test_the_mazes_picture_shows_both_halves():
    lines = policy_picture(MAZE, optimal_q(transition_table(MAZE), 0.99).argmax(axis=1)).split("\n")
    assert lines[1].split() == ["→", "c", "→", "→", "↓"]
    assert lines[2].split() == ["↑", "X", "G", "↑", "X", "G"]


def test_taxis_picture_keeps_the_walls_and_ends_at_pickup_and_dropoff():
    lines = policy_picture(TAXI, optimal_q(transition_table(TAXI), 0.99).argmax(axis=1)).split("\n")
    desc = ["".join(row) for row in make_env(TAXI).unwrapped.desc.astype(str)]
    for line, walls in zip(lines[1:8], desc, strict=True):
        for half in (line[:11], line[-11:]):
            assert [half[at] for at in range(0, 11, 2)] == [walls[at] for at in range(0, 11, 2)]
    assert lines[2][1] == "P"
    assert lines[6][-4] == "D"
    assert "".join(lines[1:8]).count("P") == "".join(lines[1:8]).count("D") == 1


def test_an_unknown_environment_has_numbers_and_no_picture():
    config = GymConfig("x", id="CartPole-v1")
    assert action_names(config, 2) == ("action_0", "action_1")
    assert state_names(config, 2) == ["0", "1"]
    assert policy_picture(config, np.zeros(2, int)) == ""


class FrozenLakeEnv(gymnasium.Env):
    """Somebody's own lake, whose actions are up, down, left and right."""

    observation_space, action_space = gymnasium.spaces.Discrete(16), gymnasium.spaces.Discrete(4)


class Turned(gymnasium.Wrapper):
    """Turns the actions around."""


def turned(kind):
    lake = gymnasium.make("FrozenLake-v1")
    return gymnasium.wrappers.TransformAction(lake, lambda action: 3 - action, None) if kind == "theirs" else kind(lake)


@pytest.mark.parametrize("entry", [FrozenLakeEnv, lambda: turned("theirs"), lambda: turned(Turned)])
def test_what_only_looks_like_a_known_environment_has_numbers_and_no_picture(entry, monkeypatch):
    """Bugs: "left" for an action that goes up, in pictures, CSV, captions and exports; a maze of one's own ended the
    training with an IndexError, after its last step."""
    monkeypatch.setitem(gymnasium.registry, "Own-v0", gymnasium.envs.registration.EnvSpec("Own-v0", entry))
    config = GymConfig("x", id="Own-v0")
    assert action_names(config, 4) == ("action_0", "action_1", "action_2", "action_3") and captions(config) == ()
    assert state_names(config, 2) == ["0", "1"] and policy_picture(config, np.zeros(16, int)) == ""
    assert captions(LAKE) == ("left", "down", "right", "up"), "the control"
