"""Learning curves from run folders, against folders written by hand."""

import os

import numpy as np
import pytest
from run_folders import write_run

from rltrain.errors import CheckpointError, ConfigError
from rltrain.math.statistics import mean
from rltrain.run.curves import Curve, band, group, read_curves


def curve(points, **config):
    config = {"env": "cartpole", "algo": "dqn", "seed": 0, **config}
    return Curve(None, config, np.array(list(points), np.int64), np.array(list(points.values()), float))


def summed(*curves):
    return band("cartpole", "dqn", list(curves), mean, np.random.default_rng(0))


def test_a_folder_of_runs_gives_each_run_once_whatever_links_point_to_it(tmp_path):
    newest = write_run(tmp_path / "cartpole" / "dqn" / "b", {10: 2.0})
    write_run(tmp_path / "cartpole" / "dqn" / "a", {10: 1.0})
    (tmp_path / "latest").symlink_to(newest)
    assert [curve.value.tolist() for curve in read_curves([str(tmp_path)], "eval/mean_reward")] == [[1], [2]]
    twice = [str(tmp_path), str(newest), str(tmp_path / "latest")]
    assert len(read_curves(twice, "eval/mean_reward")) == 2


def test_lines_of_other_metrics_and_a_line_cut_by_a_kill_are_passed_over(tmp_path):
    folder = write_run(tmp_path / "a", {10: 1.0, 30: 3.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 35, "train/loss": 9.0}\n{"step": 20, "eval/mean_reward": 2.0}\n{"step": 40, "eval/me')
    (read,) = read_curves([str(folder)], "eval/mean_reward")
    assert read.step.tolist() == [10, 20, 30]
    assert read.value.tolist() == [1, 2, 3]


def test_true_is_no_number(tmp_path):
    """Bug: Python takes true for 1, so a damaged line became a point of the curve."""
    folder = write_run(tmp_path / "a", {10: 1.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": true, "eval/mean_reward": 9.0}\n{"step": 20, "eval/mean_reward": true}\n')
    (read,) = read_curves([str(folder)], "eval/mean_reward")
    assert (read.step.tolist(), read.value.tolist()) == ([10], [1])


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_a_file_among_the_runs_does_not_hide_them(kind, command, tmp_path):
    """Bug: a folder of runs with anything called config.yaml in it was one run, and those below were not seen."""
    write_run(tmp_path / "runs" / "below" / "a", {10: 1.0})
    place = tmp_path / "runs" / "config.yaml"
    os.mkfifo(place) if kind == "pipe" else place.write_text("algo: ppo\n")
    assert len(read_curves([str(tmp_path / "runs")], "eval/mean_reward")) == 1
    listed = command("runs")
    assert listed.code == 0 and "below/a" in listed.out


def test_runs_are_grouped_by_keys_of_their_configuration_and_never_across_environments(tmp_path):
    write_run(tmp_path / "a", {1: 0.0}, n_step=10)
    write_run(tmp_path / "b", {1: 0.0}, n_step=3, seed=1)
    write_run(tmp_path / "c", {1: 0.0}, algo="ppo", env="pong")
    curves = read_curves([str(tmp_path)], "eval/mean_reward")
    assert list(group(curves, "algo")) == [("cartpole", "dqn"), ("pong", "ppo")]
    assert list(group(curves, "algo.n_step")) == [
        ("cartpole", "algo.n_step=3"),
        ("cartpole", "algo.n_step=10"),
        ("pong", "algo.n_step=None"),
    ]
    assert list(group(curves, "algo,seed")) == [
        ("cartpole", "dqn, seed=0"),
        ("cartpole", "dqn, seed=1"),
        ("pong", "ppo, seed=0"),
    ]
    with pytest.raises(ConfigError, match=r"'algo\.n_stp'; by; did you mean 'algo\.n_step'"):
        group(curves, "algo.n_stp")


def test_runs_that_logged_at_other_steps_are_read_off_between_their_points():
    result = summed(curve({0: 0, 10: 10}), curve({0: 0, 5: 0, 10: 30}, seed=1))
    assert result.step.tolist() == [0, 5, 10]
    assert result.center.tolist() == [0, 2.5, 20]  # (5 + 0) / 2 and (10 + 30) / 2
    assert (result.low[2], result.high[2]) == (10, 30)
    assert (result.num_runs, result.seeds) == (2, 2)


def test_a_run_counts_only_where_it_was():
    result = summed(curve({10: 1, 20: 1}), curve({10: 3}, seed=1), curve({20: 7, 30: 7}, seed=2))
    assert result.step.tolist() == [10, 20, 30]
    assert result.center.tolist() == [2, 4, 7]
    assert result.runs.tolist() == [2, 2, 1]
    assert (result.low[2], result.high[2]) == (7, 7)


def test_seeds_are_told_from_runs():
    assert summed(curve({1: 1}), curve({1: 2})).seeds == 1


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such run; nowhere"):
        read_curves(["nowhere"], "eval/mean_reward")
    with pytest.raises(CheckpointError, match="no runs in this folder"):
        read_curves([str(tmp_path)], "eval/mean_reward")
    write_run(tmp_path / "a", {})
    with pytest.raises(CheckpointError, match="no run here has metrics yet"):
        read_curves([str(tmp_path)], "eval/mean_reward")
    write_run(tmp_path / "b", {1: 1.0})
    with pytest.raises(ConfigError, match="'eval/reward'; metric; did you mean 'eval/mean_reward'"):
        read_curves([str(tmp_path)], "eval/reward")
