"""Sweeps beside each other, and what is left of jobs that were killed."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rights
import vizdoom
import yaml
from in_time import fails_after
from small_runs import QUICK, small
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

from rltrain.app import hydra_app, hydra_sweep, jobs, side_by_side, sweep, train
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import QLearningConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, Stopped
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.run import Run
from rltrain.system import inside, signals

JOBS = ["-m", "algo=q_learning", "env=maze", "seed=0,1", "total_steps=300", *QUICK]


def ended(folder: Path, state: str | None, mean: float | None = None, reason: str = "") -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    if state is not None:
        (folder / "status.json").write_text(json.dumps({"state": state, "reason": reason}))
    if mean is not None:
        (folder / "result.json").write_text(json.dumps({"final": {"mean_reward": mean, "std_reward": 0.0}}))


def plan(folder: Path, *varies: dict[str, str]) -> sweep.Sweep:
    jobs = [sweep.Job(number, f"{number:02d}", [], [], one, {"env": {}}) for number, one in enumerate(varies)]
    return sweep.Sweep(folder.resolve(), jobs)


@pytest.mark.parametrize("how", ["compose", "resolver", "clear"])
def test_environments_may_compose_with_hydra(how, command, tmp_path, monkeypatch, request):
    """Bugs: "GlobalHydra is already initialized", or Hydra's folders refused, which nobody had typed; from the second
    job on no settings could be resolved."""
    monkeypatch.syspath_prepend(request.path.parents[1] / "envs/gym")
    monkeypatch.delitem(sys.modules, "composing", raising=False)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "game.yaml").write_text("level: 2\n")
    words = [*small("a2c", "gym"), "env.id=composing:Composing-v0", f"env.kwargs.folder={tmp_path / 'conf'}"]
    words += [f"env.kwargs.how={how}", "total_steps=40", "eval_every_steps=0", "final_eval_episodes=1"]
    outcome = command("-m", *words, "seed=1,2")
    assert outcome.code == 0 and "2 of 2 jobs done" in outcome.err, outcome.err
    assert "reached 10.00" in command(*words).err


def test_jobs_that_were_killed_are_named_and_the_others_ranked(tmp_path, capfd):
    """Bug: a job without a status, or with half of one, ends the sweep's table with a traceback."""
    found = plan(tmp_path, *({"x": str(number)} for number in range(7)))
    ended(tmp_path / "00", "done", 1.0)
    ended(tmp_path / "01", None)
    ended(tmp_path / "02", "done", 2.0)
    ended(tmp_path / "03", "running")
    ended(tmp_path / "04", "failed", reason="out of memory")
    ended(tmp_path / "05", "done")
    (tmp_path / "05" / "result.json").write_text('{"final": ')
    assert sweep.report(found, found.jobs) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["02", "00"]
    assert [line.split("failed: ")[1] for line in lines[3:7]] == [
        "01: it ended without giving a reason",
        "03: it ended without giving a reason",
        "04: out of memory",
        "05: it ended without giving a reason",
    ]
    assert lines[-1].startswith("2 of 7 jobs done, 4 failed, 1 not begun; continue with: rltrain resume ")


def test_seeds_are_one_row_of_the_table_and_each_environment_has_its_own_ranks(tmp_path, capfd):
    """Bugs: seeds ranked against each other; scores of two games compared; an interval of a single seed."""
    varies = [{"env": env, "seed": seed} for env in ("a", "b") for seed in "01"] + [{"env": "c", "seed": "0"}]
    found = plan(tmp_path, *varies)
    for number, score in enumerate([1.0, 3.0, 10.0, 10.0, 5.0]):
        ended(tmp_path / f"{number:02d}", "done", score)
    assert sweep.report(found, found.jobs) == 0
    assert (tmp_path / "sweep.csv").read_text().split() == [
        "rank,env,jobs,done,mean,low,high,folders",
        *("1,a,2,2,2,1,3,00", "01", "1,b,2,2,10,10,10,02", "03", "1,c,1,1,5,,,04"),
    ]
    assert "2.00 [1.00, 3.00] over 2 seeds  env=a" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *(("id", ["A-v0", "B-v0"]), ("game", ["pong", "qbert"]), ("scenario", ["basic", "deathmatch"])),
        *(("cfg", ["/a.cfg", "/b.cfg"]), ("kwargs", [{"map_name": "4x4"}, {"map_name": "8x8"}]), ("state", ["1", "2"])),
    ],
)
def test_each_game_has_its_own_ranks_also_under_one_name(tmp_path, key, values):
    """Bug: -m env=gym env.id=CartPole-v1,Acrobot-v1 ranked the two against each other."""
    varies = [{f"env.{key}": str(value), "env.frame_skip": skip} for value in values for skip in "24"]
    found = plan(tmp_path, *varies)
    for job, value in zip(found.jobs, [values[0], values[0], values[1], values[1]], strict=True):
        job.config = {"env": {key: value, "frame_skip": int(job.varies["env.frame_skip"])}}
        ended(tmp_path / job.folder, "done", float(job.number))
    sweep.report(found, found.jobs)
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert [(row["rank"], row["folders"]) for row in rows] == [("1", "01"), ("2", "00"), ("1", "03"), ("2", "02")]


def test_a_folder_is_named_by_what_varies_and_tells_a_minus(command):
    """Bugs: x=-1 and x=1 in folders of one name; names that repeat the whole command; `+key` taken for another key."""
    assert sweep.folder_name(3, {"algo.gamma": "0.9", "env.kwargs.x": "-1.5"}) == "03_gamma-0.9_x--1.5"
    assert sweep.folder_name(0, {"a.x": "1", "b.x": "[2, 3]"}) == "00_a.x-1_b.x--2-3"
    assert sweep.folder_name(0, {"env.cfg": "/a b/c=d.cfg"}) == "00_cfg--a-b-c-d.cfg"


def only_sweep(outcome) -> Path:
    (place,) = (outcome.run_dir / "sweeps").iterdir()
    return place


