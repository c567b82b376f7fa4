"""What is yours survives copying, moving, being read only, and two commands at once."""

import errno
import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from small_runs import TABLE

from rltrain import cli
from rltrain.commands.arguments import is_setting
from rltrain.config import saved as saved_config
from rltrain.errors import FolderInUse
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.logger import Logger
from rltrain.run.run import Run
from rltrain.system import atomic, inside


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run", symlinks=True)


def followed(run):
    """As `cp -rL`, rsync -L and model hubs do."""
    copy = shutil.copytree(run, run.with_name("copy"))
    assert not (copy / "checkpoints" / "last").is_symlink()
    return copy


def as_text(run):
    """As archives unpack on systems without links."""
    for name in ("last", "best"):
        link = run / "checkpoints" / name
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    return run


def lost(run):
    """As cloud storage does."""
    for name in ("last", "best"):
        (run / "checkpoints" / name).unlink()
    return run


def only_last(run):
    copy = followed(run)
    for step in (copy / "checkpoints").glob("step_*"):
        shutil.rmtree(step)
    return copy


@pytest.mark.parametrize("copied", [followed, as_text, lost, only_last])
def test_a_copy_whose_links_are_gone_goes_on(run, command, copied):
    """Bugs: `last` as a folder is "no checkpoint folder"; `eval` calls it `last`; the next checkpoint cannot replace
    it; without links there is no best.
    """
    best = checkpoint.find(run, "best").name
    copy = copied(run)
    if copied is not only_last:
        assert checkpoint.find(copy, "best").name == best
        done = command("eval", copy, "episodes=1")
        assert json.loads(done.out.splitlines()[-1])["checkpoint"] == "step_000000400"
    done = command("resume", copy, "total_steps=500", "progress=false")
    assert done.code == 0, done.err
    assert "resumed at step 400" in done.err
    assert os.readlink(copy / "checkpoints" / "last") == "step_000000500"


def test_last_is_the_newest_run_if_the_one_it_points_to_was_deleted(command, tmp_path):
    """Bug: "there is no such run; ...; give ... or `last`"."""
    for name in ("one", "two"):
        assert command(*TABLE, f"name={name}").code == 0
    shutil.rmtree((tmp_path / "runs" / "latest").resolve())
    done = command("eval", "last", "episodes=1")
    assert done.code == 0, done.err
    assert "points to a run that was deleted" in done.err
    assert json.loads(done.out.splitlines()[-1])["run"].endswith("-one")


def test_last_does_not_lead_out_of_the_folder(command, tmp_path):
    """Bug: in a folder of runs from somebody else, `resume last` went on with a run of the user's elsewhere."""
    for place in ("mine", "runs"):
        assert command(*TABLE, f"run_dir={place}").code == 0
    latest = tmp_path / "runs" / "latest"
    theirs = latest.resolve()
    latest.unlink()
    latest.symlink_to((tmp_path / "mine" / "latest").resolve())
    done = command("eval", "last", "episodes=1")
    assert done.code == 0 and "latest: it leads out of this folder; `last` is now the newest run" in done.err, done.err
    assert json.loads(done.out.splitlines()[-1])["run"] == str(theirs)


