"""The commands that a run prints for copying do what they say."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from small_runs import QUICK, TABLE, small

from rltrain.config.algorithms import A2CConfig, QLearningConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig
from rltrain.run import agent_panel, panel
from rltrain.system import terminal


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


def test_a_run_without_progress_tells_its_score_and_its_folder_once(command):
    """Bug: a run with progress=false, and what `reproduce` made of it, printed nothing at all."""
    trained = command(*TABLE)
    reproduced = command("reproduce", "last", "seed=3")
    resumed = command("resume", trained.folder, "total_steps=500", "progress=false")
    for outcome in (trained, reproduced, resumed):
        assert outcome.code == 0, outcome.err
        *_, score, folder = outcome.err.splitlines()
        assert score.startswith("reached ") and Path(folder).is_dir()
        assert outcome.err.count("reached ") == 1 and outcome.err.count("runs/") == 1, outcome.err


def test_a_sweep_without_progress_tells_the_scores_in_its_table_only(command):
    outcome = command("-m", *TABLE, "seed=0,1")
    assert "reached " not in outcome.err and "2 of 2 jobs done" in outcome.err
    sweep = next((outcome.run_dir / "sweeps").iterdir())
    (sweep / "00_seed-0" / "result.json").unlink()
    resumed = command("resume", sweep)
    assert "resumed at step 400" in resumed.err
    assert "reached " not in resumed.err and "2 of 2 jobs done" in resumed.err


def test_an_evaluation_of_one_episode_is_not_over_1_episodes(finished, command):
    assert "over 1 episode with step_000002000; saved to" in command("eval", "my runs/latest", "episodes=1").err


def test_a_table_says_that_its_score_is_no_mean_of_played_episodes(finished):
    assert " over 1 start, computed exactly (best" in finished.err


def test_a_network_on_states_says_how_many_and_one_environment_is_not_beside_itself(command):
    shown = command("algo=dqn", "env=frozen_lake", "num_envs=1", "dry_run=true").err.splitlines()
    assert {"observation: one of 16 states", "environment: frozen_lake"} <= set(shown)
    shown = command("algo=ppo", "env=frozen_lake", "num_envs=2", "dry_run=true").err.splitlines()
    assert "environment: frozen_lake, 2 in parallel" in shown


def test_an_agent_of_a_plugin_has_any_network_or_none():
    """Bug: the panel asked for rltrain's own torso, and the algorithm was said to be at fault."""
    spaces = Box(-1, 1, (4,), np.float32), Discrete(2)
    config = RunConfig(algo=A2CConfig(), env=GymConfig("x", id="CartPole-v1"), device="cpu")
    for network, words in ((torch.nn.Linear(4, 2), "Linear, 10 parameters"), (None, "the agent's own")):
        shown = agent_panel.facts(config, *spaces, SimpleNamespace(network=network), replay_bytes=10**9)
        assert (shown["network"], shown["observation"], shown["replay"]) == (words, "(4,) float32", "1.00 GB when full")
    table = RunConfig(algo=QLearningConfig(), env=GymConfig("x", id="FrozenLake-v1"))
    assert "network" not in panel.table_facts(table, SimpleNamespace())


def facts(outcome):
    """The facts of the panel by name."""
    return dict(line.split(": ", 1) for line in outcome.err.splitlines() if ": " in line)


def test_the_panel_says_where_the_settings_come_from_and_what_auto_chose(command):
    """Bug: nobody can tell tuned settings from defaults, or what was typed, or that auto chose another network."""
    shown = facts(command("algo=ppo", "env=cartpole", "seed=3", "total_steps=512", "run_dir=my runs", "device=cpu"))
    assert shown["settings"] == "tuned by hparams/ppo_cartpole.yaml"
    assert shown["typed"] == "algo=ppo env=cartpole seed=3 total_steps=512 'run_dir=my runs' device=cpu"
    assert shown["steps"] == "512; evaluated at the end, saved every 102"
    assert shown["auto"].split() in (["network=mlp", "precision=fp32"], ["network=mlp", "precision=bf16"])
    assert shown["time"].startswith("not known yet")
    untuned = [*small("ppo", "mountain_car"), "total_steps=64", "network=mlp", "precision=fp32", "eval_every_steps=0"]
    shown = facts(command(*untuned, "progress=true"))
    assert shown["settings"] == "the defaults of ppo, not tuned for mountain_car"
    assert shown["steps"] == "64; evaluated at the end, saved every 12"
    assert "auto" not in shown


