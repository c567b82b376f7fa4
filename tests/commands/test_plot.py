"""`rltrain plot` on real runs and on folders written by hand."""

import csv
import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import yaml
from PIL import Image
from run_folders import write_run
from small_runs import QUICK

from rltrain.app import sweep
from rltrain.commands import plot
from rltrain.errors import CheckpointError
from rltrain.run import folder as run_folder
from rltrain.system import notices


def numbers(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_real_run_gives_a_picture_and_its_numbers(made, command, tmp_path):
    outcome = command("plot", made("cartpole"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-2:] == ["curves.png", "curves.csv"]
    rows = numbers(tmp_path / "curves.csv")
    lines = (made("cartpole") / "metrics.jsonl").read_text()
    assert rows and all(f'"eval/mean_reward": {float(row["center"])}' in lines for row in rows)
    assert {(row["env"], row["group"], row["runs"]) for row in rows} == {("cartpole", "ppo", "1")}
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0, 0x72, 0xB2)).all(axis=1).sum() > 100, "there is no line in the picture"


def test_a_table_and_another_metric_are_drawn_too(made, command, tmp_path):
    outcome = command("plot", made("frozen_lake"), "metric=rollout/ep_rew_mean", "out=deeper/a.svg")
    assert outcome.code == 0, outcome.err
    assert "<svg" in (tmp_path / "deeper/a.svg").read_text()
    assert {row["group"] for row in numbers(tmp_path / "deeper/a.csv")} == {"q_learning"}


def test_seeds_are_summed_up_in_a_band_by_mean_or_interquartile_mean(command, tmp_path):
    for seed, value in enumerate([0.0, 10.0, 20.0, 1000.0]):
        write_run(tmp_path / "sweep" / str(seed), {100: value}, seed=seed)
    assert command("plot", "sweep").code == 0
    (row,) = numbers(tmp_path / "curves.csv")
    assert (row["center"], row["runs"]) == ("257.5", "4")
    assert float(row["low"]) < 257.5 < float(row["high"])
    outcome = command("plot", "sweep", "center=iqm")
    assert numbers(tmp_path / "curves.csv")[0]["center"] == "15"
    assert "cartpole  dqn  4 seeds  15 [" in outcome.out


def test_a_copy_of_a_run_counts_once_with_the_longest_curve(command, tmp_path):
    """Bug: a backup beside its run gave one seed twice the weight, and nothing was said."""

    def begun(name, created, points, seed, host="here"):
        run = write_run(tmp_path / "runs" / name, points, seed=seed)
        (run / "meta.json").write_text(json.dumps({"created": created, "host": host, "seed": seed}))

    begun("a.bak", "2026-01-01T10:00:00.000001", {100: 0.0}, seed=0)
    begun("a", "2026-01-01T10:00:00.000001", {100: 0.0, 200: 0.0}, seed=0)
    begun("b", "2026-01-01T10:00:00.000002", {100: 30.0, 200: 30.0}, seed=1)
    outcome = command("plot", "runs")
    assert (
        outcome.out.startswith("cartpole  dqn  2 seeds  15 [") and numbers(tmp_path / "curves.csv")[-1]["runs"] == "2"
    )
    line = "rltrain: copies of a run are left out (1, such as runs/a.bak): each run counts once"
    assert outcome.err.splitlines() == [line]
    # Another machine, seed or beginning is another run.
    begun("c", "2026-01-01T10:00:00.000001", {100: 0.0, 200: 0.0}, seed=2)
    begun("d", "2026-01-01T10:00:00.000001", {100: 0.0, 200: 0.0}, seed=0, host="there")
    begun("e", "2026-01-01T10:00:00.000001", {100: 1.0, 200: 0.0}, seed=0)
    assert command("plot", "runs").out.startswith("cartpole  dqn  5 runs")


