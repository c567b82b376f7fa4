"""What the launcher makes of the ends of its processes."""

import signal
import socket
from types import SimpleNamespace

import pytest

from rltrain.config.runtime import TorchrunConfig
from rltrain.errors import CheckpointError, ConfigError, EnvironmentFailure, ProcessLost, Stopped
from rltrain.runtime import launch

KILLED = (1, SimpleNamespace(exitcode=-9, pid=77))
ENDED = (0, SimpleNamespace(exitcode=9, pid=76))
STOPPED = Stopped(signal.SIGTERM, "runs/a")
LOST = ProcessLost("rank 1 (process 77 on far) ended", "runtime", "resume")
SILENT = ProcessLost("rank 1 gave no sign of life", "runtime", "resume")


def test_the_killed_process_is_the_cause_and_not_one_that_lost_its_connection_to_it():
    """Bug: of two failures in the same second the lower rank was named, so a killed rank 1 never was."""
    ended, killed, later = (
        SimpleNamespace(exitcode=code, pid=0, timestamp=second) for code, second in ((9, 50), (-9, 50), (-15, 51))
    )
    assert launch._cause({0: ended, 1: killed, 2: later}) == (1, killed)
    assert launch._cause({0: later, 2: ended}) == (0, later)
    assert launch._cause({0: ended}) == (0, ended), "the control"


@pytest.mark.parametrize(
    ("errors", "failed", "stopped", "expected"),
    [
        ({}, None, None, None),
        ({0: STOPPED, 1: STOPPED}, None, None, STOPPED),
        ({0: STOPPED}, None, 15, STOPPED),
        ({}, None, 15, Stopped(15)),
        ({0: LOST}, KILLED, None, "rank 1 was killed by SIGKILL; process 77 on "),
        ({0: SILENT}, KILLED, None, SILENT),
        ({0: LOST}, ENDED, None, LOST),
        ({0: STOPPED}, KILLED, None, "rank 1 was killed by SIGKILL"),
        ({}, (1, SimpleNamespace(exitcode=3, pid=77)), None, "rank 1 ended with exit code 3"),
        ({0: LOST, 1: EnvironmentFailure("raised", "env")}, ENDED, None, EnvironmentFailure("raised", "env")),
    ],
)
def test_the_error_of_the_process_that_knows_best_ends_the_run(
    errors, failed, stopped, expected, tmp_path, monkeypatch
):
    """Bugs: code 9 in place of what is wrong; a survivor that names another survivor; a stop without its folder."""
    monkeypatch.setenv(launch.REPORTS, str(tmp_path))
    for rank, error in errors.items():
        monkeypatch.setenv("RANK", str(rank))
        launch.report(error, silent=error is SILENT)
    if expected is None:
        launch._raise_end(tmp_path, failed, stopped)
        return
    kind = ProcessLost if isinstance(expected, str) else type(expected)
    with pytest.raises(kind) as caught:
        launch._raise_end(tmp_path, failed, stopped)
    assert str(caught.value).startswith(str(expected))
    assert getattr(caught.value, "signal_number", None) == getattr(expected, "signal_number", None)


def test_an_error_before_the_processes_meet_reaches_the_launcher(command, tmp_path, monkeypatch):
    """Bug: code 9 for a run folder that one machine does not see, or that another process uses."""
    monkeypatch.setenv(launch.REPORTS, str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    outcome = command("resume", "nowhere")
    assert outcome.code == 3 and outcome.err == "", "the launcher prints it"
    with pytest.raises(CheckpointError, match="there is no such run"):
        launch._raise_end(tmp_path, (1, SimpleNamespace(exitcode=3, pid=77)), None)


def test_lost_processes_start_again_so_often_as_asked_and_with_the_folder_of_before(monkeypatch, capsys):
    """Bugs: a restarted run that ends well and is told as lost; a stop that is started again; endless restarts."""
    ends, calls = [LOST, LOST, None], []

    def once(config, arguments, run_id, *args):
        calls.append(run_id)
        if (end := ends[len(calls) - 1]) is not None:
            raise end

    monkeypatch.setattr(launch, "_launch_once", once)
    launch.launch(TorchrunConfig(max_restarts=2), [])
    assert len(set(calls)) == 3, "machines that restart meet under a new name"
    assert capsys.readouterr().err.count("restart ") == 2
    for errors, kind, number in (([LOST, LOST], ProcessLost, 2), ([STOPPED], Stopped, 1)):
        ends[:] = errors
        calls.clear()
        with pytest.raises(kind):
            launch.launch(TorchrunConfig(max_restarts=1), [])
        assert len(calls) == number


def test_only_a_free_port_of_this_machine_is_for_listening():
    """Bug: a second launcher on one machine that would make a store of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not launch._can_listen("127.0.0.1", port)
    assert launch._can_listen("127.0.0.1", port)
    assert not launch._can_listen("192.0.2.1", 29500), "an address of documentation, which no machine has"
    with pytest.raises(ConfigError, match="is no address"):
        launch._can_listen("no such host", 29500)


def test_the_address_that_other_machines_get_is_never_a_loopback():
    """Bug: where a machine's own name is 127.0.1.1, the others would look for the store on themselves."""
    assert launch._own_address("localhost", 29500) is None


def test_of_two_launchers_on_one_machine_one_opens_the_store(monkeypatch):
    """Bug: both found the port free, and the slower one ended because it could not listen."""
    monkeypatch.setattr(launch, "_stores", [])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert not launch._open_store("127.0.0.1", port)
    assert launch._open_store("127.0.0.1", port), "the control"
