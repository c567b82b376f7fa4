"""Actors of a Ray cluster: one is lost, a node is, or the run is asked to stop."""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_runs import small

from rltrain.run import checkpoint

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray"),
]
ENDLESS = ["total_steps=1e9", "eval_every_steps=0", "log_every_steps=512", "checkpoint_every_steps=4096"]
TWO = ["runtime=ray", "runtime.actors=2", "num_envs=4"]


@pytest.fixture
def cluster(two_nodes):
    """A cluster of two nodes on this machine. Returns it, its address, and the second node."""
    started, node = two_nodes
    return started, f"runtime.address={started.address}", node


def actors() -> list[psutil.Process]:
    """The actors of this test's runs, or of its cluster, and no others that play on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith("ray::Host"):
            with contextlib.suppress(psutil.Error):
                of_our_run = process.environ().get("RLTRAIN_FAULT_TEST") == str(os.getpid())
                if of_our_run or os.getpid() in [parent.pid for parent in process.parents()]:
                    found.append(process)
    return found


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def until(run: Path, process, found, timeout_s: float) -> float:
    """Seconds until a line of metrics is `found`."""
    start_s = time.monotonic()
    while not any(found(line) for line in lines(run)):
        assert time.monotonic() - start_s < timeout_s, lines(run)[-1]
        assert process.process.poll() is None, process.end()
        time.sleep(0.1)
    return time.monotonic() - start_s


def both_work(num_restarts: int):
    """Ray may put an actor on a node that it does not know to be lost: then there are more restarts."""
    return lambda line: line.get("runtime/restarts", -1) >= num_restarts and line["runtime/actors"] == 2


@pytest.fixture
def temporary(monkeypatch):
    """A folder for the temporary files of this test's runs alone. Its path is short enough for Ray's sockets."""
    place = Path(f"/tmp/r{secrets.token_hex(2)}")
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    yield place
    shutil.rmtree(place)


@pytest.mark.tries(3)
@pytest.mark.parametrize("algo", ["impala", "dqn"])
def test_a_killed_actor_is_replaced_while_the_learner_goes_on(attempt, algo, start, status, patience, temporary):
    """Bugs: a learner that waits for the lost actor; a replay that goes on with its episodes; Ray or its folder left
    after the end; a stop that takes long, or saves nothing."""
    process = start(*small(algo, "cartpole"), *ENDLESS, *TWO)
    run = process.wait_for("checkpoints/last").parent.parent
    until(run, process, both_work(0), 60)
    assert list(temporary.glob("rltrain-ray-*"))
    step = lines(run)[-1]["step"]
    killed_s = time.monotonic()
    actors()[attempt % 2].kill()
    taken_s = until(run, process, both_work(1), 15 * patience())
    lived = [line for line in lines(run) if line["step"] > step and line["runtime/actors"] == 1]
    assert lived, "the learner has waited"
    print(f"{algo}: replaced after {taken_s:.1f} s; {len(lived)} lines meanwhile", time.monotonic() - killed_s)
    sent_s = time.monotonic()
    process.process.send_signal((signal.SIGTERM, signal.SIGINT)[attempt % 2])
    code, error = process.end()
    assert code == (143, 130)[attempt % 2], error
    assert time.monotonic() - sent_s < 10 * patience()
    assert "warning: actor " in error and "it is replaced (1 of 10)" in error
    assert not list(temporary.glob("rltrain-ray-*"))
    saved, _ = checkpoint.load(run)
    assert status(run)["state"] == "stopped" and status(run)["step"] == saved > 0
    for runtime in ("local", "ray"):
        code, error = start("resume", run, f"total_steps={saved + 640}", f"runtime={runtime}", "progress=false").end()
        assert code == 0, error
        assert "begin new episodes" in error
        saved = status(run)["step"]
    assert not list(temporary.glob("rltrain-ray-*"))


def test_a_lost_node_is_replaced(cluster, start, patience):
    """Bug: the learner waits for what was on the node."""
    network, address, node = cluster
    process = start(*small("impala", "cartpole"), *ENDLESS, *TWO, address)
    run = process.wait_for("checkpoints/last").parent.parent
    until(run, process, both_work(0), 60)
    step = lines(run)[-1]["step"]
    network.remove_node(node, allow_graceful=False)
    taken_s = until(run, process, both_work(1), 60 * patience())
    assert any(line["step"] > step and line["runtime/actors"] == 1 for line in lines(run)), "the learner has waited"
    print(f"replaced after {taken_s:.1f} s")
    process.process.send_signal(signal.SIGTERM)
    code, error = process.end()
    assert code == 143, error
    assert all(not each.is_running() for each in actors()), "actors are left on the cluster"


def test_too_many_lost_actors_end_the_run(start, status):
    process = start(*small("impala", "cartpole"), *ENDLESS, *TWO, "runtime.max_restarts=0")
    run = process.wait_for("checkpoints/last").parent.parent
    actors()[0].kill()
    code, error = process.end()
    assert code == 4, error
    last = error.strip().splitlines()[-1]
    assert last.startswith("rltrain: error: actor ") and "; runtime.max_restarts; " in last
    assert status(run)["exit_code"] == 4


def test_an_environments_error_has_the_line_and_the_code_of_a_plain_run(start, tmp_path, monkeypatch):
    """Bug: Ray's own error of many lines, with code 1; an actor that is replaced without end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    ends = []
    for number, runtime in enumerate((["num_envs=4"], TWO)):
        fails = f"env.kwargs={{how: raise, at: 50, once: {tmp_path / f'once-{number}'}}}"
        args = [arg for arg in small("impala", "gym") if arg != "env=gym"]
        code, error = start(*args, "env=gym", "env.id=fragile:Fragile-v0", fails, *ENDLESS, *runtime).end()
        ends.append((code, error.strip().splitlines()[-1]))
    assert ends[0] == ends[1] and ends[0][0] == 4, ends