@pytest.mark.parametrize("way", ["resume", "skip_done"])
def test_a_stopped_sweep_goes_on_and_runs_no_job_again(way, command, monkeypatch):
    """Bugs: a stopped sweep prints nothing and cannot be continued; a finished job is trained again."""
    begun, create = [], run_folder.create
    monkeypatch.setattr(
        run_folder, "create", lambda config, folder: (begun.append(config.seed), create(config, folder))[1]
    )
    several = ["-m", "algo=q_learning", "env=maze", "seed=0,1,2,3", "total_steps=300", *QUICK]
    calls = []
    original = Run.advance

    def advance(self, num_steps, episodes):
        original(self, num_steps, episodes)
        if self.config.seed == 1 and not calls:
            calls.append(self.step)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "advance", advance)
    stopped = command(*several)
    assert stopped.code == 143, stopped.err
    place = only_sweep(stopped)
    lines = stopped.err.splitlines()
    assert "1 of 4 jobs done, 0 failed, 1 stopped, 2 not begun" in lines
    shown = Path("runs/sweeps") / place.name
    assert lines[-1] == (
        f"rltrain: error: stopped by SIGTERM; {shown}; all is saved, resume with: rltrain resume {shown}"
    )
    first = (place / "00_seed-0" / "result.json").stat()
    goes_on = command("resume", place) if way == "resume" else command(*several, "skip_done=true")
    assert goes_on.code == 0, goes_on.err
    assert "1 of 4 jobs are done already" in goes_on.err and "resumed at step" in goes_on.err
    assert begun == [0, 1, 2, 3] and (place / "00_seed-0" / "result.json").stat() == first
    assert only_sweep(goes_on) == place and "4 of 4 jobs done, 0 failed" in goes_on.err
    again = command("resume", place)
    assert again.code == 0 and begun == [0, 1, 2, 3]


def test_a_signal_that_comes_as_a_job_ends_stops_the_sweep(command, monkeypatch):
    """Bug: the job takes the signal and ends as done, and the sweep begins the next one."""
    conclude = Run.conclude

    def signalled(self):
        conclude(self)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "conclude", signalled)
    outcome = command(*JOBS)
    assert outcome.code == 130
    assert "1 of 2 jobs done, 0 failed, 1 not begun" in outcome.err


def test_a_signal_of_which_a_library_makes_another_error_stops_the_sweep(command, monkeypatch):
    """Bug: "job failed: TypeError: expected a message argument", as the signal came while protobuf was imported."""
    original = sweep.resolve

    def resolve(config):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.getsignal(signal.SIGINT)
        except sweep.Interrupt:
            raise TypeError("expected a message argument") from None
        return original(config)

    monkeypatch.setattr(sweep, "resolve", resolve)
    outcome = command(*JOBS)  # the first job was resolved before
    assert outcome.code == 130
    assert "1 of 2 jobs done, 0 failed, 1 not begun" in outcome.err
    assert "job failed" not in outcome.err


def test_a_stop_in_a_destructor_prints_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    signals.pass_over_unraisable()

    class Ended:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            raise self.error

    Ended(sweep.Interrupt(2))
    Ended(KeyboardInterrupt())
    assert capsys.readouterr().err == ""
    Ended(ValueError("mine"))
    assert "ValueError: mine" in capsys.readouterr().err, "the control"