@pytest.mark.parametrize("place", ["~/one", "checkpoints/one"])
def test_a_run_is_found_by_its_path(place, command, tmp_path, monkeypatch):
    """Bugs: `~`, which a shell leaves alone after `=`; a run in a folder `checkpoints` was taken for a checkpoint."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    target = tmp_path / place.replace("~", "home")
    target.parent.mkdir()
    command(*TABLE).folder.rename(target)
    done = command("eval", place, "episodes=1")
    assert done.code == 0, done.err
    assert command("plot", place).code == 0


def test_a_run_that_may_only_be_read_is_evaluated(run, command, monkeypatch):
    """Bugs: code 7 after the result was printed; "free some space" for a read-only file system."""
    mkdir = Path.mkdir

    def refused(self, *args, **kwargs):
        if self.is_relative_to(run):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refused)
    done = command("eval", run, "episodes=1")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["episodes"] == 1
    assert "Read-only file system" in done.err and "free some space" not in done.err
    done = command("play", run, "video=true")
    assert done.code == 7 and "out=FILE" in done.last_line
    done = command("play", run, "out=film.gif")
    assert done.code == 0, done.err
    assert Path("film.gif").stat().st_size > 0


def test_what_a_checkpoint_counts_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """Bug: kill -9 between a checkpoint and the next log loses episodes that the checkpoint has counted."""
    seen = []
    original = checkpoint.save

    def save(folder, step, state, **kwargs):
        if kwargs.get("complete", True):
            counted = state["run"]["num_episodes"]
            seen.append((counted, len((folder / "episodes.csv").read_text().splitlines()) - 1))
        return original(folder, step, state, **kwargs)

    monkeypatch.setattr(checkpoint, "save", save)
    assert cli.run([*TABLE, "checkpoint_every_steps=30", "log_every_steps=400", f"run_dir={tmp_path}"]) == 0
    assert len(seen) > 5 and seen[-1][0] > 5
    assert all(counted == written for counted, written in seen)


def test_the_logs_are_synced_before_the_checkpoint(monkeypatch, run):
    """Bug: a power failure keeps the checkpoint and loses the lines."""
    order = []
    monkeypatch.setattr(Logger, "sync", lambda self: order.append("sync"))
    monkeypatch.setattr(Run, "_commit", lambda self, state, complete: order.append("commit") or run)
    monkeypatch.setattr(checkpoint, "point", lambda *args: None)
    cli.run(["resume", str(run), "total_steps=410", "progress=false"])
    assert "sync commit" in " ".join(order)


def test_the_loser_of_two_resumes_leaves_nothing(run, command, monkeypatch):
    """Bug: it leaves its config.resume-1.yaml, which the next resume then takes."""
    before = sorted(path.name for path in run.iterdir())
    with run_folder.Lock(run):
        assert command("resume", run, "total_steps=900").code == 8
        assert sorted(path.name for path in run.iterdir()) == before


def test_a_full_disk_at_the_resumed_configuration_leaves_a_run_that_resumes(run, command, monkeypatch):
    """Bug: an empty config.resume-1.yaml, which no command can read."""
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(atomic.os, "fsync", full)
        assert command("resume", run, "total_steps=500").code == 7
    assert not list(run.glob("config.resume*")) and not list(run.glob(".config*"))
    assert command("resume", run, "total_steps=500", "progress=false").code == 0
    assert saved_config.newest(run)[1] == 1


def test_temporary_files_of_a_killed_process_are_swept(run, command):
    """Bugs: `.last-N` stays for ever; what the user keeps under a similar name goes with it."""
    left = [run / ".status.json-12", run / "checkpoints" / ".best-12", run / "checkpoints" / ".partial-000000400-12"]
    mine = [run / ".notes", run / "checkpoints" / ".vscode-server", run / ".notes-1", run / ".backup-20261129"]
    mine += [run / "checkpoints" / ".best-20261129", run / ".status.json-13"]  # folders
    for path in left + mine:
        is_folder = "partial" in path.name or path.name.endswith(("29", "13"))
        path.mkdir() if is_folder else path.write_text("x")
    assert command("resume", run, "total_steps=410", "progress=false").code == 0
    assert not any(map(os.path.lexists, left))
    assert all(path.exists() for path in mine)


def test_a_run_that_is_moved_while_it_trains_resumes_in_its_new_place(command, tmp_path, monkeypatch):
    """Bugs: a traceback from the advice about free space; files in a new folder of the old name."""
    advance = Run.advance

    def moving(self, num_steps, episodes):
        advance(self, num_steps, episodes)
        if self.step >= 200 and self.folder.exists():
            self.folder.rename(tmp_path / "moved")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", moving)
        done = command(*TABLE, "checkpoint_every_steps=100")
    assert done.code == 7
    assert "moved or deleted" in done.last_line
    done = command("resume", tmp_path / "moved", "progress=false")
    assert done.code == 0, done.err


def test_an_environment_may_change_the_working_directory(command, tmp_path, monkeypatch):
    """Bug: with a relative run folder the rest of the run goes elsewhere, or ends with code 7."""
    advance = Run.advance

    def wandering(self, num_steps, episodes):
        advance(self, num_steps, episodes)
        os.chdir("/")

    monkeypatch.setattr(Run, "advance", wandering)
    done = command(*TABLE, "progress=true")
    monkeypatch.chdir(tmp_path)
    assert done.code == 0, done.err
    assert done.json("status.json")["state"] == "done"
    assert "rltrain play runs/frozen_lake/" in done.err  # as seen from where it was started


def test_a_copy_with_nothing_but_the_best_checkpoint_is_evaluated(run, command, tmp_path):
    """Bug: "the run has no checkpoint yet", though `best` was a whole one."""
    (tmp_path / "best" / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "config.yaml", tmp_path / "best")
    shutil.copytree(run / "checkpoints/best", tmp_path / "best/checkpoints/best")
    done = command("eval", tmp_path / "best", "checkpoint=best", "episodes=1")
    assert done.code == 0, done.err
    assert command("eval", tmp_path / "best").last_line.endswith("use checkpoint=best, which an evaluation saved")


def test_a_path_with_an_equals_sign_is_a_run(run, command, tmp_path):
    """Bug: `eval runs/lr=0.1` is "unknown key 'runs/lr'"."""
    run.rename(tmp_path / "lr=0.1")
    for word in (tmp_path / "lr=0.1", "lr=0.1"):
        done = command("eval", word, "episodes=1")
        assert done.code == 0, done.err
    assert command("eval", "learning_rate=0.1").code == 2
    assert is_setting("episodes=1", {"episodes"}) and not is_setting("last", ())


def test_a_run_folder_that_is_a_hard_link_is_not_written_through(run, command, tmp_path):
    """Bug: metrics are appended to a file outside that shares its content with the run's."""
    outside = tmp_path / "outside"
    os.link(run / "metrics.jsonl", outside)
    before = outside.read_text()
    assert command("resume", run, "total_steps=500", "progress=false").code == 0
    assert outside.read_text() == before
    assert inside.is_file(run / "metrics.jsonl")