def test_links_that_are_left_out_are_told(command, tmp_path):
    """Bug: a linked run among others was left out, and nothing was said: the curve was that of one seed of two."""
    for seed in (0, 1):
        write_run(tmp_path / "disk" / str(seed), {100: 1.0}, seed=seed)
    write_run(tmp_path / "paper" / "2", {100: 1.0}, seed=2)
    (tmp_path / "paper" / "latest").symlink_to("2")
    assert command("plot", "paper").err == ""
    for seed in (0, 1):
        (tmp_path / "paper" / str(seed)).symlink_to(tmp_path / "disk" / str(seed))
    line = "rltrain: links to folders are left out (2, such as paper/0); name a link to count its runs"
    for words in (["plot", "paper"], ["runs", "paper"]):
        notices._told.clear()
        assert command(*words).err.splitlines() == [line]
    outcome = command("plot", "paper", "paper/0", "disk/1")
    assert outcome.err == "" and outcome.out.startswith("cartpole  dqn  3 seeds")


def test_an_end_that_one_run_alone_reached_is_not_told_of_all(command, tmp_path):
    write_run(tmp_path / "sweep" / "0", {100: 1.0, 200: 7.0}, seed=0)
    write_run(tmp_path / "sweep" / "1", {100: 3.0}, seed=1)
    told = command("plot", "sweep").out.splitlines()[0]
    assert told == "cartpole  dqn  2 seeds  7 [7, 7] at step 200, which 1 of them reached"
    assert command("plot", "sweep/0").out.splitlines()[0].endswith("at step 200")


def test_the_same_runs_give_the_same_band(command, tmp_path):
    for seed in range(5):
        write_run(tmp_path / "sweep" / str(seed), {100: seed**2}, seed=seed)
    command("plot", "sweep", "out=one.png")
    command("plot", "sweep", "out=two.png")
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_each_environment_has_its_own_panel_and_each_group_one_colour(tmp_path, monkeypatch):
    for env in ("pong", "breakout"):
        for algo in ("dqn", "ppo"):
            for seed in range(2):
                write_run(tmp_path / f"{env}-{algo}-{seed}", {0: 0.0, 2_000_000: 1.0}, algo=algo, env=env, seed=seed)
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # a user's own, who may have no LaTeX: a traceback
    curves = plot.read_curves([str(tmp_path)], "eval/mean_reward")
    generator = np.random.default_rng(0)
    bands = [
        plot.band(env, label, runs, plot.mean, generator) for (env, label), runs in plot.group(curves, "algo").items()
    ]
    figure = plot.draw(bands, "evaluation return", "mean")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["breakout", "pong"]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["dqn (2 seeds)", "ppo (2 seeds)"]
        assert [line.get_color() for line in axes.lines] == ["#0072B2", "#D55E00"]
        assert axes.get_xlabel() == "agent steps" and axes.get_ylabel() == "evaluation return"
    figure.canvas.draw()
    assert "2M" in [label.get_text() for label in figure.axes[0].get_xticklabels()]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (1500, "1.5k"), (2e6, "2M"), (1e9, "1G"), (-2000, "-2k"), (0.5, "0.5")]
)
def test_steps_are_written_short(value, text):
    assert plot.short_number(value) == text


def test_without_matplotlib_the_command_to_get_it_is_told(made, command, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = command("plot", made("cartpole"))
    assert outcome.code == 4
    assert outcome.last_line == "rltrain: error: matplotlib is missing; rltrain plot; pip install 'rltrain[plot]'"
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_a_disk_error(made, command, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = command("plot", made("cartpole"), "out=file/a.png")
    assert outcome.code == 7
    assert "the figure cannot be written" in outcome.last_line


def test_a_full_disk_keeps_the_older_picture(made, command, tmp_path, monkeypatch):
    """Bug: half a picture in the place of a whole one."""
    assert command("plot", made("cartpole")).code == 0
    older = {path.name: path.read_bytes() for path in tmp_path.glob("curves.*")}

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    outcome = command("plot", made("cartpole"), "by=env")
    assert outcome.code == 7 and "No space left on device" in outcome.last_line
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == older and len(older) == 2


def test_settings_of_matplotlib_that_it_cannot_read_are_told(made, command, monkeypatch):
    """Bug: a file matplotlibrc in another encoding, told as a bug of rltrain."""

    class Unreadable:
        def find_spec(self, name, path=None, target=None):
            if name == "matplotlib.figure":
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Unreadable(), *sys.meta_path])
    outcome = command("plot", made("cartpole"))
    assert outcome.code == 4 and "matplotlib cannot be imported: UnicodeDecodeError" in outcome.last_line, outcome.err


