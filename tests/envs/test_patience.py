"""How long an environment is waited for: a clock that stands still with its process, and less after a stop."""

import signal
import time

import pytest

from rltrain.envs import patience
from rltrain.system import process


@pytest.fixture(autouse=True)
def _calm():
    before = signal.getsignal(signal.SIGALRM)
    yield
    patience.calm()
    signal.signal(signal.SIGALRM, before)


def test_a_pause_of_the_process_counts_for_no_more_than_one_look(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = patience.Clock(longest_s=0.5)
    seen = []
    for seconds in (0.25, 0.25, 3600, 0.25, 0.5):
        now[0] += seconds
        seen.append(clock.look())
    assert seen == [0.25, 0.5, 1.0, 1.25, 1.75]


def test_only_an_environment_that_takes_too_long_after_a_stop_is_interrupted(monkeypatch):
    """Bugs: one that is slow before a stop was asked for; one that began its step a moment ago; code outside of it."""
    monkeypatch.setattr(patience, "STOPPING_S", 0.2)
    with patience.interruptible():
        time.sleep(0.5)
        signal.raise_signal(signal.SIGURG)  # somebody else's, before any stop was asked for
    patience.hurry(143)
    assert patience.is_stopping()
    for _ in range(5):
        with patience.interruptible():
            time.sleep(0.05)
    time.sleep(0.5)
    with pytest.raises(patience.StandsStill), patience.interruptible():
        time.sleep(600)
    time.sleep(0.3)  # nothing is raised out here
    patience.calm()
    assert not patience.is_stopping()
    with patience.interruptible():
        time.sleep(0.5)


def test_an_environment_that_catches_every_error_ends_the_process(monkeypatch, capfd):
    """Bug: a loop of retries swallowed the only interrupt, and SIGTERM was never answered."""
    codes, told, caught = [], [], 0
    monkeypatch.setattr(patience, "STOPPING_S", 0.1)
    monkeypatch.setattr(process, "exit_now", codes.append)
    monkeypatch.setattr(process, "last_words", [lambda reason, code: told.append(code)])
    patience.hurry(143)
    with pytest.raises(patience.StandsStill), patience.interruptible():
        while True:
            try:
                time.sleep(600)
            except BaseException:
                caught += 1
                if codes:  # the process has ended
                    raise
    assert (codes, told, caught) == ([143], [143], 3)
    assert "an environment stands still and catches every error" in capfd.readouterr().err


def test_the_handler_of_an_environment_for_its_alarms_does_not_keep_it_from_being_interrupted(monkeypatch):
    """Bug: an environment that sets a time limit with SIGALRM and then hangs was never left; only `kill -9` helped."""
    monkeypatch.setattr(patience, "STOPPING_S", 0.1)
    rung = []
    signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    patience.hurry(143)
    with pytest.raises(patience.StandsStill), patience.interruptible():
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        time.sleep(600)
    assert rung == [signal.SIGALRM]


def test_an_alarm_without_a_handler_passes_and_a_handler_of_a_module_stays():
    """Bugs: a forgotten alarm ended the training without a word; the start of a run took the handler away."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    patience.leave_alarm()
    signal.raise_signal(signal.SIGALRM)
    own = signal.signal(signal.SIGALRM, handler := lambda number, frame: None)
    patience.leave_alarm()
    assert signal.getsignal(signal.SIGALRM) is handler is not own


def test_an_evaluation_leaves_the_handler_of_the_training_s_environments():
    signal.signal(signal.SIGALRM, handler := lambda number, frame: None)
    with patience.alarm_kept():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as an environment of the evaluation may, when it is closed
    assert signal.getsignal(signal.SIGALRM) is handler