def test_a_file_of_the_users_called_latest_stays(tmp_path, capfd):
    """Bugs: a training replaces the user's own file `latest` by its link, or says so for each job of a sweep."""
    (tmp_path / "latest").write_text("mine")
    for name in "ab":
        run_folder._point_latest(tmp_path, tmp_path / name)
    assert (tmp_path / "latest").read_text() == "mine"
    assert capfd.readouterr().err.count("it is no link, so it stays as it is") == 1
    (tmp_path / "latest").unlink()
    for name in "ab":
        run_folder._point_latest(tmp_path, tmp_path / name)
        assert os.readlink(tmp_path / "latest") == name
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
    (tmp_path / ".latest-backup").mkdir()
    (tmp_path / ".latest-7").write_text("mine")
    (tmp_path / ".latest-8").symlink_to("gone")  # a killed process's
    for path in tmp_path.glob(".latest-*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    run_folder._point_latest(tmp_path, tmp_path / "c")
    assert os.readlink(tmp_path / "latest") == "c", "a folder of the user's keeps the link from moving"
    assert {path.name for path in tmp_path.iterdir()} == {"latest", ".latest-backup", ".latest-7"}


def test_a_link_of_the_users_called_latest_stays(command, tmp_path):
    """Bug: a training replaced the user's own link by its own in silence, and `last` was no run."""
    runs = tmp_path / "runs"
    (runs / "release-42").mkdir(parents=True)
    (runs / "latest").symlink_to("release-42")
    first = command(*TABLE)
    assert first.code == 0 and "latest: it is a link to something else than a run, so it stays" in first.err, first.err
    assert os.readlink(runs / "latest") == "release-42"
    done = command("eval", "last", "episodes=1")
    assert done.code == 0 and "something else than a run; `last` is now the newest run" in done.err, done.err


def test_a_lock_whose_file_an_environment_closed_is_let_go(tmp_path):
    """Bug: "a bug in rltrain" at the end of a finished run, as the environment had closed all files."""
    lock = run_folder.Lock(tmp_path)
    os.close(lock._file.fileno())
    lock.release()
    with run_folder.Lock(tmp_path):
        pass


def test_the_newest_run_is_that_of_its_time_not_of_its_name(tmp_path):
    """Bug: names have the local time, so without `latest` a run of Tokyo was newer than a later one of Los Angeles."""
    runs = {
        "20261130-064121-950141-s1": "2026-11-30T06:41:21+09:00",
        "20261129-134124-265213-s2": "2026-11-29T13:41:24-08:00",
        "20261101-000000-000000-s3": None,
    }
    for name, created in runs.items():
        place = tmp_path / "cartpole" / "ppo" / name
        place.mkdir(parents=True)
        (place / "config.yaml").write_text("seed: 0\n")
        (place / "meta.json").write_text(json.dumps({"created": created}))
    assert run_folder.find("last", str(tmp_path))[0].name.endswith("-s2")


@pytest.mark.parametrize("change", ["none", "spreadsheet", "cut", "other"])
def test_a_log_that_is_not_that_of_the_checkpoint_is_told(change, run, command):
    """Bug: with the checkpoints of another branch copied over it, a run went on with a history of another agent."""
    path = run / "episodes.csv"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) > 20
    changed = {
        "none": lines,
        "spreadsheet": [lines[0], *(line.replace(",", ".0,", 1) for line in lines[1:])],
        "cut": lines[:-1],
        "other": [*lines[:-2], lines[-1], lines[-2]],
    }
    path.write_text("".join(changed[change]))
    done = command("resume", run, "total_steps=500", "progress=false")
    assert done.code == 0, done.err
    assert ("episodes.csv does not end with" in done.err) == (change in ("cut", "other")), done.err


