"""Files and folders that this user may not read, such as those of a colleague: no command takes them for a bug."""

import errno
import os
import shutil

import pytest
import rights
from small_runs import TABLE

from rltrain import cli, errors
from rltrain.system import notices

QUICK = TABLE
PARTS = [
    *(".", "runs", "run", "run/config.yaml", "run/meta.json", "run/status.json", "run/result.json", "run/.lock"),
    *("run/metrics.jsonl", "run/episodes.csv", "run/command.txt", "run/checkpoints", "run/checkpoints/last"),
    *("run/checkpoints/last/manifest.json", "run/checkpoints/last/state.json", "run/code", "run/eval"),
]
COMMANDS = [
    *(["runs"], ["plot", "runs"], ["plot", "{run}"], ["eval", "{run}", "episodes=1"], ["eval", "last", "episodes=1"]),
    *(["resume", "{run}", "total_steps=400"], ["reproduce", "{run}", "dry_run=true"], ["resume", "nosuch"]),
    *(["play", "{run}", "episodes=1", "out=film.gif"], ["export", "{run}"], ["list"], ["runs", "run_dir=nosuch"]),
    *([*QUICK, "config={run}", "dry_run=true"], [*QUICK, "init_from=last", "dry_run=true"], QUICK),
    *(["eval", "{run}", "episodes=1", "plugins=[nosuch_private]"], ["plot", "{run}", "out={run}/a.png"]),
]


@pytest.fixture
def run(made, tmp_path):
    place = tmp_path / "runs" / "maze" / "q_learning" / "20250101-000000-000000-s0"
    shutil.copytree(made, place, symlinks=True)
    (tmp_path / "runs" / "latest").symlink_to(place.relative_to(tmp_path / "runs"))
    for name in ("code", "eval"):
        (place / name).mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize("part", PARTS)
def test_every_command_beside_what_may_not_be_read(run, tmp_path, command, part):
    """Bug: "PermissionError; a bug in rltrain" where Path.exists, a reader or a log met a private folder."""
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "runs", whole, symlinks=True)
    for words in COMMANDS:
        path = (
            run / part.removeprefix("run").strip("/") if part.startswith("run/") or part == "run" else tmp_path / part
        )
        with rights.without(path):
            outcome = command(*(word.replace("{run}", str(run)) for word in words))
        assert "a bug" not in outcome.err and outcome.code in (0, 2, 3, 7), (words, outcome.err)
        shutil.rmtree(tmp_path / "runs")
        shutil.copytree(whole, tmp_path / "runs", symlinks=True)


def test_last_is_the_newest_run_that_can_be_read(run, command):
    """Bug: `latest` led to a colleague's private run, and `last` ended with a traceback; a training, too."""
    theirs = run.parent.parent / "theirs" / run.name.replace("2025", "2026")
    shutil.copytree(run, theirs, symlinks=True)
    latest = run.parents[2] / "latest"
    latest.unlink()
    latest.symlink_to(theirs.relative_to(latest.parent))
    for private in (theirs.parent, theirs, theirs / "config.yaml"):
        notices._told.clear()
        with rights.without(private):
            outcome = command("eval", "last", "episodes=1")
        assert outcome.code == 0 and str(run) in outcome.out
        assert "latest: it points to a run that cannot be read; `last` is now the newest run" in outcome.err
    with rights.without(theirs):
        assert command(*QUICK).code == 0
    assert latest.resolve() not in (run, theirs)


def test_a_run_of_which_nothing_is_known_is_refused_in_words(run, command):
    """Bug: "there is no such run" of a run that is there but private."""
    with rights.without(run):
        assert "the run cannot be read: Permission denied; " in command("eval", run).last_line


def test_links_that_lead_to_each_other(tmp_path, command):
    """Bug: "RuntimeError: Symlink loop; a bug in rltrain"."""
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).symlink_to(other)
    for words in (["plot", "a"], ["runs", "run_dir=a"], ["eval", "a"], ["resume", "a"]):
        outcome = command(*words)
        assert outcome.code == 3 and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((errno.EACCES, 3), (errno.EPERM, 3), (errno.ELOOP, 3), (errno.ENOTDIR, 3), (errno.ESTALE, 3)),
        *((errno.EIO, 3), (errno.ENAMETOOLONG, 3), (errno.ENOENT, 3), (errno.ENOSPC, 7), (errno.EROFS, 7)),
    ],
)
def test_a_file_that_the_system_refuses_is_no_bug(command, monkeypatch, tmp_path, number, code):
    """Bug: an error of a file that nobody expected was "a bug in rltrain"; one of rltrain's own code is one."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "mine.csv").touch()

    def refuse(argv):
        raise OSError(number, os.strerror(number), place)

    monkeypatch.setattr(cli, "_route", refuse)
    place = str(hidden / "mine.csv")
    with rights.without(hidden):
        outcome = command("runs")
    assert outcome.code == code and len(outcome.err.splitlines()) == 1
    assert f": {os.strerror(number)}; {place}; " in outcome.last_line
    place = errors.__file__
    outcome = command("runs")
    assert outcome.code == 1 and "a bug in rltrain" in outcome.last_line


def test_a_file_that_is_there_already_is_no_fault_of_its_place(tmp_path):
    """Bug: every OSError with a path lost its traceback, also those of our own mistakes."""
    assert errors.of_a_file(FileExistsError(errno.EEXIST, "File exists", str(tmp_path))) is None


def test_a_place_that_may_be_read_but_not_written_is_code_7(tmp_path):
    error = errors.of_a_file(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "new")))
    assert error.exit_code == 7 and "use a folder that you may write to" in str(error)
