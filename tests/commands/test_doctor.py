"""`rltrain doctor`: one line a finding, whatever is missing."""

import subprocess
import sys

import pytest

from rltrain.commands import doctor


@pytest.fixture(scope="module")
def report():
    """The lines of a real report."""
    done = subprocess.run(
        [sys.executable, "-m", "rltrain", "doctor"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_part_is_reported_with_its_state(report):
    assert {line.split()[0] for line in report[:-1]} <= {"ok", "note", "missing"}
    assert {line.split()[1] for line in report[:-1]} == {
        *("versions", "machine", "disk", "torch", "torchrun", "doom", "atari", "box2d", "retro"),
        *("video", "display", "extras"),
    }


def test_emulators_that_work_here_are_seen_to_play(report):
    plays = [line for line in report if "plays" in line]
    assert [line.split()[:2] for line in plays] == [["ok", "doom"], ["ok", "atari"], ["ok", "box2d"]]
    assert any(line.startswith("ok       retro     Airstriker") for line in report)


def test_an_emulator_that_crashes_is_a_line_and_not_the_end(monkeypatch):
    monkeypatch.setattr(doctor.sys, "executable", "/bin/false")
    (finding,) = doctor._in_process("doom")
    assert finding.state == "missing"
    assert "ended with code 1" in finding.what


def test_an_emulator_that_hangs_is_a_line_and_not_the_end(monkeypatch, tmp_path):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(doctor.sys, "executable", str(sleeper))
    monkeypatch.setattr(doctor, "_TIMEOUT_S", 0.2)
    (finding,) = doctor._in_process("doom")
    assert (finding.state, finding.what) == ("missing", "no answer within 0.2 s")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encoding_of_the_screen_is_not_that_between_processes(encoding, monkeypatch):
    """Bug: KeyError for a mark at the beginning of the answer, with the encoding that Excel wants."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (finding,) = doctor._in_process("atari")
    assert finding.state in ("ok", "missing")


def test_a_check_that_raises_is_a_finding():
    (finding,) = doctor._safe(lambda: 1 // 0)
    assert finding.state == "missing"
    assert "ZeroDivisionError" in finding.what


def test_what_is_missing_comes_with_how_to_mend_it(monkeypatch):
    monkeypatch.setattr(doctor.screens, "ffmpeg", lambda: None)
    assert doctor._video() == [("missing", "no ffmpeg, so videos are GIFs", "pip install 'rltrain[video]'")]
    monkeypatch.setattr(doctor, "_EXTRAS", {"plot": ("no_such_package",)})
    assert doctor._extras() == [("note", "plot: no no_such_package", "pip install 'rltrain[plot]'")]


def test_doctor_takes_no_words(command):
    outcome = command("doctor", "who")
    assert outcome.code == 2
    assert "usage: rltrain doctor" in outcome.last_line
