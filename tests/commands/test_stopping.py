"""`eval` and `play` answer signals: between two steps, in one line, and a film up to then is kept."""

import os
import signal

import pytest

from rltrain import cli
from rltrain.algos.parts.q_table import QTable

TABLE = ["algo=q_learning", "env=frozen_lake", "total_steps=200", "eval_every_steps=0", "progress=false"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["eval", "episodes=1000"], ["play", "episodes=1000", "out=film.gif"]])
def test_a_signal_ends_the_command_after_the_step(command, tmp_path, monkeypatch, words, number):
    """Bugs: SIGTERM ends the process without closing its environments; Ctrl-C is "before the run started", or loses the
    film; a handler stays installed."""
    assert cli.run([*TABLE, f"run_dir={tmp_path}"]) == 0
    before = signal.getsignal(number)
    calls, policy = [], QTable.policy

    def stopping_policy(self, *args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), number)
        return policy(self, *args)

    monkeypatch.setattr(QTable, "policy", stopping_policy)
    done = command(words[0], tmp_path / "latest", *words[1:])
    assert done.code == 128 + number
    assert f"({signal.Signals(number).name})" in done.last_line or signal.Signals(number).name in done.last_line
    assert len(calls) == 5
    assert signal.getsignal(number) == before
    assert (tmp_path / "film.gif").exists() == (words[0] == "play")
    assert not (tmp_path / "latest" / "eval").exists()
