"""What a tabular run shows and leaves behind for the eye."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from rltrain.algos.parts import table_view
from rltrain.config.environments import GymConfig
from rltrain.errors import DiskError
from rltrain.run import checkpoint


def test_the_worked_example_can_be_followed_on_the_terminal(command):
    outcome = command("algo=q_learning", "env=maze")
    assert outcome.code == 0, outcome.err
    first, second = outcome.err.split("step 1: ")[1].split("step 2: ")
    assert first.startswith("right in start\n")
    (row,) = [line for line in first.split("\n") if line.startswith("start ")]
    assert row.split() == ["start", "0.0000", "0.1000", "0.0000", "0.0000"]  # left, right, up, down
    second = second.split("step 3: ")[0]
    assert second.startswith("down in small cheese, cheese eaten\n")
    (row,) = [line for line in second.split("\n") if line.startswith("small cheese, cheese eaten ")]
    assert row.split()[-4:] == ["0.0000", "0.0000", "0.0000", "-1.0000"]
    assert outcome.err.count("\nstep ") == 6
    assert "cheese there    cheese eaten\n→ c             → → ↓\n" in outcome.err
    assert outcome.json("result.json")["final"]["mean_reward"] == 11


def test_a_quiet_run_shows_its_score_alone_and_keeps_the_table(command):
    outcome = command("algo=sarsa", "env=maze", "progress=false")
    score, folder = outcome.err.splitlines()
    assert outcome.code == 0 and score.startswith("reached 11.00 ") and Path(folder).name == outcome.folder.name
    rows = list(csv.reader((outcome.folder / "q_table.csv").read_text().splitlines()))
    assert rows[0] == ["state", "left", "right", "up", "down"]
    assert [row[0] for row in rows[1:]] == [str(state) for state in range(12)]
    q = checkpoint.load(outcome.folder)[1]["agent"]["q_table"]
    assert q.shape == (12, 4) and q.any()
    assert np.array_equal(np.array(rows[1:], float)[:, 1:], q), "the CSV holds every bit"


def test_a_terminal_without_arrows_gets_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    table_view.show_policy(GymConfig("x", id="rltrain.envs.maze:Maze-v0"), np.eye(4)[[1] * 8 + [3] * 4])
    stream.flush()
    assert stream.buffer.getvalue().decode("ascii").split("\n")[2] == "> c             > > v"


def test_a_table_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(DiskError, match=r"q\.csv"):
        table_view.write_csv(GymConfig("x", id="Taxi-v4"), np.zeros((500, 6)), tmp_path / "nowhere" / "q.csv")


def test_what_cannot_be_shown_ends_no_training(command, monkeypatch):
    """Bug: code 1 after the last step, each time anew in `resume`."""
    monkeypatch.delattr(table_view.toy_text, "state_names")
    monkeypatch.setattr(table_view.toy_text, "_maze", lambda base, arrows: base.no_map)
    outcome = command("algo=q_learning", "env=maze")
    assert outcome.code == 0, outcome.err
    assert "warning: the step is not shown: AttributeError: " in outcome.err
    assert "warning: the policy is not drawn: AttributeError: " in outcome.err
    assert (outcome.folder / "result.json").exists()