def test_a_signal_that_python_swallows_stops_the_sweep_all_the_same(command, monkeypatch):
    """Bug: the signal arrives in a destructor, where Python ignores what is raised, and the sweep trains on."""
    original = sweep.resolve

    def resolve(config):
        with contextlib.suppress(sweep.Interrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.getsignal(signal.SIGTERM)
        return original(config)

    monkeypatch.setattr(sweep, "resolve", resolve)
    outcome = command(*JOBS)  # the first job was resolved before
    assert outcome.code == 143
    assert "1 of 2 jobs done, 0 failed, 1 not begun" in outcome.err


def test_a_job_without_a_checkpoint_begins_again_beside_what_it_left(command):
    """Bug: a job that was killed before its first checkpoint is never run, or its folder is overwritten."""
    assert command(*JOBS).code == 0
    (place,) = Path("runs/sweeps").iterdir()
    job = place / "01_seed-1"
    shutil.rmtree(job / "checkpoints")
    (job / "result.json").unlink()
    (job / "status.json").write_text('{"state": "running"}')
    kept = (job / "metrics.jsonl").read_bytes()
    assert command("resume", place).code == 0
    assert (job / "metrics.jsonl").read_bytes() == kept
    assert json.loads((place / "01_seed-1_again-2" / "result.json").read_text())["steps"] == 300
    assert "01_seed-1_again-2" in (place / "sweep.csv").read_text()


def test_a_sweep_can_be_extended(command):
    """Bug: skip_done starts anew because one seed was added."""
    assert command(*JOBS).code == 0
    wider = [*JOBS, "seed=0,1,2", "skip_done=true"]
    outcome = command(*wider)
    assert outcome.code == 0, outcome.err
    place = only_sweep(outcome)
    assert "2 of 3 jobs are done already" in outcome.err
    assert sorted(path.name for path in place.glob("0*")) == ["00_seed-0", "01_seed-1", "02_seed-2"]


def test_a_job_that_was_lost_has_its_own_settings_when_the_sweep_is_extended(command):
    """Bug: the job of the first value was trained with that of the second, which the command line named first."""
    rates = "algo.learning_rate="
    place = only_sweep(command(*JOBS, "seed=0", f"{rates}1e-9"))
    shutil.rmtree(next(place.glob("00*")))
    assert command(*JOBS, "seed=0", f"{rates}0.5,1e-9", "skip_done=true").code == 0
    jobs = sweep.load(place).jobs
    trained = [saved_config.load(place / job.folder / "config.yaml").algo.learning_rate for job in jobs]
    assert trained == [job.config["algo"]["learning_rate"] for job in jobs] == [1e-9, 0.5]


def test_a_file_of_settings_that_was_edited_makes_other_jobs(command, tmp_path, monkeypatch):
    """Bug: with equal words the old jobs were tried in place of the new ones, for ever."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "algo" / "edited.yaml"
    file.parent.mkdir(parents=True)
    words = ["--config-dir", "conf", *JOBS, "algo=edited", "hydra.sweep.dir=all", "skip_done=true"]
    for rate in ("0.25", "0.5"):
        file.write_text(f"defaults: [q_learning, _self_]\nlearning_rate: {rate}\n")
        outcome = command(*words)
        assert outcome.code == 0, outcome.err
    jobs = sweep.load(tmp_path / "all").jobs
    trained = [saved_config.load(tmp_path / "all" / job.folder / "config.yaml").algo.learning_rate for job in jobs]
    assert trained == [0.25, 0.25, 0.5, 0.5]


def test_files_of_the_users_in_the_folder_of_a_job_stay(command, tmp_path, monkeypatch):
    """Bug: a job of `hydra.sweep.subdir=${seed}` overwrote the user's result.json."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "all" / "1" / "result.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    outcome = command(*JOBS, "hydra.sweep.dir=all", "hydra.sweep.subdir=${seed}")
    assert outcome.code == 2 and f"has a file of yours: {own}; hydra.sweep.subdir; " in outcome.last_line, outcome.err
    assert own.read_text() == "mine" and os.listdir("all") == ["1"]


def test_code_that_changed_since_its_jobs_were_done_is_told(command, tmp_path, monkeypatch):
    """Bug: `skip_done` ranked the scores of a module that was edited since, without a word."""
    module = tmp_path / "scaled_lake.py"
    text = (
        "import gymnasium\nfrom gymnasium.wrappers import TransformReward\nGAIN = 1\n"
        "def make(**kwargs):\n"
        "    return TransformReward(gymnasium.make('FrozenLake-v1', **kwargs), lambda reward: GAIN * reward)\n"
        "gymnasium.register('Scaled-Lake-v0', make, max_episode_steps=20)\n"
    )
    module.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    lakes = ["-m", *small("dqn", "gym"), "env.id=scaled_lake:Scaled-Lake-v0", "seed=0,1", "total_steps=100"]
    assert command(*lakes).code == 0
    assert "other code" not in command(*lakes, "skip_done=true").err
    module.write_text(text.replace("GAIN = 1", "GAIN = 100"))
    again = command(*lakes, "skip_done=true")
    assert again.code == 0 and "the run began with other code" in again.err, again.err


def test_jobs_with_another_plugin_are_other_jobs(command, tmp_path):
    """Bug: an id that another module registers counted as done, with the score of the other environment."""
    for module, gain in (("plain", 1), ("tenfold", 10)):
        (tmp_path / f"{module}_lake.py").write_text(
            "import gymnasium\nfrom gymnasium.wrappers import TransformReward\n"
            "def make(**kwargs):\n"
            f"    return TransformReward(gymnasium.make('FrozenLake-v1', **kwargs), lambda reward: {gain} * reward)\n"
            "if 'Two-Lakes-v0' in gymnasium.registry:\n    del gymnasium.registry['Two-Lakes-v0']\n"
            "gymnasium.register('Two-Lakes-v0', make, max_episode_steps=20)\n"
        )
    lakes = ["-m", *small("dqn", "gym"), "env.id=Two-Lakes-v0", "seed=0,1", "total_steps=100"]
    assert command(*lakes, "plugins=[plain_lake]").code == 0
    again = command(*lakes, "plugins=[plain_lake]", "skip_done=true")
    assert again.code == 0 and "2 of 2 jobs are done already" in again.err
    other = command(*lakes, "plugins=[tenfold_lake]", "skip_done=true")
    assert other.code == 0 and "done already" not in other.err, other.err


PLACES = {
    "hydra.sweep.dir": ["hydra.sweep.dir=here"],
    "subdir": ["hydra.sweep.dir=here", "hydra.sweep.subdir=job_${hydra:job.num}"],
    "quotes": ["run_dir='my runs'"],
    "yaml": ["--config-dir", "conf", "+study=place"],
    "variable": ["run_dir=${oc.env:MY_PLACE}"],
}


@pytest.mark.parametrize("how", PLACES)
def test_a_sweep_is_looked_at_wherever_it_lies(how, command, tmp_path, monkeypatch):
    """Bug: no table, and code 0 for a failed job, where the folder does not stand behind run_dir= word for word."""
    monkeypatch.setenv("MY_PLACE", "elsewhere")
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "place.yaml").write_text("# @package _global_\nrun_dir: elsewhere\n")
    outcome = command(*PLACES[how], "-m", *JOBS[1 : -len(QUICK)], *QUICK, "algo.gamma=0.9,1.5", "seed=0")
    assert outcome.code == 1, outcome.err
    assert "1 of 2 jobs done, 1 failed" in outcome.err
    (table,) = tmp_path.rglob("sweep.csv")
    assert table.relative_to(tmp_path).parts[0] in ("here", "my runs", "elsewhere")
    if how == "subdir":
        assert (table.parent / "job_0" / "result.json").is_file()


def test_what_no_job_can_take_is_refused_before_anything_is_made(command, tmp_path):
    """Bug: twelve jobs that fail one after the other for the same reason."""
    for wrong, said in (("algo.gamma=1.5", "algo.gamma; give a value in [0, 1]"), ("env=pendulum", "discrete states")):
        outcome = command(*JOBS, wrong)
        assert outcome.code == 2 and said in outcome.last_line, outcome.err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("range(5,0)", "the sweep has no jobs"),
        ("0,1,0", "two jobs of the sweep are the same"),
        ("0,0.0", "two jobs of the sweep are the same"),
        ("range(1,1e9)", "the sweep has more than 10,000 jobs"),
        ("glob(*)", "glob() finds only names of choices"),
        ("interval(0,3)", "interval() has no values to try one after another; seed; use choice() or range()"),
    ],
)
def test_a_sweep_of_no_jobs_or_of_one_job_twice_is_refused(seeds, words, command):
    """Bugs: "a bug in rltrain" for an empty range; a range that takes all memory; seed=0,0 ran job 0 twice and ended
    with 1 of 2 jobs done, code 1.
    """
    outcome = command(*JOBS, f"seed={seeds}")
    assert outcome.code == 2 and words in outcome.last_line, outcome.err
    assert not outcome.run_dir.exists()


def test_the_command_of_a_job_trains_it_alone(command):
    """Bug: command.txt of a job starts the whole sweep."""
    outcome = command(*JOBS, "algo.gamma=choice(0.9,0.8)", "fail_fast=true")
    texts = [path.read_text().split() for path in sorted(only_sweep(outcome).glob("*/command.txt"))]
    assert len(texts) == 4 and not any({"-m", "fail_fast=true"} & set(words) for words in texts)
    assert {"seed=0", "algo.gamma=0.9"} <= set(texts[0])
    assert command(*texts[0][1:]).code == 0


def test_after_a_failed_job_fail_fast_begins_no_other(command, monkeypatch):
    monkeypatch.setattr(Run, "conclude", lambda self: 1 / 0)
    outcome = command(*JOBS, "fail_fast=true")
    assert outcome.code == 1 and "0 of 2 jobs done, 1 failed, 1 not begun" in outcome.err


