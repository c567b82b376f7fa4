"""Buttons and rewards of console games, on made-up pads and game variables."""

import numpy as np
import pytest

from rltrain.envs.retro.rules import Judge, make_pad
from rltrain.errors import ConfigError

NAMES = ["B", None, "UP", "DOWN", "LEFT", "RIGHT"]
GROUPS = [[[], ["UP"], ["DOWN"]], [[], ["LEFT"], ["RIGHT"]], [[], ["B"]]]


def pressed(pad, *action):
    return [NAMES[i] for i in np.flatnonzero(pad.buttons(action))]


def test_combinations_press_what_they_name():
    """Bugs: buttons in the order of the list instead of the pad's; a no-op that presses something."""
    pad = make_pad(NAMES, GROUPS, ["NOOP", "LEFT+B", "DOWN", "RIGHT+DOWN"], "combinations")
    assert pad.num_choices == [4]
    assert [pressed(pad, i) for i in range(4)] == [[], ["B", "LEFT"], ["DOWN"], ["DOWN", "RIGHT"]]


def test_without_a_list_every_combination_is_there_once_and_no_opposites():
    pad = make_pad(NAMES, GROUPS, [], "combinations")
    assert pad.num_choices == [18]
    combinations = {tuple(pressed(pad, i)) for i in range(18)}
    assert len(combinations) == 18 and () in combinations
    assert not any({"LEFT", "RIGHT"} <= set(c) or {"UP", "DOWN"} <= set(c) for c in combinations)


def test_buttons_are_several_choices_that_add_up():
    """Bug: the last choice replacing the ones before."""
    pad = make_pad(NAMES, GROUPS, [], "buttons")
    assert pad.num_choices == [3, 3, 2]
    assert pressed(pad, 0, 0, 0) == []
    assert pressed(pad, 1, 2, 1) == ["B", "UP", "RIGHT"]


def test_a_button_that_the_pad_does_not_have_is_named():
    with pytest.raises(ConfigError, match=r"JUMP.*env\.actions"):
        make_pad(NAMES, GROUPS, ["JUMP"], "combinations")
    with pytest.raises(ConfigError, match="LEFT"):
        make_pad(NAMES, GROUPS, ["B+LEFFT"], "combinations")
    with pytest.raises(ConfigError, match="write NOOP alone"):  # bug: "did you mean 'NOOP'?"
        make_pad(NAMES, GROUPS, ["B+NOOP"], "combinations")


def play(judge, steps, **start):
    """Rewards and ends of (scenario reward, scenario over, variables) in turn."""
    judge.begin(start)
    return [judge.judge(reward, over, variables) for reward, over, variables in steps]


def test_the_scenario_alone_is_passed_on():
    judge = Judge(None, False, False)
    assert play(judge, [(20.0, False, {}), (-3.0, False, {}), (0.0, True, {})]) == [(20, False), (-3, False), (0, True)]


def test_going_back_costs_nothing_and_coming_back_pays_nothing():
    """Bugs: a reward for the same ground twice; a best that is forgotten, or kept for the next episode."""
    judge = Judge(None, True, False)
    steps = [(100.0, False, {}), (-60.0, False, {}), (40.0, False, {}), (50.0, False, {}), (-500.0, False, {})]
    assert [reward for reward, _ in play(judge, steps)] == [100, 0, 0, 30, 0]
    # The sum is the furthest that the plain rewards ever added up to.
    assert sum(reward for reward, _ in play(judge, steps)) == max(np.cumsum([reward for reward, _, _ in steps]))
    # A bonus for the end of the level comes on top.
    assert play(judge, [(9000.0 + 800.0, True, {})]) == [(9800, True)]


def test_a_game_variable_may_be_the_reward():
    """Bugs: its value paid instead of its increase; the place where the level begins paid as progress."""
    judge = Judge("x", True, False)
    steps = [(7.0, False, {"x": x}) for x in (5010, 5004, 5030, 5030)]
    assert [reward for reward, _ in play(judge, steps, x=5000)] == [10, 0, 20, 0]
    judge = Judge("x", False, False)
    assert [reward for reward, _ in play(judge, steps, x=5000)] == [10, -6, 26, 0]


def test_a_lost_life_ends_the_episode_only_where_it_was_asked_for():
    """Bugs: a life that was won taken for a lost one; lives counted from the episode before."""
    steps = [(0.0, False, {"lives": lives}) for lives in (3, 4, 4, 3)]
    assert [over for _, over in play(Judge(None, False, True), steps, lives=3)] == [False, False, False, True]
    assert [over for _, over in play(Judge(None, False, False), steps, lives=3)] == [False] * 4
    judge = Judge(None, False, True)
    play(judge, steps, lives=3)
    assert play(judge, [(0.0, False, {"lives": 2})], lives=2) == [(0, False)]