def test_a_package_that_ends_the_process_is_told(made, command, tmp_path, monkeypatch):
    """Bug: code 3 of a `sys.exit(3)` in a package, as if the run had no checkpoint, and not one word."""
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("import sys\nsys.exit(3)\n")
    run = made("cartpole")
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    outcome = command("plot", run)
    assert outcome.code == 4, outcome.err
    assert "matplotlib cannot be imported: it ends the process (SystemExit: 3)" in outcome.last_line, outcome.err


def test_a_name_that_is_no_text_is_written_escaped(tmp_path):
    """Bug: one run with a lone surrogate in its name ended the plot of all."""
    drawn = SimpleNamespace(env="cart\ud800", group="a", step=[1], center=[1.0], low=[1.0], high=[1.0], runs=[1])
    assert b"cart\\ud800" in plot._numbers([drawn])


@pytest.mark.parametrize("backend", ["TkAgg", "nonsense"])
def test_drawing_asks_for_no_display(backend, made, command, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", backend)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert command("plot", made("cartpole")).code == 0
    assert "matplotlib.pyplot" not in sys.modules
    assert os.environ["MPLBACKEND"] == "agg", "matplotlib refuses what it does not know when it is imported"


def test_the_curves_of_a_sweep_are_grouped_by_what_varies(command):
    """Bug: runs with different settings drawn as seeds of one algorithm, with a band over all of them."""
    jobs = ["algo=q_learning", "env=maze", "total_steps=200", "algo.gamma=0.9,0.5", "seed=0,1", *QUICK]
    swept = command("-m", *jobs)
    assert swept.code == 0, swept.err
    (place,) = (swept.run_dir / "sweeps").iterdir()
    out = command("plot", place).out
    assert "algo.gamma=0.5  2 seeds" in out and "algo.gamma=0.9  2 seeds" in out


@pytest.mark.parametrize("key", ["algo", "env", "network", "hparams", "env.kwargs"])
def test_what_the_settings_of_a_run_do_not_tell_varies_in_the_plot_of_its_sweep(key, command, tmp_path):
    """Bug: two algorithms, games or tuned settings in one curve, as files of one's own have the name of their base."""
    jobs = [
        sweep.Job(number, f"{number:02d}", [], [], {"seed": str(number), key: "{a:1}" if number < 2 else "{a:2}"}, {})
        for number in range(4)
    ]
    for job in jobs:
        write_run(tmp_path / "sweep" / job.folder, {100: 1.0}, seed=job.number)
    write_run(tmp_path / "sweep" / "03_again-2", {100: 1.0}, seed=3)
    sweep.Sweep((tmp_path / "sweep").resolve(), jobs).save()
    plotted = command("plot", "sweep")
    assert plotted.code == 0 and "begun again are left out (1, such as sweep/03)" in plotted.err, plotted.err
    told = {(row["env" if key == "env" else "group"], row["runs"]) for row in numbers(tmp_path / "curves.csv")}
    name = f"{key}=" if key in ("hparams", "env.kwargs") else ""
    assert told == {(f"{name}{{a:1}}", "2"), (f"{name}{{a:2}}", "2")}
    assert command("plot", "sweep", f"by={key}", "out=by.png").code == 0
    assert {row["group"] for row in numbers(tmp_path / "by.csv")} == {f"{name}{{a:1}}", f"{name}{{a:2}}"}


def test_an_attempt_that_was_given_up_is_no_run_of_the_curve(command, tmp_path):
    """Bug: a job that was killed and begun again counted twice."""
    for name, reward in (("00", 9.0), ("00_again-2", 9.0), ("00_again-3", 1.0), ("01", 3.0)):
        write_run(tmp_path / "all" / name, {100: reward})
    for words in (["all"], ["all/01", "all/00_again-3"]):
        assert command("plot", *words).code == 0
        assert [(row["center"], row["runs"]) for row in numbers(tmp_path / "curves.csv")] == [("2", "2")]
    assert command("plot", "all/00").code == 0, "it can be seen by itself"
    assert [row["center"] for row in numbers(tmp_path / "curves.csv")] == ["9"]


@pytest.mark.parametrize("name", ["episodes.csv", "q_table.csv", "sweep.csv", "empty.csv", "pipe.csv"])
def test_the_numbers_overwrite_no_file_that_plot_did_not_write(name, command, tmp_path):
    """Bugs: `plot RUN out=RUN/episodes.png` empties the run's episodes.csv; a pipe beside the picture hangs."""
    folder = write_run(tmp_path / "a", {1: 2.0})
    path = folder / name
    content = "" if name == "empty.csv" else "rank,env\n"
    os.mkfifo(path) if name == "pipe.csv" else path.write_text(content)
    outcome = command("plot", folder, f"out={path.with_suffix('.png')}")
    assert outcome.code == 2 and f"would overwrite {path.relative_to(tmp_path)}" in outcome.last_line, outcome.err
    assert not path.with_suffix(".png").exists() and (name == "pipe.csv" or path.read_text() == content)


def test_a_picture_of_ones_own_is_kept(command, tmp_path):
    """Bug: `plot RUNS` replaced a curves.png of the user's."""
    write_run(tmp_path / "sweep" / "0", {100: 1.0}, seed=0)
    (tmp_path / "curves.png").write_text("mine")
    outcome = command("plot", "sweep")
    assert outcome.code == 2 and "replace it with out=curves.png" in outcome.last_line
    assert (tmp_path / "curves.png").read_text() == "mine"
    assert command("plot", "sweep", "out=curves.png").code == 0
    (tmp_path / "outside").mkdir()
    outside = (tmp_path / "curves.png").rename(tmp_path / "outside" / "mine.png")
    outside.write_text("mine")
    (tmp_path / "curves.png").symlink_to(outside)  # bug: `plot` in a folder of somebody else's wrote through the link
    assert command("plot", "sweep").code == 0
    assert outside.read_text() == "mine" and not (tmp_path / "curves.png").is_symlink()


def test_plot_overwrites_its_own_numbers(tmp_path):
    """Bug: the second plot of the same runs is refused."""
    (tmp_path / "a.csv").write_bytes(plot._numbers([]))
    assert plot._is_ours(tmp_path / "a.csv")


@pytest.mark.parametrize("place", [".Trash-1000/files", ".snapshot/daily.0/dqn"])
def test_what_lies_in_hidden_folders_does_not_count(place, command, tmp_path):
    """Bug: a run that was moved to the trash was a seed of the curve, and was evaluated as `last`."""
    for where, seed in (("dqn", 0), ("dqn", 1), (place, 2)):
        write_run(tmp_path / "runs" / where / f"20260101-00000{seed}-000000-s{seed}", {100: 1.0}, seed=seed)
    hidden = tmp_path / "runs" / place
    (hidden / "20260101-000002-000000-s2" / "meta.json").write_text("{}")
    (tmp_path / "runs" / ".venv" / "configs").mkdir(parents=True)
    (tmp_path / "runs" / ".venv" / "configs" / "config.yaml").touch()  # of a package, no run
    (tmp_path / "runs" / ".latest-1").symlink_to(hidden)
    outcome = command("plot", "runs")
    assert outcome.err.startswith("rltrain: hidden folders with runs are left out (1, such as runs/."), outcome.err
    assert outcome.out.startswith("cartpole  dqn  2 seeds")
    assert run_folder.find("last")[0].name.endswith("s1")
    with pytest.raises(CheckpointError):
        run_folder.find("20260101-000002-000000-s2")
    assert command("plot", hidden).out.startswith("cartpole  dqn  1 seed"), "what is named counts"


@pytest.mark.parametrize("value", [float("nan"), 10**400, 1.7e308, float("-inf")], ids=range(4))
def test_values_that_no_picture_holds_are_left_out(value, command, tmp_path):
    """Bugs: all NaN was an IndexError, an integer beyond floats an OverflowError, ±1.7e308 an error of matplotlib."""
    write_run(tmp_path / "a" / "odd", {0: value, 10: value})
    outcome = command("plot", "a")
    assert outcome.code == 2
    assert "no run here has a number as 'eval/mean_reward'; metric; " in outcome.last_line
    write_run(tmp_path / "a" / "sound", {0: 1.0, 10: 2.0})
    write_run(tmp_path / "a" / "lists", {0: 1.0, 10: 2.0}, seed=[1])  # bug: a seed that is a list is unhashable
    assert command("plot", "a").code == 0
    assert [row["runs"] for row in numbers(tmp_path / "curves.csv")] == ["2", "2"]


def test_an_extended_run_is_labelled_with_its_last_settings(command, tmp_path):
    """Bug: a curve up to step 300 was labelled total_steps=100."""
    folder = write_run(tmp_path / "a", {100: 1.0, 300: 2.0})
    for name, steps in (("config.yaml", 100), ("config.resume-1.yaml", 300)):
        values = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / name).write_text(yaml.safe_dump(values | {"total_steps": steps}))
    assert "total_steps=300" in command("plot", "a", "by=total_steps").out


