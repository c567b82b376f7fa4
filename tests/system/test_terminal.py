"""A run whose screen is gone ends as it would have ended; colour and line breaks are for terminals."""

import io
import json
import os
import subprocess
import sys
import time

import pytest

from rltrain.errors import DiskError
from rltrain.system import terminal

CODE = "from rltrain.cli import main; main()"
UNGUARDED = "from rltrain.system import terminal; terminal.guard = lambda: None; " + CODE
TRAIN = ["algo=q_learning", "env=maze", "total_steps=300", "log_every_s=0.05"]


def run(tmp_path, args, code=CODE, **streams):
    """Exit code of rltrain with such streams; `closed` ones have no descriptor at all."""
    return subprocess.run([sys.executable, "-c", code, *args], cwd=tmp_path, timeout=120, **streams).returncode


@pytest.fixture
def no_reader():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def statuses(tmp_path):
    """What every run folder says of itself."""
    return [
        json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("status.json") if "latest" not in str(path)
    ]


@pytest.mark.parametrize("args", [TRAIN, ["-m", *TRAIN, "seed=0,1"]], ids=["run", "sweep"])
@pytest.mark.parametrize("both", [True, False], ids=["both", "stderr"])
def test_a_reader_that_left_fails_no_run(args, both, tmp_path, no_reader):
    assert run(tmp_path, args, stderr=no_reader, stdout=no_reader if both else subprocess.DEVNULL) == 0
    assert {(status["state"], status["exit_code"]) for status in statuses(tmp_path)} == {("done", 0)}


def test_the_control_fails_where_nothing_guards_the_screen(tmp_path, no_reader):
    assert run(tmp_path, TRAIN, UNGUARDED, stderr=no_reader, stdout=no_reader) != 0
    assert {status["state"] for status in statuses(tmp_path)} == {"failed"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_log_on_a_full_disk_fails_no_run(tmp_path):
    with open("/dev/full", "w") as full:
        assert run(tmp_path, TRAIN, stderr=full, stdout=subprocess.DEVNULL) == 0
        assert [status["state"] for status in statuses(tmp_path)] == ["done"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_a_full_disk_has_lost_is_code_7(tmp_path):
    """Bugs: a list that is not there is a success, or a bug of ours with a traceback."""
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", CODE, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 7, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line == "rltrain: error: the output cannot be written: No space left on device; stdout; free some space"


def test_a_reader_that_has_seen_enough_hears_nothing(tmp_path):
    command = f'"{sys.executable}" -c "{CODE}" list envs; echo "code $?" >&2'
    ended = subprocess.run(["sh", "-c", f"({command}) | head -1"], capture_output=True, text=True, timeout=120)
    assert len(ended.stdout.splitlines()) == 1 and ended.stderr == "code 0\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_all(stream):
    """Bug: a pipe of node or of a CI runner was cut at its size, with code 0."""
    code = (
        "import sys; from rltrain.system import terminal; terminal.guard(); sys.{0}.write('before, ')\n"
        "print('x' * 300_000, file=sys.{0}); print('é', file=sys.{0}, flush=True); terminal.check_stdout()"
    )
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = subprocess.Popen([sys.executable, "-X", "utf8", "-c", code.format(stream)], **{stream: writer})
    os.close(writer)
    time.sleep(1)  # it is slow
    with open(reader, "rb") as pipe:
        assert pipe.read().decode() == f"before, {'x' * 300_000}\né\n"
    assert child.wait(20) == 0


def test_a_stream_of_the_users_gets_what_is_printed(monkeypatch):
    """Bugs: one that writes to a log and to a pipe that does not block was passed over; one without a descriptor."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    class Tee(io.StringIO):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def fileno(self):
            return self.number() if callable(self.number) else self.number

    def missing():
        raise NotImplementedError

    for number in (writer, missing, None):
        monkeypatch.setattr(sys, "stdout", tee := Tee(number))
        terminal.guard()
        print("hello")
        assert tee.getvalue() == "hello\n"
    os.close(reader)
    os.close(writer)


def test_streams_that_were_never_open_fail_no_run_and_no_file_gets_their_numbers(tmp_path):
    command = f'"{sys.executable}" -c "{CODE}" {" ".join(TRAIN)} >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=120).returncode == 0
    assert [status["state"] for status in statuses(tmp_path)] == ["done"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "settings", "coloured"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_have_it_and_users_who_want_it(stream, settings, coloured, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    assert terminal.styled("error", "red", stream) == ("\033[31merror\033[0m" if coloured else "error")


def test_lines_break_between_words_and_in_a_long_path_after_a_slash(monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    assert terminal.wrapped("one two three-four", Terminal(), indent=2) == "one two\n  three-four"
    assert terminal.wrapped("one two three-four", io.StringIO()) == "one two three-four"
    assert terminal.broken("see /home/me/runs/x", 12) == ["see", "/home/me/", "runs/x"]
    assert terminal.broken("abcdefghij", 4, indent=9) == ["abcd", "  ef", "  gh", "  ij"]
    assert terminal.broken("", 12) == [""]


def test_a_stream_that_an_environment_closed_is_no_bug(monkeypatch):
    """Bug: ValueError at the end of a finished run. Lost output is code 7; without any, nothing is wrong."""
    monkeypatch.setattr(sys, "stdout", terminal._Guarded(io.StringIO(), retries=False))
    sys.stdout.close()
    terminal.check_stdout()
    print("result")
    with pytest.raises(DiskError, match="has closed the file"):
        terminal.check_stdout()
    assert terminal.styled("text", "red", sys.stdout) == "text"
