"""Training to a known score with the tuned settings that a user gets: the whole chain, or nothing, has to be right."""

import gate_table
import pytest


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