@pytest.mark.parametrize("file", ["game.cfg", "mine.py", "package/rules.py"])
def test_runs_of_edited_code_in_one_curve_are_told(file, command, tmp_path):
    """Bug: an edit of the .cfg file between two runs, and the mean of two games without a word."""
    for seed, text in enumerate(("living_reward = 1", "living_reward = 1", "living_reward = 500")):
        code = write_run(tmp_path / "edited" / str(seed), {100: 1.0 + seed}, seed=seed) / "code" / file
        code.parent.mkdir(parents=True)
        code.write_text(text)
    (tmp_path / "edited" / "0" / "code" / "imported_late.py").touch()
    assert command("plot", "edited/0", "edited/1").err == "", "the control"
    told = command("plot", "edited").err
    assert f"joins runs that began with different code: they differ in code/{file}; plot" in told


def test_runs_of_a_library_that_was_built_anew_are_told(command, tmp_path):
    for seed, noted in enumerate(({"sim.so": "1"}, {"sim.so": "1", "late.so": "2"}, {"sim.so": "3"})):
        code = write_run(tmp_path / "edited" / str(seed), {100: 1.0}, seed=seed) / "code"
        code.mkdir()
        (code / "compiled.json").write_text(json.dumps(noted))
    assert command("plot", "edited/0", "edited/1").err == "", "the control"
    assert "they differ in code/compiled.json (sim.so); plot" in command("plot", "edited").err


