"""The commands that a run prints for copying do what they say."""

import shlex
from pathlib import Path

import pytest

from rltrain.run import panel


@pytest.fixture
def finished(command):
    """The outcome of a short run, with what it said."""
    outcome = command("algo=q_learning", "env=frozen_lake", "total_steps=2000", "run_dir=my runs")
    assert outcome.code == 0, outcome.err
    return outcome


def test_the_end_shows_three_commands_of_which_ours_work_as_they_stand(finished, command):
    lines = finished.err.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("reached ")) + 1
    board, play, resume = (shlex.split(line) for line in lines[begin : begin + 3])
    assert board[:2] == ["tensorboard", "--logdir"]
    assert play[:2] == ["rltrain", "play"] and resume[:2] == ["rltrain", "resume"]
    assert board[2] == play[2] == resume[2]
    assert command(*play[1:]).code == 0
    again = command(*resume[1:])
    assert again.code == 0, again.err
    assert "after 4,000 steps" in again.err
    assert "\nrun: my runs/" in again.err, "another name than the first time"


def test_a_table_says_that_its_score_is_no_mean_of_played_episodes(finished):
    assert " over 1 start, computed exactly (best" in finished.err


def test_a_network_on_states_says_how_many_and_one_environment_is_not_beside_itself(command):
    shown = command("algo=dqn", "env=frozen_lake", "num_envs=1", "dry_run=true").err.splitlines()
    assert {"observation: one of 16 states", "environment: frozen_lake"} <= set(shown)
    shown = command("algo=ppo", "env=frozen_lake", "num_envs=2", "dry_run=true").err.splitlines()
    assert "environment: frozen_lake, 2 in parallel" in shown


@pytest.mark.parametrize("columns", [60, 300])
def test_the_start_names_a_folder_for_tensorboard_that_holds_the_run_and_no_link_to_it(columns, monkeypatch, capsys):
    folder = Path("runs") / "an_environment_with_a_long_name" / "and_an_algorithm_too" / "now-s0"
    monkeypatch.setattr(panel.Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", str(columns))
    panel.show_start(folder, {"algorithm": "ppo"})
    shown = "".join(line.strip("│") for line in capsys.readouterr().err.splitlines()).replace(" ", "")
    assert f"tensorboard--logdir{folder.parent}" in shown
    assert "now-s0" in shown


def test_a_panel_shows_brackets_as_they_are(monkeypatch, capsys):
    """Bug: rich takes a path with `[/x]` for markup, and raises an error."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    panel.show_start(Path("runs/[/x]/[red]"), {"environment": "[/y]\x1b[2J"})
    shown = capsys.readouterr().err
    assert "runs/[/x]/[red]" in shown and "[/y]\\x1b[2J" in shown
