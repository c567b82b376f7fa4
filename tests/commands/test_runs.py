"""`rltrain runs` on a real run and on folders written by hand."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from run_folders import write_run
from small_runs import QUICK

from rltrain.commands import runs


def write_status(folder, state="done", pid=1, result=None, host=None, age_s=60.0, **status):
    """What a run leaves beside its metrics."""
    status = {"state": state, "pid": pid, "step": 10, "reason": "", "exit_code": None} | status
    (folder / "status.json").write_text(json.dumps(status))
    created = datetime.now(UTC) - timedelta(seconds=age_s)
    meta = {"created": created.isoformat(), "host": host or platform.node()}
    (folder / "meta.json").write_text(json.dumps(meta))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def ended(score, best=None, fps=100.0):
    return {"final": {"mean_reward": score}, "best": {"mean_reward": best if best is not None else score}, "fps": fps}


def table(out):
    """Rows by the name of their folder below runs/, which each has before it."""
    head, *lines = out.splitlines()
    assert head.split() == ["state", "steps", "score", "of", "best", "steps/s", "age", "run"]
    return {line.split()[-1].partition("runs/")[2]: line.split() for line in lines}


def test_a_real_run_is_a_line_with_what_its_files_say(made, command):
    folder = made("cartpole")
    result = json.loads((folder / "result.json").read_text())
    outcome = command("runs", f"run_dir={folder.parents[2]}")
    assert outcome.code == 0, outcome.err
    rows = {line.split()[-1]: line.split() for line in outcome.out.splitlines()[1:]}
    state, steps, percent, score, source, best, fps, _, name = rows[str(folder)]
    assert (state, steps, percent, source) == ("done", "1,024", "100%", "final")
    assert float(score) == pytest.approx(result["final"]["mean_reward"], abs=0.005)
    assert float(best) == pytest.approx(result["best"]["mean_reward"], abs=0.005)
    assert float(fps.replace(",", "")) == pytest.approx(result["fps"], abs=0.5)
    assert list(rows) == [name], "runs/latest is counted as one more"


def test_a_run_whose_process_is_gone_died_and_one_whose_process_lives_does_not(command, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_status(write_run(tmp_path / "runs" / "killed", {5: 1.0}), "running", gone.pid)
    write_status(write_run(tmp_path / "runs" / "alive", {5: 1.0}), "running", os.getpid())
    write_status(write_run(tmp_path / "runs" / "elsewhere", {5: 1.0}), "running", gone.pid, host="another")
    # The number of a process that has gone is given to another one.
    old = write_status(write_run(tmp_path / "runs" / "reused", {5: 1.0}), "running", os.getpid())
    os.utime(old / "status.json", (1e9, 1e9))
    states = {name: row[0] for name, row in table(command("runs").out).items()}
    assert states == {"killed": "died", "alive": "running", "elsewhere": "running", "reused": "died"}


def test_the_score_says_what_it_is_of(command, tmp_path):
    top = tmp_path / "runs"
    write_status(write_run(top / "done", {5: 1.0, 10: 4.0}), result=ended(3.0, best=9.0))
    running = write_status(write_run(top / "running", {5: 7.0, 8: 6.0}), "running", os.getpid())
    with (running / "metrics.jsonl").open("a") as file:
        file.write('{"step": 900, "rollout/ep_rew_mean": 2.5, "time/fps": 1234.0}\n{"step": 950, "rollout/ep')
    write_status(write_run(top / "early", {5: 2.5}, metric="rollout/ep_rew_mean"), "running", os.getpid())
    write_status(write_run(top / "stopped", {5: 2.0}), "stopped", result=ended(1.0))
    write_status(write_run(top / "new", {}), "running", os.getpid(), step=0)
    rows = {name: [cell for cell in row if not cell.endswith("%")] for name, row in table(command("runs").out).items()}
    assert rows["done"][2:6] == ["3.00", "final", "9.00", "100"]
    assert rows["running"][1:6] == ["900", "6.00", "eval", "7.00", "1,234"]
    assert rows["early"][2:5] == ["2.50", "train", "-"]
    assert rows["stopped"][2:4] == ["2.00", "eval"], "an old result is taken for that of a run resumed and stopped"
    assert rows["new"][1:4] == ["0", "-", "-"]


def test_a_run_that_was_resumed_for_longer_is_counted_by_its_new_length(command, tmp_path):
    folder = write_status(write_run(tmp_path / "runs" / "a", {50: 1.0}), "running", os.getpid(), step=50)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text + "total_steps: 50\n")
    (folder / "config.resume-1.yaml").write_text(text + "total_steps: 200\n")
    os.utime(folder / "config.yaml", (1e9, 1e9))
    assert table(command("runs").out)["a"][2] == "25%"


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("score", ["b", "c", "a", "new"]),
        ("best", ["a", "b", "c", "new"]),
        ("speed", ["c", "a", "b", "new"]),
        ("age", ["new", "c", "b", "a"]),
        ("name", ["a", "b", "c", "new"]),
        ("state", ["a", "b", "c", "new"]),
    ],
)
def test_the_table_is_sorted_best_newest_or_fastest_first(command, tmp_path, sort, order):
    for age, (name, result) in enumerate(
        [("c", ended(2.0, 2.0, 90)), ("b", ended(3.0, 4.0, 10)), ("a", ended(1, 5, 50))]
    ):
        write_status(write_run(tmp_path / "runs" / name, {1: 0.0}), result=result, age_s=3600 * (age + 1))
    write_status(write_run(tmp_path / "runs" / "new", {}), "running", os.getpid(), age_s=1)
    assert list(table(command("runs", f"sort={sort}").out)) == order


def test_a_run_that_took_more_than_asked_for_is_at_100_percent(command, tmp_path):
    folder = write_status(write_run(tmp_path / "runs" / "a", {2048: 1.0}), step=2048)
    with (folder / "config.yaml").open("a") as file:
        file.write("total_steps: 500\n")
    assert table(command("runs").out)["a"][2] == "100%"


@pytest.mark.parametrize("made", [True, False])
def test_no_runs_are_told_as_such(command, tmp_path, made):
    if made:
        (tmp_path / "runs").mkdir()
    outcome = command("runs")
    assert outcome.code == 3
    assert "no runs in 'runs'; run_dir=runs; " in outcome.last_line


def test_a_pattern_chooses_by_folder_or_state(command, tmp_path):
    write_status(write_run(tmp_path / "runs" / "pong" / "ppo" / "x", {1: 0.0}), result=ended(1.0))
    write_status(write_run(tmp_path / "runs" / "doom" / "dqn" / "y", {1: 0.0}), "failed")
    assert list(table(command("runs", "pong").out)) == ["pong/ppo/x"]
    assert list(table(command("runs", "*/dqn/*").out)) == ["doom/dqn/y"]
    assert list(table(command("runs", "failed").out)) == ["doom/dqn/y"]
    outcome = command("runs", "breakout")
    assert outcome.code == 3
    assert "no run matches 'breakout'; runs; " in outcome.last_line


def test_a_job_that_failed_before_it_began_is_in_the_table(command, tmp_path):
    job = tmp_path / "runs" / "sweeps" / "now" / "00_algo-dqn"
    job.mkdir(parents=True)
    (job / "status.json").write_text(
        json.dumps({"state": "failed", "step": 0, "pid": None, "reason": "", "exit_code": 2})
    )
    assert table(command("runs").out)["sweeps/now/00_algo-dqn"][0] == "failed"


@pytest.mark.parametrize("name", ["status.json", "meta.json", "result.json", "config.yaml"])
def test_a_run_with_a_file_that_is_cut_or_damaged_is_shown_as_damaged(command, tmp_path, name):
    folder = write_status(write_run(tmp_path / "runs" / "a", {1: 0.0}), result={})
    (folder / name).write_bytes(b'{"state": "do\xff')
    outcome = command("runs")
    assert outcome.code == 0, outcome.err
    assert table(outcome.out)["a"][0] == "damaged"


def test_long_metrics_are_read_from_their_end(tmp_path):
    folder = write_run(tmp_path / "a", dict.fromkeys(range(20_000), 1.0) | {20_000: 3.0})
    row = runs.read(folder, tmp_path)
    assert (row.step, row.score) == (20_000, 3.0)
    assert runs._newest(folder / "metrics.jsonl")[0]["step"] == 20_000


def test_a_tag_called_best_is_not_the_best_evaluation(command, tmp_path):
    """Bugs: "best": "abc" in a run's metrics ended `runs` with a TypeError; a number there was shown as its best."""
    folder = write_status(write_run(tmp_path / "runs" / "a", {1: 2.0}), state="stopped")
    for value in ("abc", 99.0):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 3, "best": value}) + "\n")
        outcome = command("runs")
        assert outcome.code == 0 and "2.00" in outcome.out and "99" not in outcome.out, outcome.err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59, "59s"), (90, "2m"), (7200, "2h"), (86_400 * 3, "3d")])