def test_a_dry_run_of_a_sweep_tries_every_job_and_keeps_nothing(command):
    outcome = command(*JOBS, "dry_run=true")
    assert outcome.code == 0 and "2 of 2 jobs can be trained" in outcome.err and not outcome.run_dir.exists()


@pytest.mark.parametrize("spelling", ["{}", "./{}", "x/../{}", "{}/checkpoints"])
def test_a_plan_whose_jobs_share_a_folder_is_damaged(spelling, tmp_path):
    """Bug: one result counted as that of two jobs."""
    theirs = plan(tmp_path, {})
    theirs.jobs.append(dataclasses.replace(theirs.jobs[0], number=1, folder=spelling.format(theirs.jobs[0].folder)))
    theirs.save()
    with pytest.raises(CheckpointError, match="damaged"):
        sweep.load(tmp_path)


@pytest.mark.parametrize(
    "edit", [('"seed": 1', '"seed": 5'), ('"varies": {', '"varies": {"x": "2", '), ('"00"', '"07"')]
)
def test_a_plan_that_was_edited_is_refused(edit, tmp_path):
    """Bug: the job of seed 1 trained with seed 5 in the folder 01_seed-1, and the table said seed 1."""
    theirs = plan(tmp_path, {"seed": "1"})
    theirs.jobs[0].config = {"seed": 1, "algo": {"gamma": 0.9}}
    theirs.save()
    assert sweep.load(tmp_path).jobs == theirs.jobs
    path = tmp_path / sweep.PLAN
    text = json.dumps(json.loads(path.read_text()))
    assert edit[0] in text
    path.write_text(text.replace(*edit))
    with pytest.raises(CheckpointError, match="the plan of the sweep was edited"):
        sweep.load(tmp_path)


def test_runs_in_each_others_folders_are_refused(command):
    """Bug: two job folders that were exchanged gave each other their scores."""
    place = only_sweep(command(*JOBS))
    (place / "00_seed-0").rename(place / "x")
    (place / "01_seed-1").rename(place / "00_seed-0")
    (place / "x").rename(place / "01_seed-1")
    outcome = command("resume", place)
    assert outcome.code == 3 and "00_seed-0 holds the run of another command" in outcome.last_line


def test_a_job_that_was_trained_on_by_itself_is_told(command):
    """Bug: a job of 300 steps and one of 600 were one row "over 2 seeds", without a word."""
    place = only_sweep(command(*JOBS))
    assert command("resume", place / "00_seed-0", "total_steps=600", "progress=false").code == 0
    outcome = command("resume", place)
    assert outcome.code == 0 and "00_seed-0 was trained on by itself to 600 steps" in outcome.err


def test_a_plan_too_large_to_be_read_is_refused_before_anything_is_made(command, monkeypatch):
    """Bug: a sweep of 8,000 jobs wrote a plan of 18 MB, which neither a job nor `resume` could read."""
    monkeypatch.setattr(inside, "JSON_BYTES", 3000)
    outcome = command(*JOBS)
    assert outcome.code == 2 and "the plan of the 2 jobs has " in outcome.last_line, outcome.err
    assert not list(outcome.run_dir.glob("sweeps/*"))


def test_a_plan_that_is_nested_too_deep_is_damaged(tmp_path):
    """Bug: RecursionError, a bug in rltrain, when such a sweep was extended."""
    theirs = plan(tmp_path, {"x": "1"})
    theirs.save()
    path = tmp_path / sweep.PLAN
    text = json.dumps(json.loads(path.read_text()))
    path.write_text(text.replace('"env": {}', '"env": ' + "[" * 600 + "]" * 600).replace('"digest"', '"other"'))
    with pytest.raises(CheckpointError, match="cannot be read"):
        sweep.load(tmp_path)


def test_jobs_with_other_settings_are_other_rows_of_an_extended_sweep(command, tmp_path):
    """Bug: taxi and maze, or two learning rates, as one row "over 4 runs"; the rows of the first command were lost."""
    words = ["-m", "algo=q_learning", "seed=0,1", "total_steps=300", "hydra.sweep.dir=all", *QUICK]
    for further in (["env=maze"], ["env=frozen_lake"], ["env=maze", "algo.gamma=0.5"]):
        outcome = command(*words, *further, "skip_done=true" if (tmp_path / "all").exists() else "fail_fast=false")
        assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader((tmp_path / "all" / "sweep.csv").read_text().splitlines()))
    assert sorted((row["env"], row["algo.gamma"], row["jobs"], row["done"]) for row in rows) == [
        ("frozen_lake", "0.99", "2", "2"),
        ("maze", "0.5", "2", "2"),
        ("maze", "0.99", "2", "2"),
    ]
    drawn = command("plot", "all", "out=a.png")
    assert drawn.code == 0 and drawn.out.count("2 seeds") == 3, drawn.out


def test_jobs_of_a_source_that_was_trained_on_are_another_row(command):
    """Bug: init_from=A was one row of jobs that began with A's step 100 and of others with its step 200."""
    source = ["algo=q_learning", "env=maze", "total_steps=100", "name=source", *QUICK]
    assert command(*source).code == 0
    words = [
        "-m",
        "algo=q_learning",
        "env=maze",
        "total_steps=100",
        "hydra.sweep.dir=all",
        *QUICK,
        "init_from=source,null",
    ]
    assert command(*words, "seed=0,1").code == 0
    assert command("resume", "source", "total_steps=200", "progress=false").code == 0
    assert command(*words, "seed=0,1", "skip_done=true").code == 0
    rows = list(csv.DictReader(Path("all/sweep.csv").read_text().splitlines()))
    found = {row["init_from"].rpartition("/")[2]: row["jobs"] for row in rows}
    assert found == {"step_000000100": "2", "step_000000200": "2", "null": "2"}
    assert command(*words, "seed=0,-1", "skip_done=true").code == 1  # a job without settings keeps what was typed
    rows = list(csv.DictReader(Path("all/sweep.csv").read_text().splitlines()))
    assert sum(int(row["jobs"]) for row in rows if row["init_from"] in ("source", "null")) == 4, rows


