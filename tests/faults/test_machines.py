"""Two machines that learn together: network namespaces of this one, joined by a cable that can be cut."""

import json
import os
import shutil
import subprocess
import time

import psutil
import pytest
from conftest import RLTRAIN
from small_runs import small

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SILENCE_S = 5


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture
def machines():
    """The programs that run rltrain on the machines 10.77.0.1 and 10.77.0.2, which share the file system."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"rltrain-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        pytest.skip(f"no network namespaces: {error.stderr.decode()}")
    yield [("ip", "netns", "exec", name, *RLTRAIN) for name in names]
    for name in names:
        ip("netns", "delete", name)


@pytest.fixture
def launchers(start, machines):
    """Start the same command on both machines; returns the launchers."""

    def call(*args):
        meet = ["runtime.nodes=2", "runtime.processes=1", "runtime.rendezvous=10.77.0.1:29500"]
        args = [*small("ppo", "cartpole"), "eval_every_steps=0", "runtime=torchrun", *meet, *args]
        return [start(*args, by=machine) for machine in machines]

    return call


@pytest.mark.tries(3)
def test_a_cut_cable_ends_both_sides_and_the_run_goes_on_from_its_last_checkpoint(
    attempt, machines, launchers, start, status, patience
):
    """Bugs: either side waits for the other without end; a launcher that waits for a store that is out of reach."""
    pair = launchers("total_steps=1e9", "checkpoint_every_steps=1024", f"runtime.silence_s={SILENCE_S}")
    run = pair[0].wait_for("checkpoints/last").parent.parent
    ip("-n", machines[attempt % 2][3], "link", "set", "cable", "down")
    sent = time.monotonic()
    for launcher in pair:
        code, error = launcher.end()
        assert code == 9, error
        assert time.monotonic() - sent < (SILENCE_S + 10) * patience(), error
    assert status(run)["exit_code"] == 9
    code, error = start("resume", run, "runtime=local", f"total_steps={status(run)['step'] + 1024}").end()
    assert code == 0, error


def test_both_machines_start_again_if_a_process_of_one_is_lost(launchers, status):
    """Bugs: machines that count their restarts differently and never meet again; a new folder for the second try."""
    pair = launchers("total_steps=12288", "checkpoint_every_steps=2048", "runtime.max_restarts=1")
    run = pair[0].wait_for("checkpoints/last").parent.parent
    [far] = psutil.Process(pair[1].process.pid).children()
    far.kill()
    for launcher in pair:
        code, error = launcher.end()
        assert code == 0, error
        assert "restart 1 of 1" in error
    assert status(run)["state"] == "done" and json.loads((run / "result.json").read_text())["steps"] == 12288
    assert [path.name for path in run.parent.iterdir()] == [run.name]
