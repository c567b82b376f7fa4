"""The cache of compiled code must notice what numba's own does not."""

import os
import subprocess
import sys
import tempfile

import pytest

from rltrain.fast import numba_cache
from rltrain.fast.numba_cache import compiled

MAIN = """
from numba import njit
from rltrain.fast.numba_cache import compiled
from called import value

@{decorator}
def answer():
    return value() + 1

print(answer(), answer.stats.cache_hits[()] if answer.stats.cache_hits else 0)
"""
CALLED = "from numba import njit\n\n@njit\ndef value():\n    return {}\n"


def answers(folder, decorator):
    """What three processes print: the first, one after the called function changed, and one more."""
    (folder / "main.py").write_text(MAIN.format(decorator=decorator))
    found = []
    for value in (1, 20, 20):
        (folder / "called.py").write_text(CALLED.format(value))
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run(
            [sys.executable, "main.py"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        found.append(tuple(map(int, done.stdout.split())))
    return found


def test_a_change_in_a_called_function_is_noticed_and_no_change_is_not_compiled_again(tmp_path):
    assert answers(tmp_path, "compiled") == [(2, 0), (21, 0), (21, 1)]


def test_control_numbas_own_cache_goes_on_with_the_old_function(tmp_path):
    assert answers(tmp_path, "njit(cache=True)")[1] == (2, 1)


def test_a_folder_that_was_asked_for_is_used(tmp_path):
    (tmp_path / "main.py").write_text(MAIN.format(decorator="compiled"))
    (tmp_path / "called.py").write_text(CALLED.format(1))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "mine")}
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert list((tmp_path / "mine").rglob("*.nbi"))


def test_a_package_that_cannot_be_written_falls_back_to_a_folder_of_ones_own_or_to_none(tmp_path, monkeypatch):
    """Bugs: code 1 for every tabular algorithm in a container; a cache that somebody planted in /tmp is unpickled."""
    root_of = numba_cache._cache_root.__wrapped__
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / f"rltrain-compiled-{os.getuid()}"
    beside = str(tmp_path / "package")
    assert root_of("", beside) == tmp_path / "package"

    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != beside and access(path, mode))
    assert root_of("", beside) == own
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert root_of("", beside) is None
    own.rmdir()
    (tmp_path / "planted").mkdir(mode=0o700)
    own.symlink_to(tmp_path / "planted")
    assert root_of("", beside) is None

    def no_folder():
        raise FileNotFoundError("No usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", no_folder)  # bug: "a bug in rltrain" where no disk can be written
    assert root_of("", beside) is None

    monkeypatch.setattr(numba_cache, "_cache_root", lambda *folders: None)
    assert compiled(_twice)(2) == 4


def _twice(number):
    return 2 * number


@pytest.mark.parametrize(
    ("algo", "variable", "value"),
    [
        ("q_learning", "NUMBA_NUM_THREADS", "0"),
        ("a2c", "TORCH_LOGS", "bogus"),
        ("q_learning", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "bogus"),
    ],
)
def test_settings_that_a_library_cannot_read_are_told(algo, variable, value, tmp_path):
    """Bug: NUMBA_NUM_THREADS=0, as a script computes it for one core, told as a bug of rltrain."""
    env = "frozen_lake" if algo == "q_learning" else "cartpole"
    command = [sys.executable, "-m", "rltrain", f"algo={algo}", f"env={env}", "total_steps=100", "progress=false"]
    environment = {**os.environ, variable: value}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert " cannot be imported: " in done.stderr and variable in done.stderr.splitlines()[-1]