@pytest.mark.parametrize("other", [False, True])
def test_a_lock_whose_file_a_clean_up_removed_is_taken_again(other, command, monkeypatch, tmp_path):
    """Bug: after `find runs -empty -delete`, a `resume` trained in the folder beside the training, both to the end."""
    locks, save = [], Run.save

    def cleaned(self):
        if not locks:
            assert (self.folder / ".lock").stat().st_size > 0, "find -empty -delete leaves it"
            (self.folder / ".lock").unlink()
            locks.append(run_folder.Lock(self.folder) if other else None)
            if other:
                run_folder._held.remove(locks[0])  # that of another process
        save(self)
        if not other:
            with pytest.raises(FolderInUse):
                run_folder.Lock(self.folder)

    monkeypatch.setattr(Run, "save", cleaned)
    done = command(*TABLE, "total_steps=400", "checkpoint_every_steps=100", "progress=false")
    assert done.code == (8 if other else 0), done.err
    status = json.loads((done.folder / "status.json").read_text())["state"]
    assert status == ("running" if other else "done"), "it belongs to the other process"
    assert "another process has begun to use this folder" in done.last_line or not other
    for lock in filter(None, locks):
        lock.release()


@pytest.mark.parametrize("whose", ["sweep", "job"])
def test_a_sweep_whose_lock_another_process_took_ends_and_writes_no_more(whose, command, monkeypatch, tmp_path):
    """Bug: its jobs failed one after another, and their states and its table were written into the other's folders."""
    taken, save = [], Run.save

    def cleaned(self):
        if not taken:
            place = self.folder if whose == "job" else self.folder.parent
            (place / ".lock").unlink()
            taken.append(run_folder.Lock(place))
            run_folder._held.remove(taken[0])  # that of another process
            (place / "status.json").write_text('{"state": "theirs"}')
        save(self)

    monkeypatch.setattr(Run, "save", cleaned)
    done = command("-m", "seed=0,1", *TABLE, "hydra.sweep.dir=all")
    assert done.code == 8 and "another process has begun to use this folder" in done.last_line, done.err
    assert not Path("all/sweep.csv").exists() and len(list(Path("all").glob("*/config.yaml"))) == 1
    assert any('"theirs"' in path.read_text() for path in Path("all").rglob("status.json"))
    taken[0].release()


def test_the_lock_of_a_folder_keeps_off_what_is_not_its_own(tmp_path, monkeypatch):
    """Bugs: it closed a file of an environment that had closed all others; an error of a moment ended the training."""
    lock = run_folder.Lock(tmp_path)
    number = lock._file.fileno()
    os.close(number)
    mine = os.open(tmp_path / "mine", os.O_CREAT | os.O_WRONLY)
    assert mine == number
    (tmp_path / ".lock").unlink()
    lock.keep()
    os.write(mine, b"all")
    with pytest.raises(FolderInUse):
        run_folder.Lock(tmp_path)
    (tmp_path / ".lock").unlink()
    monkeypatch.setattr(inside, "open_lock", Mock(side_effect=OSError))
    lock.keep()
    monkeypatch.setattr(run_folder.os, "lstat", Mock(side_effect=NotADirectoryError))
    lock.keep()
    monkeypatch.undo()
    lock.release()
    run_folder._replaced.pop().close()  # and with it `mine`
