"""`eval` and `play` answer signals: between two steps, in one line, and a film up to then is kept."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from rltrain import cli
from rltrain.algos.parts.q_table import QTable
from rltrain.envs import patience
from rltrain.run.run import Run
from rltrain.system import process, signals

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
    kept = "film.gif; the film up to this moment is kept" if words[0] == "play" else "nothing was kept"
    assert done.last_line.endswith(f"; {kept}") and done.last_line.count(";") == kept.count(";") + 1
    assert (done.out.strip().splitlines()[-1:] == ["film.gif"]) == (words[0] == "play")
    assert not (tmp_path / "latest" / "eval").exists()


@pytest.mark.parametrize("words", [["eval", "episodes=50"], ["resume", "total_steps=2000"]])
@pytest.mark.parametrize(("press_s", "leaves"), [(0.0, [130]), (60.0, [])])
def test_only_a_ctrl_c_that_comes_later_leaves_without_a_save(words, press_s, leaves, command, tmp_path, monkeypatch):
    assert cli.run([*TABLE, f"run_dir={tmp_path}"]) == 0
    left, sent, policy, advance = [], [], QTable.policy, Run.advance
    monkeypatch.setattr(signals, "_ONE_PRESS_S", press_s)
    monkeypatch.setattr(process, "exit_now", left.append)

    def press(*_):
        if not sent:
            for _ in range(2):
                sent.append(signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    monkeypatch.setattr(QTable, "policy", lambda *given: (press(), policy(*given))[1])
    monkeypatch.setattr(Run, "advance", lambda *given: (press(), advance(*given))[1])
    done = command(words[0], tmp_path / "latest", *words[1:])
    assert (left, done.code) == (leaves, 130) and sent, done.err


@pytest.mark.parametrize("method", ["reset", "step", "render"])
def test_a_viewer_that_hangs_does_not_keep_the_command(command, tmp_path, monkeypatch, method):
    """Bug: SIGTERM and Ctrl-C were never answered while the copy of the environment that draws stood still."""
    assert cli.run([*TABLE, f"run_dir={tmp_path}"]) == 0
    monkeypatch.setattr(patience, "STOPPING_S", 0.2)
    before = getattr(FrozenLakeEnv, method)

    def hanging(self, *args, **kwargs):
        if self.render_mode != "rgb_array":
            return before(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        waited.append("all of it")

    waited = []
    monkeypatch.setattr(FrozenLakeEnv, method, hanging)
    done = command("play", tmp_path / "latest", "out=film.gif")
    assert not waited and done.code == 143 and "stopped by SIGTERM" in done.last_line, done.err
    assert (tmp_path / "film.gif").exists() == (method == "step")  # the first picture was drawn


def test_a_pipe_that_nobody_reads_does_not_keep_a_run_from_stopping(tmp_path):
    """Bug: `rltrain ... 2>&1 | less` at its first page answered no signal, as the handler itself waited."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    words = ["algo=q_learning", "env=maze", "algo.show_steps=1000", "total_steps=1e9", f"run_dir={tmp_path}"]
    process = subprocess.Popen([sys.executable, "-m", "rltrain", *words], stdin=subprocess.DEVNULL, stderr=writer)
    try:
        fails_at_s = time.monotonic() + 120
        while "write" not in Path(f"/proc/{process.pid}/wchan").read_text():
            assert process.poll() is None and time.monotonic() < fails_at_s, "it does not wait for the reader"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


JOBLIB = ["algo=q_learning", "env=maze", "-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
TORCHRUN = ["algo=a2c", "env=cartpole", "runtime=torchrun", "runtime.processes=2"]


@pytest.mark.parametrize("words", [JOBLIB, TORCHRUN], ids=["joblib", "torchrun"])
def test_a_parent_that_blocks_signals_does_not_keep_a_run_from_stopping(words, tmp_path):
    """Bug: a program that waits for its own signals (`sigwait`) hands its mask over. A training unblocked them, but
    sweeps with joblib and the launcher of torchrun ended with kill -9 alone."""
    blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    process = subprocess.Popen(
        [sys.executable, "-m", "rltrain", *words, "total_steps=1e9", "eval_every_steps=0", f"run_dir={tmp_path}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked),
    )
    try:
        fails_at_s = time.monotonic() + 120
        while not list(tmp_path.rglob("metrics.jsonl")):
            assert process.poll() is None and time.monotonic() < fails_at_s
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.terminate()  # its jobs end with it
        process.kill()
        process.wait()


def test_a_signal_that_waits_since_before_the_start_is_answered_by_the_training(tmp_path):
    """Bug: unblocked at once, it was a traceback or ended the process without a word."""
    words = ["algo=q_learning", "env=maze", "total_steps=1e9", f"run_dir={tmp_path}"]

    def wait_with(number=signal.SIGTERM):
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        os.kill(os.getpid(), number)

    command = [sys.executable, "-m", "rltrain", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=wait_with)
    assert done.returncode == 143 and "stopped by SIGTERM" in done.stderr.splitlines()[-1], done.stderr