def test_ages_are_short(seconds, text):
    assert runs.short_time(seconds) == text


def test_a_folder_of_runs_may_be_named_as_a_path(command):
    """Bug: `rltrain runs PATH` looks for runs whose names contain the path, and finds none."""
    assert command("algo=q_learning", "env=maze", "total_steps=50", *QUICK, "run_dir=else/where").code == 0
    outcome = command("runs", "else")
    assert outcome.code == 0 and "else/where/maze/q_learning/" in outcome.out, outcome.err


def test_a_huge_number_does_not_widen_the_table(tmp_path, command):
    """Bug: one run with a score of 1e308 put the names of all runs behind 300 columns of spaces."""
    folder = write_run(tmp_path / "runs" / "one", {1e300: 1.7e308})
    write_status(folder, state="running", pid=-1, step=10**300)
    outcome = command("runs")
    assert outcome.code == 0, outcome.err
    assert "1.7e+308" in outcome.out and max(map(len, outcome.out.splitlines())) < 120


def test_the_best_evaluation_of_a_long_log_is_found(command, tmp_path):
    """Bug: while a run trained, the best of the last 64 kB stood in the column `best`."""
    folder = write_status(write_run(tmp_path / "runs" / "a" / "ppo" / "long", {}), "stopped")
    lines = [{"step": 1, "eval/mean_reward": 9.0}, *({"step": 2 + i, "train/loss": 0.1} for i in range(3000))]
    lines += [{"step": 4000, "eval/mean_reward": 3.0}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert (folder / "metrics.jsonl").stat().st_size > 100_000
    (row,) = table(command("runs").out).values()
    assert ("3.00" in row, row[row.index("3.00") + 2]) == (True, "9.00")
