"""A3C: one worker is A2C to the last bit, many share everything, and every end leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from states import differences

from rltrain.app.train import train
from rltrain.errors import EnvironmentFailure
from rltrain.run import checkpoint


def history(folder):
    """The metrics without what a clock decides, and the episodes."""
    skipped = ("time_s", "time/", "memory/")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if not key.startswith(skipped)} for line in lines], (
        folder / "episodes.csv"
    ).read_text()


def test_one_worker_equals_a2c_to_the_last_bit(config, tmp_path):
    same = {"num_envs": 3, "num_steps": 7, "steps": 1500, "learning_rate_end": 1e-4}
    agents, histories = [], []
    for algo, fields in (("a2c", {}), ("a3c", {"num_workers": 1})):
        folder = tmp_path / algo
        train(config(algo, **same, **fields), folder)
        agents.append(checkpoint.load(folder)[1]["agent"])
        histories.append(history(folder))
    assert differences(*agents) == []
    assert histories[0] == histories[1]
    assert len(histories[0][0]) > 50 < len(histories[0][1].splitlines()), "the control: there is something to compare"


def test_workers_share_the_parameters_the_statistics_and_the_count(config, watched):
    run_config = config("a3c", num_workers=2, num_envs=4, num_steps=5, steps=800)
    seen, agent = watched(run_config, lambda run, agent, parts: (run.step, agent.learner.num_updates))
    assert seen == [(10 * update, update) for update in range(1, len(seen) + 1)], "two environments, five steps each"
    assert 80 <= len(seen) < 82, "the rollouts that were under way at the end count too"
    steps = {int(values["step"]) for values in agent.learner.optimizer.state.values()}
    assert steps == {agent.learner.num_updates} == {len(seen)}


def test_an_environment_that_raises_in_a_worker_ends_the_run(config, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "envs"))
    run_config = config("a3c", env="counter:Counter-v0", kwargs={"fail_at": 4}, num_workers=1, num_envs=2, steps=10**6)
    with pytest.raises(EnvironmentFailure, match=r"worker 0: environment 'counter:Counter-v0' raised RuntimeError"):
        train(run_config, tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 4)


def test_workers_have_the_spaces_of_the_trainer(config, monkeypatch, tmp_path):
    """Bug: "The size of tensor a must match", told as a bug of rltrain."""
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "envs", "gym"))
    given = {"env": "wayward:Wayward-v0", "kwargs": {"how": "worker shape"}}
    with pytest.raises(EnvironmentFailure, match=r"worker 0: .*\[5\] and .* but the agent was made for .*\[3\]"):
        train(config("a3c", **given, num_workers=1, num_envs=2, steps=10**6), tmp_path / "run")


def test_a_signal_to_the_whole_group_saves_and_leaves_no_process(tmp_path):
    argv = ["algo=a3c", "env=cartpole", "total_steps=1e7", "log_every_steps=100", "eval_every_steps=0"]
    argv += ["algo.num_workers=2", "num_envs=2", "algo.num_steps=20", "checkpoint_every_steps=100", "progress=false"]
    with subprocess.Popen(
        [sys.executable, "-c", "from rltrain.cli import main; main()", *argv],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        children = []
        try:
            deadline_s = time.monotonic() + 120
            while not list(tmp_path.rglob("step_*")):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 4, "two workers, the server that forks them, multiprocessing's resource tracker"
            os.killpg(process.pid, signal.SIGTERM)
            error = process.communicate(timeout=60)[1]
            _, alive = psutil.wait_procs(children, timeout=10)
            assert not alive
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
    assert process.returncode == 143, error
    (status_file,) = (path for path in tmp_path.rglob("status.json") if "latest" not in path.parts)
    status = json.loads(status_file.read_text())
    step, state = checkpoint.load(status_file.parent)
    assert (status["exit_code"], status["step"]) == (143, step)
    assert step == 20 * state["agent"]["num_updates"]
