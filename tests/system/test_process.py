"""A command ends when it is done, and needs a working directory."""

import os
import subprocess
import sys

import pytest

from rltrain.errors import DiskError
from rltrain.system import out_of_memory, ram


def test_a_thread_that_an_environment_left_does_not_keep_the_process(tmp_path):
    """Bug: after "done" the process waits for a thread that never ends."""
    code = (
        "import sys, threading; from rltrain.system import process; process._EXIT_S = 0.2\n"
        "threading.Thread(target=threading.Event().wait).start(); process.end_soon(5); sys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 5


def test_a_working_directory_that_was_deleted_is_one_line(command, tmp_path, monkeypatch):
    """Bug: a traceback of FileNotFoundError from inside Hydra."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    for words in (["runs"], ["algo=ppo", "env=cartpole"]):
        done = command(*words)
        assert done.code == 2
        assert "the working directory was deleted" in done.last_line
    monkeypatch.chdir(tmp_path)


def test_shared_memory_that_is_too_small_is_told_before_it_is_used(monkeypatch):
    """Bug: a bus error, without any message."""
    with pytest.raises(DiskError, match=r"8 Doom engines need .* MB of shared memory"):
        ram.require_shared(10**15, "8 Doom engines need", "use a smaller num_envs")
    ram.require_shared(1, "one engine needs", "")


def test_errors_of_loading_a_library_without_address_space_are_shortages():
    """Bug: `ulimit -v` ends an import with "a bug in rltrain"."""
    assert out_of_memory.is_shortage(ImportError("libx.so: failed to map segment from shared object"))
    assert out_of_memory.is_shortage(OSError(12, "Cannot allocate memory"))
    assert not out_of_memory.is_shortage(ImportError("No module named x"))
