"""Signs of life of processes: who is silent, and when nothing can be known any more."""

import os
import signal
import threading
import time

import pytest

from rltrain.runtime.heartbeat import Heartbeat


class Shelf:
    """A store in memory. `hangs` makes every call wait, as torch's does if its host is gone."""

    def __init__(self):
        self.values, self.hangs = {}, threading.Event()

    def set(self, key, value):
        self._wait()
        self.values[key] = value.encode()

    def multi_get(self, keys):
        self._wait()
        return [self.values[key] for key in keys]

    def _wait(self):
        while self.hangs.is_set():
            time.sleep(0.01)


@pytest.fixture
def pair(monkeypatch):
    """Heartbeats of two ranks on one store, and what each heard of."""
    monkeypatch.setattr("rltrain.runtime.heartbeat.LOOK_S", 0.05)
    killed = []
    real = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number) if number else real(pid, number))
    shelf, heard = Shelf(), ([], [])
    hearts = [Heartbeat(shelf, "x/", rank, 2, 0.5, heard[rank].append) for rank in range(2)]
    for heart in hearts:
        heart.start()
    yield shelf, hearts, heard, killed
    shelf.hangs.clear()
    for heart in hearts:
        heart.stop()


def wait_for(condition):
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_silent_rank_is_named_and_a_process_of_this_machine_killed(pair):
    """Bugs: a wait without end; a launcher that waits for a stopped process."""
    _, hearts, heard, killed = pair
    time.sleep(1)
    assert heard == ([], []), "the control: both are alive"
    hearts[1].stop()
    wait_for(lambda: heard[0])
    assert heard[0][0].startswith(f"rank 1 (process {os.getpid()} on ") and "no sign of life for 0.5 s" in heard[0][0]
    assert killed == [signal.SIGKILL]


def test_a_store_that_does_not_answer_ends_the_wait(pair):
    """Bug: a client of torch's store waits without end after its host is gone."""
    shelf, _, heard, _ = pair
    shelf.hangs.set()
    wait_for(lambda: heard[0] and heard[1])
    assert heard[0] == ["the launcher of rank 0 does not answer"]


def test_a_signal_to_one_rank_reaches_the_other_once(pair):
    """Bug: only the process that got the signal knows of it, and the others wait in an evaluation."""
    _, hearts, _, killed = pair
    hearts[1].note_signal(signal.SIGTERM)
    wait_for(lambda: killed)
    time.sleep(0.3)
    assert killed == [signal.SIGTERM]