def test_two_files_of_tuned_settings_and_a_file_of_ones_own_are_named(command, tmp_path):
    folder = tmp_path / "mine"
    for name, text in {
        "algo/own.yaml": "defaults: [q_learning_schema, _self_]\nlike: q_learning\nname: q_learning\n",
        "hparams/own_maze.yaml": "# @package _global_\ntotal_steps: 77\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    outcome = command("--config-dir", folder, "algo=own", "env=maze", "eval_every_steps=0")
    assert outcome.code == 0, outcome.err
    assert facts(outcome)["settings"] == f"tuned by hparams/q_learning_maze.yaml, {folder}/hparams/own_maze.yaml"
    assert facts(outcome)["steps"].startswith("77;")


def test_a_time_is_estimated_from_a_run_with_the_same_settings_or_from_the_run_itself(command):
    """Bug: an estimate from another environment, another network, or a machine that is not this one."""
    args = [*TABLE, *QUICK, "progress=true", "total_steps=1000"]
    assert facts(command(*args))["time"].startswith("not known yet")
    first = (Path("runs") / "latest").resolve()
    result = json.loads((first / "result.json").read_text())
    (first / "result.json").write_text(json.dumps(result | {"train_time_s": 10.0, "wall_time_s": 16.0}))
    assert facts(command(*args))["time"] == f"about 16 s, as {first.name} took"
    (Path("runs") / "latest").resolve().joinpath("result.json").unlink()
    half = command(*args, "total_steps=500", "seed=7")
    second = half.folder
    assert facts(half)["time"] in (f"about {seconds} s, as {first.name} took" for seconds in (10, 11)), (
        "half of the steps"
    )
    assert facts(command(*args, "algo.gamma=0.5"))["time"].startswith("not known yet")
    for other in ({"host": "another"}, {"host": None}):
        meta = json.loads((first / "meta.json").read_text())
        (first / "meta.json").write_text(json.dumps(meta | other))
    second.joinpath("result.json").write_text("[]")
    assert facts(command(*args))["time"].startswith("not known yet")
    resumed = command("resume", first, "total_steps=2000")
    assert facts(resumed)["time"].startswith("about ") and "at the speed so far" in facts(resumed)["time"]
    assert facts(resumed)["typed"] == f"resume {first} total_steps=2000"


@pytest.mark.parametrize("columns", [80, 60])
def test_no_word_of_the_panel_is_cut_and_no_value_is_taken_for_markup(columns, monkeypatch, capsys):
    """Bugs: 80 columns cut a word in two; [red] of a command line is a colour; colour with NO_COLOR."""
    monkeypatch.setattr(terminal, "is_drawable", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    typed = "algo=ppo env=doom 'env.actions=[[red],[MOVE_RIGHT,ATTACK],[bold]]' total_steps=1000000 x=:smile:"
    panel.show_start(Path("/somewhere/far/away/runs") / ("doom_deadly_corridor" * 3) / "now-s0", {"typed": typed})
    shown = capsys.readouterr().err
    assert "\033" not in shown
    lines = shown.splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= columns
    words = " ".join(line.strip("│ ") for line in lines).split()
    for word in typed.split():
        assert word in words or len(word) > columns - 20, word
    assert "/somewhere/far/away/runs/" in words, "a long path is broken after a slash"


@pytest.mark.parametrize("columns", [60, 300])
def test_the_start_names_a_folder_for_tensorboard_that_holds_the_run_and_no_link_to_it(columns, monkeypatch, capsys):
    folder = Path("runs") / "an_environment_with_a_long_name" / "and_an_algorithm_too" / "now-s0"
    monkeypatch.setattr(terminal, "is_drawable", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
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