def test_a_sweep_of_somebody_else_moves_no_link(command, tmp_path):
    """Bug: `resume SWEEP` let the link `latest` of any folder, which the plan calls its run_dir, point to a job."""
    assert command(*JOBS).code == 0
    place = (tmp_path / "runs" / "latest").resolve().parent
    (tmp_path / "releases" / "v1").mkdir(parents=True)
    (tmp_path / "releases" / "latest").symlink_to("v1")
    theirs = shutil.copytree(place, tmp_path / "theirs")
    shutil.rmtree(theirs / "00_seed-0")
    content = (theirs / sweep.PLAN).read_text()
    edited = content.replace('"run_dir": "runs"', f'"run_dir": "{tmp_path}/releases"')
    assert edited != content
    edited = edited.replace('"digest"', '"checksum"')  # they can make one that is right, too
    (theirs / sweep.PLAN).write_text(edited)
    outcome = command("resume", theirs)
    assert outcome.code == 0 and (theirs / "00_seed-0" / "result.json").exists(), outcome.err
    assert os.readlink(tmp_path / "releases" / "latest") == "v1"


@pytest.mark.parametrize("name", ["../out", "/tmp/out", ".", "link/out"])
def test_a_plan_writes_nothing_outside_its_sweep(name, command, tmp_path):
    """Bug: the plan of somebody else's sweep makes folders anywhere."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "link").symlink_to(tmp_path)
    theirs = plan(place, {})
    theirs.jobs[0].folder = name
    theirs.save()
    outcome = command("resume", place)
    assert outcome.code == 3 and "the plan of the sweep is damaged" in outcome.last_line
    (place / sweep.PLAN).write_text('{"jobs": 3')
    assert command("resume", place).code == 3
    assert sorted(path.name for path in place.iterdir()) == ["link", sweep.PLAN]


def test_a_sweep_imports_no_module_that_the_command_does_not_name(command, tmp_path):
    """Bug: resume of somebody else's sweep runs their code."""
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    place = tmp_path / "theirs"
    place.mkdir()
    theirs = plan(place, {})
    algo, env = QLearningConfig(), GymConfig(name="x", id="evil:X-v0")
    theirs.jobs[0].config = dataclasses.asdict(RunConfig(algo=algo, env=env))
    theirs.save()
    outcome = command("resume", place)
    assert outcome.code == 2 and "would import the module 'evil'" in outcome.last_line, outcome.err


def test_another_sweep_that_starts_meanwhile_is_left_alone(command, monkeypatch):
    """Bugs: its multirun.yaml removed by a sweep that was refused; its folder reported as one's own."""
    other = Path("runs/sweeps/20000101-000000-000000")

    def start_other(*args):
        other.mkdir(parents=True, exist_ok=True)
        (other / "multirun.yaml").touch()
        return original(*args)

    original = hydra_app.normalise
    monkeypatch.setattr(hydra_app, "normalise", start_other)
    refused = command(*JOBS[:3], "seed=0,x")
    assert refused.code == 2, refused.err
    assert (other / "multirun.yaml").is_file() and os.listdir("runs/sweeps") == [other.name]
    done = command(*JOBS)
    assert done.code == 0 and "2 of 2 jobs done" in done.err, done.err


def test_every_run_of_a_mixed_sweep_has_what_varies_and_its_scores_in_the_hparams_tab(command):
    """Bug: the algorithm, the seed and the final score are hidden among sixty columns."""
    varied = ["algo=q_learning,sarsa", "seed=1", "eval_every_steps=100"]
    outcome = command("-m", "env=frozen_lake", *varied, "total_steps=200", *QUICK)
    assert outcome.code == 0, outcome.err
    folders = sorted(path.parent for path in outcome.run_dir.rglob("sweeps/*/*/result.json"))
    assert len(folders) == 2
    seen = set()
    for folder in folders:
        (events,) = folder.glob("events.out.tfevents.*")
        values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
        content = {
            value.tag: value.metadata.plugin_data.content for value in values if value.tag.startswith("_hparams_")
        }
        experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
        assert [info.name for info in experiment.hparam_infos if info.differs] == ["algo", "env", "seed"]
        assert [info.name.tag for info in experiment.metric_infos][:2] == ["final/mean_reward", "best/mean_reward"]
        own = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]).hparams
        seen.add((own["algo"].string_value, own["env"].string_value))
        assert own["seed"].number_value == 1
        result = json.loads((folder / "result.json").read_text())
        for which in ("final", "best"):
            (score,) = (value.tensor.float_val[0] for value in values if value.tag == f"{which}/mean_reward")
            assert score == pytest.approx(result[which]["mean_reward"])
    assert seen == {("q_learning", "frozen_lake"), ("sarsa", "frozen_lake")}


def test_control_characters_of_a_sweep_from_somebody_else_are_shown_and_not_sent(tmp_path, capfd):
    """Bug: the reason in a job's status.json, or what varies, moves the cursor."""
    found = plan(tmp_path, {"x": "\x1b[2J"}, {"x": "2"}, {"x": "\x1b[2J"})
    ended(tmp_path / "00", "done", 1.0)
    ended(tmp_path / "01", "failed", reason="\x1b]0;mine\x07")
    ended(tmp_path / "02", "done", 1.0)
    sweep.report(found, found.jobs)
    sweep.Pace(2, 0, 1).begin(dataclasses.replace(found.jobs[0], folder="\x1b[1m"))
    shown = capfd.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown
    assert "\\x1b]0;mine\\x07" in shown


def test_an_attempt_that_is_a_link_is_refused_before_anything_is_written(command, tmp_path):
    """Bugs: `resume SWEEP` trains in the folder outside that `00_again-2` links to; the run there counts as done."""
    place, outside = tmp_path / "theirs", tmp_path / "outside"
    place.mkdir()
    theirs = plan(place, {})
    theirs.jobs[0].config = dataclasses.asdict(RunConfig(algo=QLearningConfig(), env=GymConfig(name="x", id="X-v0")))
    theirs.save()
    (place / "00_again-2").symlink_to(outside)
    ended(outside, "done", 1.0)
    before = {path: path.read_bytes() for path in outside.iterdir()}
    for make in (lambda: None, (outside / "config.yaml").unlink):
        make()
        outcome = command("resume", place)
        assert outcome.code == 3 and "00_again-2 in the run folder is a link instead of a folder" in outcome.last_line
    assert {path: path.read_bytes() for path in outside.iterdir()}.items() < before.items()
    assert not (place / "00").exists() and not (place / "sweep.csv").exists()


