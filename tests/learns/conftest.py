"""Training to a known score with the tuned settings that a user gets: the whole chain, or nothing, has to be right."""

import os

import gate_table
import pytest

from rltrain.system import process


@pytest.fixture(autouse=True)
def share_of_the_cores(monkeypatch):
    """What two trainings side by side take each (`-n 2`): threads that wait for a core stop all others of theirs."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    monkeypatch.setenv("OMP_NUM_THREADS", str(max(1, process.usable_cores() // workers)))


@pytest.fixture
def trained(command):
    """The outcome of a run."""

    def call(*args):
        outcome = command(*args, "device=cpu", "progress=false")
        assert outcome.code == 0, outcome.err
        return outcome

    return call


@pytest.fixture
def final(trained):
    """The mean return of a run's final evaluation: raw rewards, fresh environments."""
    return lambda *args: gate_table.final(trained(*args).folder)
