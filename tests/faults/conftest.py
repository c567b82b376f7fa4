"""What the fault suite shares: how many tries a row gets, running rltrain as a process, and that nothing is left."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

SHARE = 12
"""The default suite makes one try for so many of the full count."""


def tries(config, full: int) -> int:
    """Tries of a row: all with `-m faults`, ten times as many with `--long`, else a small share."""
    if config.getoption("--long"):
        return 10 * full
    return full if config.getoption("-m") == "faults" else max(1, full // SHARE)


def pytest_generate_tests(metafunc):
    """A test marked `tries(n)` runs so often, with the number of the try as `attempt`."""
    marker = metafunc.definition.get_closest_marker("tries")
    if marker and "attempt" in metafunc.fixturenames:
        metafunc.parametrize("attempt", range(tries(metafunc.config, marker.args[0])))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    """After every case: no process of ours, no shared memory of ours."""
    shared = Path("/dev/shm")
    before = set(os.listdir(shared)) if shared.is_dir() else set()
    yield
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (_children() or _new(shared, before)):
        time.sleep(0.1)
    assert not _children(), "processes are left"
    assert not _new(shared, before), "shared memory is left"


def _children() -> list[str]:
    """Live descendants of this process; workers that lost their parent are found by the marker in their environment."""
    left = []
    for process in psutil.process_iter(["pid", "ppid", "status", "cmdline"]):
        try:
            if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            command = " ".join(process.info["cmdline"] or [])
            if "resource_tracker" in command:
                continue
            if process.environ().get("RLTRAIN_FAULT_TEST") == str(os.getpid()):
                left.append(command)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return left


def _new(shared: Path, before: set[str]) -> set[str]:
    """Entries that appeared and belong to no one who is still at work: others may run beside this test."""
    now = set(os.listdir(shared)) if shared.is_dir() else set()
    # Semaphores of multiprocessing have a name for a moment only, and may be anybody's.
    return {name for name in now - before if not name.startswith("sem.") and _is_ours(shared / name)}


def _is_ours(path: Path) -> bool:
    # joblib's folders carry the number of their process: another test process of this suite keeps its own.
    numbers = [int(part) for part in path.name.split("_") if part.isdigit()]
    if any(number != os.getpid() and psutil.pid_exists(number) for number in numbers):
        return False
    # ViZDoom's entries do not tell whose they are: they are ours if no running process maps them.
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(path) in maps.read_text():
                return False
        except OSError:
            continue
    return path.exists()


@pytest.fixture
def patience():
    """What a time limit is to be multiplied with, where more processes want to run than there are cores."""
    return lambda: max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


@pytest.fixture
def two_nodes(monkeypatch):
    """A Ray cluster of two nodes with two cores each, on this machine: the cluster, and its second node."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from ray.cluster_utils import Cluster

    args = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200_000_000}
    started = Cluster(initialize_head=True, head_node_args=args)
    node = started.add_node(num_cpus=2, object_store_memory=200_000_000)
    started.wait_for_nodes()
    yield started, node
    started.shutdown()


# Under nohup a closed terminal is ignored, by whatever is started too.
_CODE = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from rltrain.cli import main; main()"
RLTRAIN = (sys.executable, "-c", _CODE)


class Process:
    """rltrain as a process of its own, as a user starts it."""

    def __init__(self, argv: list[str], cwd: Path, by: Sequence[str]) -> None:
        environment = os.environ | {"RLTRAIN_FAULT_TEST": str(os.getpid())}
        self.cwd = cwd
        self.process = subprocess.Popen(
            [*by, *argv],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, pattern: str, timeout_s: float = 300) -> Path:
        """The first path below the working directory that matches, as soon as it is there and not empty."""
        deadline = time.monotonic() + timeout_s
        while True:
            for found in self.cwd.rglob(pattern):
                try:
                    if found.is_dir() or found.stat().st_size:
                        return found
                except OSError:
                    continue
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, f"no {pattern} after {timeout_s} s"
            time.sleep(0.02)

    def end(self, timeout_s: float = 300) -> tuple[int, str]:
        """Exit code and stderr, once it has ended."""
        try:
            return_code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            error = self.process.communicate()[1]
        return return_code, error


@pytest.fixture
def start(tmp_path):
    """Start `rltrain ARGS` in this test's folder. by: the program before ARGS."""
    started = []

    def call(*argv: object, by: Sequence[str] = RLTRAIN) -> Process:
        started.append(Process([str(arg) for arg in argv], tmp_path, by))
        return started[-1]

    yield call
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


@pytest.fixture
def status():
    """status.json of a run folder."""
    return lambda folder: json.loads((folder / "status.json").read_text())