@pytest.mark.parametrize("name", ["sweep.csv", "multirun.yaml"])
def test_files_of_the_users_own_are_not_overwritten(name, command, tmp_path, monkeypatch):
    """Bug: `hydra.sweep.dir=MINE` with a table of the user's own overwrote it."""
    monkeypatch.setattr(jobs, "run", lambda *_: 0)
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / name
    path.write_text("mine")
    for words in ([], ["skip_done=true"]):
        outcome = command(*JOBS, f"hydra.sweep.dir={path.parent}", *words)
        assert outcome.code == 2 and f"and no sweep: {path}; hydra.sweep.dir" in outcome.last_line, outcome.err
    assert path.read_text() == "mine" and len(list(path.parent.iterdir())) == 1


def test_a_file_in_the_place_of_a_job_is_told_before_the_first_begins(command, tmp_path):
    """Bugs: "0 failed, 1 not begun" without a reason; `resume SWEEP`: "a bug in rltrain", and no later job ran."""
    place = tmp_path / "mine"
    place.mkdir()
    path = place / "00_seed-0"
    path.write_text("mine")
    for words in ([*JOBS, f"hydra.sweep.dir={place}"], ["resume", place]):
        outcome = command(*words)
        assert outcome.code == 3 and "00_seed-0 in the run folder is a file instead of a folder" in outcome.last_line
    assert path.read_text() == "mine" and not (place / "01_seed-1").exists()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_multirun_yaml_of_somebody_else_is_replaced(kind, command, tmp_path, monkeypatch):
    """Bugs: `skip_done=true` overwrites the file outside that multirun.yaml links to, or waits for a pipe for ever."""
    place, outside = tmp_path / "theirs", tmp_path / "outside.yaml"
    outside.write_text("mine")
    monkeypatch.setattr(jobs, "run", lambda *_: 0)
    place.mkdir()
    path = place / "multirun.yaml"
    path.symlink_to(outside) if kind == "link" else os.mkfifo(path)
    with fails_after(60):
        assert command(*JOBS, f"hydra.sweep.dir={place}", "skip_done=true").code == 0
    assert outside.read_text() == "mine" and inside.is_file(path) and "hydra:" in path.read_text()


def test_a_job_of_other_settings_under_the_same_command_is_refused(command, tmp_path):
    """Bug: `config=my.yaml` was edited, and a job of before ranked beside others: only commands were compared."""
    assert command(*JOBS, "hydra.sweep.dir=all").code == 0
    settings = tmp_path / "all" / "00_seed-0" / "config.yaml"
    values = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump(values | {"algo": values["algo"] | {"learning_rate": 0.123}}))
    outcome = command("resume", "all")
    assert outcome.code == 3 and f"{settings}; they differ in algo.learning_rate: " in outcome.last_line
    settings.write_text(yaml.safe_dump(values))
    assert command("resume", "all").code == 0, "the control"


@pytest.mark.parametrize(
    "words",
    [
        *("algo=ppo env=cartpole num_envs=4", "algo=a2c env=gym env.id=Pendulum-v1", "algo=dqn env=breakout"),
        *(
            "algo=q_learning env=maze",
            "algo=ppo env=doom env.scenario=deathmatch batch_size=8",
            "algo=d3qn_per env=doom",
        ),
        *("algo=dqn env=atari env.game=pong env.protocol=machado", "algo=ppo env=retro", "algo=ppo env=bipedal_walker"),
    ],
)
def test_what_a_job_resolves_is_no_other_setting(words, command, monkeypatch):
    """Bug: a sweep that refuses its own jobs."""
    found, resolve = [], hydra_app.resolve

    def resolved(config):
        found[:] = config, resolve(config)
        return found[1]

    monkeypatch.setattr(hydra_app, "resolve", resolved)
    monkeypatch.setattr(train, "train", lambda config, folder=None: None)
    assert command(*words.split(), *QUICK).code == 0
    planned, own = (json.loads(json.dumps(dataclasses.asdict(config))) for config in found)
    assert sweep._other_settings(planned, own) == []
    own["algo"]["gamma"] = 0.123
    assert sweep._other_settings(planned, own) == ["algo.gamma"]


def test_what_a_runtime_chooses_is_no_other_setting():
    """Bug: no sweep over `runtime=ray` went on, as its jobs have more environments than the plan says."""
    planned = {"num_envs": None, "algo": {"num_envs": 1, "gamma": 0.9}}
    own = {"num_envs": 8, "algo": {"num_envs": 8, "gamma": 0.9}, "chosen": ["num_envs"]}
    assert sweep._other_settings(planned, own) == []
    assert sweep._other_settings(planned, own | {"chosen": []}) == ["algo.num_envs"]


def test_a_job_that_a_plugin_broke_is_told_as_a_single_run_is(tmp_path, monkeypatch):
    """Bug: a job had code 1, and a plain run code 4 with the module's name, for the same error."""
    monkeypatch.setattr(sweep.plugin_modules, "LOADED", ["mine.parts"])
    sweep.record_failure(tmp_path, TypeError("no number"))
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["exit_code"] == 4 and "outside of your module mine" in status["reason"]
    assert "no number" in (tmp_path / "error.log").read_text()


def test_a_job_without_memory_or_a_file_has_the_code_of_a_single_run(tmp_path):
    for error, code in [(MemoryError(), 6), (FileNotFoundError(2, "No such file", str(tmp_path / "gone")), 3)]:
        sweep.record_failure(tmp_path, error)
        assert json.loads((tmp_path / "status.json").read_text())["exit_code"] == code


@pytest.mark.parametrize(("limit", "other"), [("nan", 1.0), ("inf", math.nan), ("5", 6)])
def test_a_value_that_is_no_number_is_the_same_setting(limit, other):
    """Bug: "the folder holds a run with other settings", as NaN in env.kwargs equals nothing."""
    # Two objects: one NaN would be equal to itself within a dict.
    planned, own = ({"env": {"family": "gym", "kwargs": {"limit": float(text), "size": 3}}} for text in (limit, limit))
    assert sweep._other_settings(planned, own) == []
    own["env"]["kwargs"]["limit"] = other
    assert sweep._other_settings(planned, own) == ["env.kwargs"]


