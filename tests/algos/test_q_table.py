"""Tabular runs: lines where they are due, episodes at their own steps, and resumes in mid-episode."""

import csv
import json

import numpy as np
import pytest

from rltrain.run import checkpoint

ALGOS = ("q_learning", "sarsa", "monte_carlo")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algo", ALGOS)
def test_logs_evaluations_and_checkpoints_fall_where_they_are_due(algo, command):
    """Bug: lines only at the end of chunks of 10,000 steps."""
    outcome = command(f"algo={algo}", "env=taxi", "total_steps=2500", "progress=false", "log_every_steps=400",
                      "eval_every_steps=900", "checkpoint_every_steps=1100")  # fmt: skip
    assert outcome.code == 0, outcome.err
    logged = [line["step"] for line in lines(outcome.folder) if "train/q_mean" in line]
    assert logged == [400, 800, 1200, 1600, 2000, 2400, 2500]
    assert [line["step"] for line in lines(outcome.folder) if "eval/mean_reward" in line] == [0, 900, 1800, 2500]
    names = {path.name for path in (outcome.folder / "checkpoints").iterdir()}
    assert {"step_000002200", "step_000002500"} <= names
    exploration = {line["step"]: line["rollout/exploration_rate"] for line in lines(outcome.folder)
                   if "rollout/exploration_rate" in line}  # fmt: skip
    assert exploration[400] > exploration[2000]


def test_episodes_are_written_with_the_step_that_ended_them(command):
    outcome = command("algo=q_learning", "env=taxi", "total_steps=30000", "progress=false")
    rows = list(csv.DictReader((outcome.folder / "episodes.csv").read_text().splitlines()))
    steps, lengths = (np.array([int(row[key]) for row in rows]) for key in ("step", "length"))
    assert len(rows) > 100
    assert np.array_equal(steps, np.cumsum(lengths))


@pytest.mark.parametrize("algo", ALGOS)
def test_a_run_resumed_in_mid_episode_ends_as_if_it_had_never_stopped(algo, command):
    args = [f"algo={algo}", "env=taxi", "total_steps=4000", "progress=false", "checkpoint_every_steps=2150"]
    whole = command(*args).folder
    state = checkpoint.read(checkpoint.find(whole, "2150"))
    assert 0 < state["walk"]["place"]["length_steps"][0] < 200, "the control: the episode is open"
    if algo == "monte_carlo":
        assert state["episode"]["steps"]["reward"].any(), "the control: it has steps to keep"
    metrics, episodes, q = lines(whole), (whole / "episodes.csv").read_text(), checkpoint.load(whole)[1]["agent"]
    outcome = command("resume", whole / "checkpoints" / "step_000002150")
    assert outcome.code == 0, outcome.err
    assert np.array_equal(checkpoint.load(whole)[1]["agent"]["q_table"], q["q_table"])
    assert (whole / "episodes.csv").read_text() == episodes
    kept = ("step", "train/q_mean", "rollout/ep_rew_mean", "rollout/exploration_rate", "eval/mean_reward")
    assert [{key: line.get(key) for key in kept} for line in lines(whole)] == [
        {key: line.get(key) for key in kept} for line in metrics
    ]
