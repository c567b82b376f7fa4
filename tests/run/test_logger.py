"""The progress line: when it comes and what it says."""

import fcntl
import os
import struct
import termios
from types import SimpleNamespace

import pytest
from small_runs import small

from rltrain.run import logger


class Times:
    """Two clocks that stand still until they are set: all of the time, and that in training."""

    def __init__(self):
        self.now_s = self.train_s = 0.0

    def at(self, now_s, train_s=None):
        self.now_s, self.train_s = now_s, now_s if train_s is None else train_s


@pytest.fixture
def times(monkeypatch):
    times = Times()
    monkeypatch.setattr(logger, "time", SimpleNamespace(monotonic=lambda: times.now_s))
    return times


@pytest.fixture
def progress(times):
    """Of a run of 1,000 steps, refreshed every 2 s on a terminal and every 20 s elsewhere, as here."""
    progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
    progress.facts = {"return": "3.00"}
    progress.show(0)
    return progress


def test_the_line_comes_when_its_time_has_come_and_not_before(progress, times, capsys):
    times.at(19)
    progress.show(190)
    assert capsys.readouterr().err == ""
    times.at(25)
    progress.show(250)
    progress.show(251)
    assert capsys.readouterr().err == " 25% 250/1,000  10 steps/s  1:15 left  return 3.00\n"


def test_evaluations_are_named_and_count_for_the_time_left_and_not_for_the_speed(progress, times, capsys):
    times.at(20)
    progress.show(100)
    times.at(60)
    progress.show(100, "evaluating 7 of 20")
    progress.evaluated(20, 40.0)
    progress.episodes_left = lambda step: 50
    times.at(80, train_s=40)
    progress.show(200)
    assert capsys.readouterr().err.splitlines() == [
        " 10% 100/1,000  5 steps/s  3:00 left  return 3.00",
        " 10% 100/1,000  evaluating 7 of 20  3:00 left  return 3.00",
        " 20% 200/1,000  5 steps/s  4:20 left  return 3.00",  # 160 s of training and 100 s of evaluations
    ]


def test_the_time_left_follows_the_recent_speed(progress, times, capsys):
    """Bug: a run that becomes ten times slower, once it learns, ends in five minutes for an hour."""
    for now_s, step in ((20, 400), (40, 440), (60, 480), (80, 520), (100, 560)):
        times.at(now_s)
        progress.show(step)
    left = capsys.readouterr().err.splitlines()[-1].split("  ")[2]
    assert left == "3:27 left", "440 steps at 2 steps/s, less what the first line still counts for"


def test_a_last_rollout_that_is_longer_than_what_was_left_is_no_more_than_all(progress, times, capsys):
    times.at(20)
    progress.show(1200)
    assert capsys.readouterr().err == "100% 1,200/1,000  60 steps/s  0:00 left  return 3.00\n"


def test_on_a_narrow_terminal_the_line_stays_one_line(times, monkeypatch):
    """Bugs: on 80 columns the line went on in the next one, and each refresh left a line behind; a word cut in two."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with open(reader, "rb", buffering=0) as screen, open(writer, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
        progress.facts = {"return": "3.00", "best eval": "4.00"}
        progress.show(0)
        times.at(2)
        progress.show(20)
        assert screen.read(4096).decode() == "\r\033[K" + "  2% 20/1,000  10 steps/s  1:38 left"


def test_a_resumed_run_counts_its_speed_from_where_it_goes_on(times, capsys):
    progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
    progress.show(500)
    times.at(20)
    progress.show(600)
    assert capsys.readouterr().err == " 60% 600/1,000  5 steps/s  1:20 left\n"


def test_the_line_is_asked_for_after_every_step_and_in_evaluations(command, monkeypatch):
    """Bug: nothing on the screen for minutes, as a hundredth of a long run passes between two lines of metrics."""
    asked = []
    monkeypatch.setattr(logger.Progress, "show", lambda self, step, doing="": asked.append((step, doing)))
    outcome = command(*small("dqn", "cartpole"), "total_steps=100", "log_every_steps=1000")
    assert outcome.code == 0, outcome.err
    assert {step for step, doing in asked if not doing} == set(range(3, 103, 3))
    assert (102, "evaluating 1 of 1") in asked