def test_a_cfg_that_was_edited_since_a_job_began_is_told_once(tmp_path, capfd):
    """Bug: the jobs left were trained in another game and stood in one row with the done ones; nothing was said."""
    cfg = tmp_path / "my.cfg"
    cfg.write_text("living_reward = 1")
    found = plan(tmp_path, *({"x": str(number)} for number in range(4)))
    for job, content in zip(
        found.jobs, [None, cfg.read_text(), "living_reward = -1", "living_reward = -1"], strict=True
    ):
        job.config = {"env": {"cfg": str(cfg)}}
        ended(tmp_path / job.folder, "done", 1.0)
        if content is not None:
            (tmp_path / job.folder / "code").mkdir()
            (tmp_path / job.folder / "code" / "game.cfg").write_text(content)
            (tmp_path / job.folder / "meta.json").write_text("{}")
    found.tell_edited()
    (line,) = capfd.readouterr().err.splitlines()
    assert f"the run began with other settings of the game: {cfg} differs from {tmp_path / '02'}" in line
    found.told.clear()
    (tmp_path / "02" / "result.json").unlink()
    jobs.run(found, found.jobs, False, run_one=lambda job: None)
    assert line in capfd.readouterr().err, "a sweep that goes on tells it"


@pytest.mark.parametrize("at_once", [0, 1])
def test_a_module_that_was_edited_since_a_job_began_is_told_once(at_once, capfd, tmp_path, monkeypatch):
    """Bug: later jobs side by side played another game, and one row of the table had both."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "game_of_jobs.py").write_text("R = 10")
    found = plan(tmp_path, {"x": "0"}, {"x": "1"})
    found.at_once = at_once
    for job in found.jobs:
        job.config = {"env": {"id": "game_of_jobs:Game-v0"}, "plugins": []}
    (tmp_path / "00" / "code").mkdir(parents=True)
    (tmp_path / "00" / "meta.json").write_text("{}")
    (tmp_path / "00" / "code" / "game_of_jobs.py").write_text("R = 1")
    for _ in range(2):
        found.tell_edited()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == at_once, "one after the other they use what this process has imported"
    assert all("a job began with other code: " in line for line in lines)


def test_a_sweep_in_the_processes_of_torchs_launcher_is_refused(command, monkeypatch):
    """Bug: each process ran the sweep, in one folder, and every job failed."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    outcome = command(*JOBS)
    assert outcome.code == 2 and "a job of a sweep is one process; torchrun" in outcome.last_line


def test_the_plan_of_a_sweep_holds_the_whole_path_of_a_cfg(command, tmp_path, monkeypatch):
    """Bug: `resume` from another project's folder took the file of the same name there."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
        scenarios = Path(vizdoom.scenarios_path)
        for name in ("basic.cfg", "basic.wad"):
            shutil.copy(scenarios / name, place / f"{'my.cfg' if name == 'basic.cfg' else name}")
    monkeypatch.chdir(here)
    monkeypatch.setattr(hydra_sweep.jobs_of, "run", lambda *_: 0)
    assert command("-m", "algo=ppo", "env=doom", "env.cfg=my.cfg", "seed=0,1", *QUICK, "hydra.sweep.dir=all").code == 0
    assert {job.config["env"]["cfg"] for job in sweep.load(here / "all").jobs} == {str(here / "my.cfg")}
    monkeypatch.chdir(there)
    outcome = command("resume", here / "all", "env.cfg=my.cfg")
    assert outcome.code == 2 and outcome.last_line.endswith(f"add env.cfg={here / 'my.cfg'}")


def test_a_job_whose_log_is_another_users_fails_alone(monkeypatch, capfd, tmp_path):
    """Bug: "PermissionError; a bug in rltrain": the table was missing, and no later job was begun."""
    found = plan(tmp_path, {"x": "0"}, {"x": "1"})
    found.at_once = 1
    found.save()
    begun = []
    started = SimpleNamespace(Popen=lambda words, **_: begun.append(words[-2]) or Ended(), PIPE=None)
    monkeypatch.setattr(side_by_side.keeper, "subprocess", started)
    log = tmp_path / "00.log"
    log.touch()
    with rights.without(log):
        code = jobs.run(found, found.jobs, fail_fast=False)
    assert code == 1 and begun == ["1"]
    assert "job failed: 00: the log of the job cannot be written: Permission denied" in capfd.readouterr().err


def test_a_job_of_a_sweep_whose_folder_was_moved_is_one_line(tmp_path, capfd):
    """Bug: a traceback of the job's process, told as the reason."""
    found = plan(tmp_path, {"x": "0"})
    found.at_once = 1
    found.jobs[0].config = {}
    assert jobs.run(found, found.jobs, fail_fast=False) == 1
    assert "job failed: 00: the sweep's plan is gone; " in capfd.readouterr().err
    with side_by_side.keeper.start(tmp_path / "00.log", 1, side_by_side.arguments(found, found.jobs[0])) as job:
        job.wait(60)  # it was moved a moment later
    last = (tmp_path / "00.log").read_text().splitlines()[-1]
    assert job.returncode == 3 and last.startswith("rltrain: error: ") and str(tmp_path) in last


class Ended:
    """A process that has ended."""

    returncode = 1

    def poll(self):
        return self.returncode


def test_a_sweep_makes_no_folder_beside_a_project_with_signs_of_hydra(command, tmp_path, monkeypatch):
    """Bug: `exp_0` and `exp_1`, empty."""
    (tmp_path / "exp_${seed}").mkdir()
    monkeypatch.chdir(tmp_path / "exp_${seed}")
    assert command(*JOBS).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["exp_${seed}"]


def test_a_job_whose_folder_is_another_users_fails_alone(command, tmp_path):
    """Bug: "PermissionError; a bug in rltrain" from Path.exists, for the whole sweep."""
    assert command(*JOBS, "hydra.sweep.dir=all").code == 0
    shutil.rmtree(tmp_path / "all" / "01_seed-1")
    with rights.without(tmp_path / "all" / "00_seed-0"):
        outcome = command("resume", "all")
    assert outcome.code == 1 and "rltrain: job failed: 00_seed-0: " in outcome.err
    assert outcome.last_line.startswith("1 of 2 jobs done, 0 failed, 1 not begun; continue with: ")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_log_of_a_job_side_by_side_is_a_file_of_the_sweep(kind, command, tmp_path):
    """Bugs: a job's output goes to the file outside that its log links to; `resume SWEEP` waits for a pipe for ever."""
    place, outside = tmp_path / "theirs", tmp_path / "outside.log"
    outside.write_text("mine")
    place.mkdir()
    theirs = plan(place, {})
    theirs.at_once = 1
    theirs.jobs[0].config = dataclasses.asdict(RunConfig(algo=QLearningConfig(), env=GymConfig(name="x", id="X-v0")))
    theirs.save()
    (place / "00.log").symlink_to(outside) if kind == "link" else os.mkfifo(place / "00.log")
    with fails_after(10):
        outcome = command("resume", place)
    assert outcome.code == 3 and "00.log in the run folder is a " in outcome.last_line
    assert outside.read_text() == "mine"


