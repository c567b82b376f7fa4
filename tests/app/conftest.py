"""What tests of the command line share: composing without training."""

import pytest


@pytest.fixture
def compose(command, monkeypatch):
    """The resolved config that a command line would train with, or the outcome where it is refused."""

    def call(*args):
        got = []
        monkeypatch.setattr("rltrain.app.train.train", lambda config, folder=None: got.append(config))
        outcome = command(*args)
        return got[0] if got else outcome

    return call
