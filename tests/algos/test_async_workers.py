"""Worker processes on shared parameters: no update lost, one set of statistics, and every way in which one can end."""

import multiprocessing
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from gymnasium.spaces import Box

from rltrain.algos.parts import async_workers
from rltrain.algos.parts.async_workers import Shared, Workers
from rltrain.config.algorithms import A3CConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, EnvironmentFailure, NonFiniteError, OutOfMemory
from rltrain.fast.accelerate import accelerate
from rltrain.fast.cnn import FusedTorso
from rltrain.nn.learner import Learner
from rltrain.nn.networks import Torso
from rltrain.system import process

NUM_UPDATES = 25


def make():
    """A network of two numbers and its learner."""
    torch.manual_seed(0)
    network = torch.nn.Linear(1, 1)
    return network, Learner(RunConfig(algo=A3CConfig(learning_rate=0.1)), network)


def work(run_config, shared, trainer, argument):
    """Do what the trainer says in place of a learning rate."""
    network, learner = make()
    shared.attach(learner.optimizer)
    while True:
        task = trainer.wait_for_learning_rate()
        if task == "many updates":
            for _ in range(NUM_UPDATES):
                for parameter in network.parameters():
                    parameter.grad = torch.ones_like(parameter)
                shared.step(learner)
        elif task == "raise":
            raise ValueError("what the worker stumbled over")
        elif task == "raise a variable":
            raise ValueError(f"the variable is {os.environ.get('OF_A_LATER_JOB')}")
        elif task == "raise one of ours":
            raise NonFiniteError("the gradient is not finite", "train/grad_norm", "lower it")
        elif task == "run out of memory":
            raise MemoryError
        elif task == "read a file":
            os.stat(os.devnull + "/missing")
        elif task.startswith("log to "):
            process.undead.append(open(task.removeprefix("log to "), "w"))  # noqa: SIM115
            process.undead[-1].write("a trade")
        elif task.startswith("leave a timer for "):
            place = Path(task.removeprefix("leave a timer for "))
            signal.signal(signal.SIGVTALRM, lambda *_, place=place: place.touch())
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.004)
        elif task == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif task == "be killed with the lock":
            shared.lock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        elif task == "hang with the lock":
            shared.lock.acquire()
            trainer.report({})
            threading.Event().wait()
        trainer.report({})


def gather(workers):
    """The indices of all that play, as they report."""
    indices = []
    while workers.playing:
        indices += [index for index, _ in workers.reports()]
    return indices


@pytest.fixture(scope="module")
def team():
    """Five workers for all tests here, the shared network and its optimizer. A process takes seconds to start."""
    accelerate(True)  # as in the workers
    network, learner = make()
    workers = Workers(work, RunConfig(), Shared(network, learner), [None] * 5)
    yield workers, network, learner.optimizer
    workers.close()


def test_workers_step_one_set_of_parameters_and_statistics(team):
    workers, network, optimizer = team
    for index in range(5):
        workers.go_on(index, "many updates")
    assert sorted(gather(workers)) == [0, 1, 2, 3, 4]
    alone, learner = make()
    for _ in range(5 * NUM_UPDATES):
        for parameter in alone.parameters():
            parameter.grad = torch.ones_like(parameter)
        learner.optimizer.step()
    for ours, wanted in zip(network.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, wanted)
        for name, value in learner.optimizer.state[wanted].items():
            assert torch.equal(optimizer.state[ours][name], value), name
        # With statistics of its own, each worker would have counted to 25.
        assert optimizer.state[ours]["step"] == 5 * NUM_UPDATES


def test_what_the_trainer_made_of_the_parameters_is_known_to_be_old(team):
    workers, network, _ = team
    torso = Torso(Box(0, 255, (1, 36, 36), np.uint8), 1, NetworkConfig(name="small_cnn"), torch.bfloat16, init=True)
    fused = FusedTorso(torso)
    fused._parameters[-1] = network.bias  # one that the workers step
    converted = fused._in_low_precision()[-2].bias.clone()
    workers.go_on(0, "many updates")
    gather(workers)
    with workers.paused():
        assert not torch.equal(fused._in_low_precision()[-2].bias, converted), "evaluations would go on with the first"