def test_values_of_a_sweep_from_somebody_else_that_no_machine_can_hold(command, tmp_path, capfd):
    """Bugs: a traceback for a number of jobs or a score beyond a float, and for a folder's name that is too long."""
    place = tmp_path / "theirs"
    place.mkdir()
    theirs = plan(place, {"x": "1"})
    for name, at_once in (("00", "1e999"), ("00", "NaN"), ("x" * 300, "0"), ("x" * 250, "0"), ("x/" * 3000, "0")):
        theirs.jobs[0].folder = name
        theirs.save()
        path = place / sweep.PLAN
        path.write_text(path.read_text().replace('"at_once": 0', f'"at_once": {at_once}'))
        outcome = command("resume", place)
        assert outcome.code == 3 and "the plan of the sweep " in outcome.last_line, outcome.err
        assert len(outcome.err.splitlines()) == 1 and [path.name for path in place.iterdir()] == [sweep.PLAN]
    theirs.jobs[0].folder = "00"
    ended(place / "00", "done", 1.0)
    for std in (10**400, "x", None):
        (place / "00" / "result.json").write_text(json.dumps({"final": {"mean_reward": 1.0, "std_reward": std}}))
        assert sweep.report(theirs, theirs.jobs) == 0
    for mean in (10**400, float("nan"), float("inf")):
        (place / "00" / "result.json").write_text(json.dumps({"final": {"mean_reward": mean}}))
        assert sweep.report(theirs, theirs.jobs) == 1
        assert "0 of 1 jobs done, 1 failed" in capfd.readouterr().err


def test_progress_of_a_resumed_sweep_reaches_every_job(tmp_path, monkeypatch):
    """Bugs: `resume SWEEP progress=...` changes nothing for jobs side by side, or for jobs that have a checkpoint."""
    config = RunConfig(algo=QLearningConfig(), env=GymConfig(name="x", id="X-v0"))
    theirs = plan(tmp_path, {})
    theirs.jobs[0].config = dataclasses.asdict(config)
    theirs.save()
    theirs.jobs[0].config["progress"] = False  # as `resume` does
    found, job = side_by_side._job_of(side_by_side.arguments(theirs, theirs.jobs[0]))
    assert job.config == theirs.jobs[0].config
    (tmp_path / "00").mkdir()
    saved_config.save(config, tmp_path / "00" / "config.yaml")
    monkeypatch.setattr(checkpoint, "resumable", lambda _: True)
    monkeypatch.setattr(sweep, "check_environment", lambda _: None)
    seen = []
    monkeypatch.setattr(train, "resume", lambda config, *_: seen.append(config.progress))
    sweep._train(found, job, None)
    assert seen == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_job_that_a_stop_signal_ends_before_it_can_answer_has_not_failed(number, tmp_path):
    """Bug: a job that was just starting when SIGHUP stopped the sweep counts as failed."""
    found = plan(tmp_path, {})
    side_by_side.check(found, found.jobs[0], -number, stopping=True)
    assert found.state(found.jobs[0]) == ("not begun", "")
    side_by_side.check(found, found.jobs[0], -number, stopping=False)
    assert found.state(found.jobs[0])[0] == "failed"


def test_jobs_in_a_queue_are_reported_and_continued_there(tmp_path, capfd):
    """Bugs: a traceback for one job that the queue has killed; `resume` offered, which would train on this machine; a
    queue that is asked to run no jobs."""
    found = plan(tmp_path, {"x": "1"}, {"x": "2"}, {"x": "3"})
    ended(tmp_path / "00", "done", 1.0)
    put = []

    def killed(todo):
        put.append([job.folder for job in todo])
        ended(tmp_path / "01", "done", 1.0)
        raise RuntimeError("Job 7 was killed\nmore")

    assert jobs.run(found, found.jobs, False, run_all=killed) == 1
    assert put == [["01", "02"]]
    lines = capfd.readouterr().err.splitlines()
    assert "rltrain: warning: the launcher waits no longer: RuntimeError: Job 7 was killed more; other jobs" in lines[1]
    assert lines[-1].endswith("1 not begun; continue with: the same command and skip_done=true")
    ended(tmp_path / "02", "done", 1.0)
    assert jobs.run(found, found.jobs, False, run_all=killed) == 0 and len(put) == 1


def test_a_signal_while_jobs_are_in_a_queue_leaves_them_there(tmp_path):
    """Bug: the last line says that all is saved, while the jobs go on."""
    found = plan(tmp_path, {})
    with pytest.raises(Stopped, match="its jobs stay in the queue; if you cancel them, go on with the same command"):
        jobs.run(found, found.jobs, False, run_all=lambda todo: os.kill(os.getpid(), signal.SIGINT))
    run_folder.Lock(tmp_path).release()


def test_a_job_saves_before_a_launchers_handler_takes_it_away(command, monkeypatch):
    """Bug: submitit answers SIGUSR2 in the middle of training, so that a job loses all since its last checkpoint, or
    counts as failed."""
    original, sent, seen = Run.advance, [], []

    def advance(self, num_steps, episodes):
        original(self, num_steps, episodes)
        if not sent:
            sent.append(self.step)
            os.kill(os.getpid(), signal.SIGUSR2)

    def take_away(number, frame):
        (status,) = Path("runs/sweeps").glob("*/00_seed-0/status.json")
        seen.append((number, json.loads(status.read_text())))

    monkeypatch.setattr(Run, "advance", advance)
    before = signal.signal(signal.SIGUSR2, take_away)
    try:
        assert command(*JOBS).code == 143
        assert signal.getsignal(signal.SIGUSR2) == take_away
    finally:
        signal.signal(signal.SIGUSR2, before)
    ((number, status),) = seen
    assert number == signal.SIGUSR2 and status["state"] == "stopped" and status["step"] >= sent[0] > 0


def test_a_job_is_composed_where_the_variables_of_the_sweep_are_unknown(command, monkeypatch):
    """Bug: on another machine a launcher composes a job that reads RLTRAIN_SWEEP_TIME, which is set for the sweep's own
    process only."""
    launch = hydra_sweep.Sweeper._launch

    def elsewhere(self, found):
        monkeypatch.delenv("RLTRAIN_SWEEP_TIME", raising=False)
        launch(self, found)

    monkeypatch.setattr(hydra_sweep.Sweeper, "_launch", elsewhere)
    assert command(*JOBS).code == 0