def test_runs_of_two_games_in_one_curve_are_told(command, tmp_path):
    """Bug: the mean of two games, drawn as if over seeds."""
    for seed, env in enumerate(
        ({"kwargs": {"pay": 1}, "workers": 2}, {"kwargs": {"pay": 3}}, {"max_episode_steps": 9})
    ):
        write_run(tmp_path / "single" / str(seed), {100: 1.0 + seed}, seed=seed, env={"name": "grid", **env})
    told = command("plot", "single").err
    assert "the curve grid dqn joins different games: its runs differ in env.kwargs.pay; use by=algo,env.kwargs" in told
    told = command("plot", "single", "by=algo,env.kwargs.pay")
    assert "warning" not in told.err and len(told.out.splitlines()) == 5, told.out


def test_a_matplotlibrc_of_the_working_directory_is_not_read(made, tmp_path):
    """Bug: that of somebody else's run made the plot hang, or was told as a bug of rltrain."""
    folder = made("cartpole")
    (folder / "matplotlibrc").write_text("font.size: 30000\n")
    words = [sys.executable, "-m", "rltrain", "plot", ".", f"out={tmp_path / 'x.png'}"]
    done = subprocess.run(words, cwd=folder, timeout=100, capture_output=True, text=True)
    (folder / "matplotlibrc").unlink()
    assert done.returncode == 0 and (tmp_path / "x.png").stat().st_size > 0, done.stderr