def test_actors_of_a_cluster_have_the_hashes_of_the_learner(cluster, start, tmp_path, monkeypatch):
    """Bug: an environment that takes its actions from a set of words gave each actor another order."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "hashing.py").write_text(
        "import gymnasium, numpy as np\n"
        "class Hashing(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return np.zeros(2, np.float32), {}\n"
        "    def step(self, action):\n"
        "        return np.zeros(2, np.float32), float(hash('up') % 1000), True, False, {}\n"
        "gymnasium.register('Hashing-v0', Hashing)\n"
    )
    args = [arg for arg in small("impala", "gym") if arg != "env=gym"]
    process = start(*args, "env=gym", "env.id=hashing:Hashing-v0", "total_steps=640", *TWO, cluster[1])
    code, error = process.end()
    assert code == 0, error
    (episodes,) = Path(process.cwd).rglob("episodes.csv")
    paid = {float(line.split(",")[1]) for line in episodes.read_text().splitlines()[1:]}
    own = subprocess.run(
        [sys.executable, "-c", "print(hash('up') % 1000)"], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True
    )
    assert paid == {float(own.stdout)}


def test_nothing_runs_on_after_the_learner_was_killed(start):
    process = start(*small("impala", "cartpole"), *ENDLESS, *TWO)
    process.wait_for("checkpoints/last")
    process.process.kill()
    process.end()  # `nothing_is_left` looks for the rest


def test_a_cluster_that_is_not_there_is_told_in_one_line(start):
    code, error = start(*small("impala", "cartpole"), "total_steps=100", *TWO, "runtime.address=127.0.0.1:1").end()
    assert code == 2, error
    assert "rltrain: error: Ray cannot be reached: " in error.strip().splitlines()[-1]


_OWN = """
from dataclasses import dataclass
from rltrain.algos import impala
from rltrain.config.algorithms import IMPALAConfig
from rltrain.plugins import register_algorithm

make_agent, of_impala = impala.make_agent, impala.make_actor

@dataclass
class OnRayConfig(IMPALAConfig):
    name: str = "on_ray"

def make_actor(*arguments):
    return of_impala(*arguments)

def train(config, run):
    impala.make_actor = make_actor
    impala.train(config, run)

register_algorithm(OnRayConfig)
"""


def test_an_actor_runs_no_module_that_lies_in_the_working_directory_but_a_plugin(tmp_path):
    """Bug: Ray looks there first, so that somebody else's `gymnasium.py` ran."""
    (tmp_path / "gymnasium.py").write_text("raise SystemExit('foreign code')\n")
    (tmp_path / "of_ray.py").write_text(_OWN)
    words = ["plugins=[of_ray]", "algo=on_ray", "env=cartpole", "runtime=ray", "runtime.actors=1", "total_steps=512"]
    words += ["eval_every_steps=0", "final_eval_episodes=1", "progress=false", "runtime.max_restarts=0"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "rltrain", *words]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
