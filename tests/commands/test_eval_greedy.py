"""`eval` and `play` choose actions as the run's own evaluations do, unless they are told otherwise."""

import json

import pytest
from small_runs import small

from rltrain.commands import play


@pytest.fixture(params=[True, False])
def run(request, command):
    """A run and its `eval_greedy`."""
    args = [*small("ppo", "cartpole"), "total_steps=64", f"eval_greedy={str(request.param).lower()}"]
    outcome = command(*args)
    assert outcome.code == 0, outcome.err
    return outcome.folder, request.param


def test_eval_takes_the_runs_own_setting(run, command):
    """Bug: a run that is tuned to sample (14 settings are) evaluated by its likeliest actions."""
    folder, greedy = run

    def evaluated(*args):
        return json.loads(command("eval", folder, "episodes=4", *args).out.splitlines()[-1])

    by_itself, same, other = evaluated(), *(evaluated(f"greedy={value}") for value in (greedy, not greedy))
    assert by_itself["greedy"] is greedy and by_itself == same
    assert other["greedy"] is not greedy and other["returns"] != same["returns"]


def test_play_takes_the_runs_own_setting(run, command, monkeypatch):
    folder, greedy = run
    chosen = []
    monkeypatch.setattr(play, "watch", lambda *args: chosen.append(args[4]) or ([], True))
    for args in ([], ["greedy=true"], ["greedy=false"]):
        assert command("play", folder, "video=true", *args).code == 0
    assert chosen == [greedy, True, False]


@pytest.mark.parametrize("name", ["eval", "play"])
def test_the_usage_says_so(name, command):
    assert "greedy=true|false, default: the run's eval_greedy" in command(name, "--help").out
