"""Ctrl-C where nothing is kept yet: one line with the right words, code 130, and no half-made run folder."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from small_runs import TABLE

from rltrain import cli
from rltrain.commands import doctor
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.system import signals


@pytest.fixture
def interrupts(monkeypatch):
    """SIGINT is handled as in a process of rltrain."""
    before = signal.signal(signal.SIGINT, signals.interrupt)
    yield signals.interrupts
    signal.signal(signal.SIGINT, before)
    signals.interrupts.clear()


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path):
    """Bug: a traceback in the first second."""
    code = """
import sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "rltrain.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from rltrain.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "\nrltrain: error: stopped by Ctrl-C (SIGINT); before the run began; start it again\n"


@pytest.mark.parametrize(
    ("argv", "where"),
    [
        (["algo=ppo", "env=cartpole"], "before the run began"),
        (["plot", "runs"], "rltrain plot"),
        (["list"], "rltrain list"),
    ],
)
@pytest.mark.parametrize("becomes", [KeyboardInterrupt, ImportError])
def test_an_interrupt_before_anything_began_is_one_line(argv, where, becomes, command, monkeypatch, interrupts):
    """Bugs: "before the run started" of a command that starts none; a library makes another error of it: code 1."""

    def interrupted(*args):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise becomes from error

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    monkeypatch.setattr(cli, "_compose", interrupted)
    outcome = command(*argv)
    assert outcome.code == 130
    assert outcome.err == f"rltrain: error: stopped by Ctrl-C (SIGINT); {where}; start it again\n"
    assert not outcome.run_dir.exists()


def test_an_interrupt_that_a_library_swallowed_stops_the_run_before_it_begins(command, interrupts):
    interrupts.append(signal.SIGINT)
    outcome = command(*TABLE)
    assert outcome.code == 130 and "before the run began" in outcome.last_line
    assert not outcome.run_dir.exists()


def test_an_interrupt_while_the_run_folder_is_made_is_answered_by_the_run(command, monkeypatch, interrupts):
    """Bug: half of a run folder stays, without a status and without a checkpoint."""
    create = run_folder.create

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return create(*args)

    monkeypatch.setattr(run_folder, "create", interrupted)
    outcome = command(*TABLE, "total_steps=1e7")
    assert outcome.code == 130, outcome.err
    assert "all is saved, resume with: rltrain resume" in outcome.last_line
    assert outcome.json("status.json")["state"] == "stopped"
    assert checkpoint.resumable(outcome.folder)


def test_an_interrupted_doctor_leaves_no_process_and_does_not_wait(command, monkeypatch, interrupts):
    children = []

    def hang(name):
        children.append(subprocess.Popen(["sleep", "60"]))
        children[-1].wait()
        return []

    monkeypatch.setattr(doctor, "_in_process", hang)
    monkeypatch.setattr(doctor, "_torch", list)
    start_s = time.monotonic()
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
    outcome = command("doctor")
    assert outcome.code == 130
    assert outcome.last_line == "rltrain: error: stopped by Ctrl-C (SIGINT); rltrain doctor; start it again"
    assert time.monotonic() - start_s < 10
    assert children and all(child.wait(timeout=5) for child in children)