def test_every_way_to_fail_is_told_and_none_leaves_a_process(team):
    workers, _, _ = team
    wanted = [
        ("raise", RuntimeError, "worker 0 failed:.*what the worker stumbled over"),
        ("raise one of ours", NonFiniteError, "worker 1: the gradient is not finite; train/grad_norm; lower it"),
        ("be killed", EnvironmentFailure, r"worker 2 ended without an error message \(signal 9\)"),
        ("be killed with the lock", EnvironmentFailure, r"worker 3 ended without an error message \(signal 9\)"),
    ]
    for index, (task, kind, text) in enumerate(wanted):
        workers.go_on(4, "report")
        assert gather(workers) == [4], "the control: the others go on"  # it may still be starting
        workers.go_on(index, task)
        with pytest.raises(kind, match=f"(?s){text}"):
            gather(workers)
        workers.playing.clear()
    with pytest.raises(EnvironmentFailure, match="ended without an error message"), workers.paused():
        pytest.fail("a lock that nobody can give back")
    workers.go_on(4, "many updates")  # which waits for that lock
    processes = [psutil.Process(process.pid) for process in workers._processes if process.is_alive()]
    assert processes, "the control: one is left to be ended"
    workers.close()
    assert not any(process.is_running() for process in processes)


TRAINER = """
import test_async_workers as here
if __name__ == "__main__":
    workers = here.Workers(here.work, here.RunConfig(), here.Shared(*here.make()), [None, None])
    workers.go_on(0, "hang with the lock")
    here.gather(workers)
    workers.go_on(1, "many updates")
    print("ready", flush=True)
    here.gather(workers)
"""


def test_workers_end_when_their_trainer_is_killed(tmp_path):
    (tmp_path / "trainer.py").write_text(TRAINER)
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, tmp_path / "trainer.py"], stdout=subprocess.PIPE, env=environment
    ) as process:
        children = []
        try:
            assert process.stdout.readline() == b"ready\n"
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 4, "two workers, the server that forks them, multiprocessing's resource tracker"
            process.kill()
            _, alive = psutil.wait_procs(children, timeout=30)
            assert not alive
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def test_workers_have_the_variables_that_their_own_trainer_has(team, monkeypatch):
    """Bug: the server that forks them starts with the first job of a sweep, so later jobs had the variables of that."""
    monkeypatch.setenv("OF_A_LATER_JOB", "its own")
    later = Workers(work, RunConfig(), Shared(*make()), [None])
    try:
        later.go_on(0, "raise a variable")
        with pytest.raises(RuntimeError, match="the variable is its own"):
            gather(later)
    finally:
        later.close()


def test_what_an_environment_logs_in_a_worker_is_written_at_the_end(team, tmp_path):
    """Bug: an environment with a destructor is never destroyed, and the worker ended with its log in the memory."""
    own = Workers(work, RunConfig(), Shared(*make()), [None])
    own.go_on(0, f"log to {tmp_path / 'log'}")
    gather(own)
    own.close()
    assert (tmp_path / "log").read_text() == "a trade"


def test_a_timer_that_an_environment_leaves_in_a_worker_is_stopped_at_the_end(team, tmp_path):
    """Bug: what its handler raised was a traceback of the worker, whose files were not written then."""
    own = Workers(work, RunConfig(), Shared(*make()), [None])
    own.go_on(0, f"leave a timer for {tmp_path / 'fired'}")
    gather(own)
    own.close()
    assert not (tmp_path / "fired").exists()


def test_what_a_worker_lacks_is_no_bug(team):
    """Bug: "a bug in rltrain" for a worker that had no memory left, which in the trainer is code 6."""
    lacks = [("run out of memory", OutOfMemory, "out of memory"), ("read a file", CheckpointError, "/dev/null/missing")]
    for task, kind, text in lacks:
        own = Workers(work, RunConfig(), Shared(*make()), [None])
        try:
            own.go_on(0, task)
            with pytest.raises(kind, match=f"worker 0: .*{text}"):
                gather(own)
        finally:
            own.close()


def test_workers_of_a_network_with_many_tensors_are_started_one_by_one():
    """Bug: `ValueError: too many fds` for a deep network, as the server takes at most 250 shared tensors."""
    few, many = (SimpleNamespace(tensors=[0] * count, state=[{"step": 0}] * count) for count in (10, 101))
    assert async_workers._context(work, few).get_start_method() == "forkserver"
    assert async_workers._context(work, many).get_start_method() == "spawn"


def test_sockets_have_a_short_path_where_temporary_files_have_a_long_one(monkeypatch, tmp_path):
    """Bug: "AF_UNIX path too long" with the TMPDIR of a cluster's job."""
    config = multiprocessing.current_process()._config
    before = config.pop("tempdir", None)
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    try:
        async_workers._shorten_temporary_folder()
        assert multiprocessing.util.get_temp_dir().startswith("/tmp/") and tempfile.gettempdir() == str(long)
    finally:
        config.pop("tempdir")
        if before is not None:
            config["tempdir"] = before
