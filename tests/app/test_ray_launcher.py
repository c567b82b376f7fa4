"""`hydra/launcher=rltrain_ray` without Ray: settings, refusals, and what becomes of jobs. A small stand-in takes Ray's
place."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import QUICK

from rltrain.app import hydra_app, jobs, keeper, on_ray, resolve, sweep
from rltrain.config.runtime import RayLauncherConfig
from rltrain.errors import ProcessLost, Stopped
from rltrain.runtime import ray_cluster

JOBS = ["-m", "algo=q_learning", "env=maze", "seed=0,1", "total_steps=300", *QUICK, "hydra/launcher=rltrain_ray"]


ENDLESS, KILLED_HOLDER = -1000, None
"""How a job ends."""


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Ray:
    """A stand-in whose actors answer at once. Each job has a list of ends, one for each time that it is tried."""

    def __init__(self, place: Path, ends: dict[int, list]):
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.place, self.ends = place, {number: deque(tries) for number, tries in ends.items()}
        self.answers, self.killed, self.options, self.begun = {}, [], {}, []

    def remote(self, **options):
        self.options = options
        return lambda cls: SimpleNamespace(remote=self._actor)

    def _actor(self):
        handle = SimpleNamespace()

        def start(plan, log, threads, working_directory, folders, words):
            Path(log).touch()
            handle.number = int(words[1])
            handle.end = end = self.ends[handle.number].popleft()
            reference = f"start {len(self.answers)}"
            self.answers[reference] = end if isinstance(end, str | RayTaskError) else ""
            return reference

        def wait():
            self.begun.append(handle.number)
            reference = f"wait {len(self.answers)}"
            self.answers[reference] = handle.end
            if handle.end == 0 or "after its end" in str(handle.end):
                ended(self.place / f"{handle.number:02d}")
            return reference

        def stop(number):
            ended(self.place / f"{handle.number:02d}", "stopped")
            self.answers |= {key: 128 + number for key, answer in self.answers.items() if answer == ENDLESS}

        handle.start, handle.wait, handle.stop = (SimpleNamespace(remote=call) for call in (start, wait, stop))
        return handle

    def wait(self, references, num_returns, timeout):
        ready = [each for each in references if self.answers[each] != ENDLESS][:num_returns]
        return ready, [each for each in references if each not in ready]

    def get(self, reference):
        answer = self.answers[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, handle):
        self.killed.append(handle.number)

    def cluster_resources(self):
        return {"CPU": 4.0}


def ended(folder: Path, state: str = "done") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").touch()
    (folder / "status.json").write_text(json.dumps({"state": state}))
    if state == "done":
        (folder / "result.json").write_text(json.dumps({"final": {"mean_reward": 1.0, "std_reward": 0.0}}))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run jobs with the given ends; returns the exit code and the stand-in. Other words are settings."""

    def call(ends, fail_fast=False, **settings):
        ray = Ray(tmp_path, ends)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(ray_cluster, "connect", lambda *args: lambda: None)
        monkeypatch.setattr(on_ray, "_PAUSE_S", 0.0)
        found = [sweep.Job(number, f"{number:02d}", [], [], {"x": str(number)}, {"env": {}}) for number in ends]
        planned = sweep.Sweep(tmp_path, found, ray=RayLauncherConfig(**settings))
        planned.save()
        ray.sweep = planned
        return jobs.run(planned, found, fail_fast), ray

    return call


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hydra.launcher.address=there"], "hydra.launcher.address; use local, auto, or HOST:PORT"),
        (["hydra.launcher.cpus_per_job=0"], "hydra.launcher.cpus_per_job; give a value of at least 0.01"),
        (["hydra.launcher.cpus_per_job=100000"], "hydra.launcher.cpus_per_job; reserve fewer, or join a cluster"),
        (["hydra.launcher.gpus_per_job=1.5"], "hydra.launcher.gpus_per_job; give e.g. 0.5 or 2"),
        (["hydra.launcher.cpus_per_job=inf"], "hydra.launcher.cpus_per_job; give e.g. 0.5 or 2"),
        (["hydra.launcher.cpus_per_job=two"], "hydra.launcher.cpus_per_job; give a number"),
        (["hydra.launcher.max_restarts=-1"], "hydra.launcher.max_restarts; give a value of at least 0"),
        (["hydra.launcher.adress=auto"], "hydra.launcher.adress; did you mean 'hydra.launcher.address'"),
        (["hydra/launcher=basic", "hydra.launcher.address=auto"], "it needs hydra/launcher=rltrain_ray"),
        (["hydra/launcher=rltrain_rey"], "unknown hydra/launcher 'rltrain_rey'; hydra/launcher; did you mean"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(words, expected, command, monkeypatch):
    """Bugs: a traceback of Hydra, or of Ray in the middle of a sweep; a folder of a sweep that cannot run."""
    monkeypatch.setattr(resolve, "find_spec", lambda name: name)
    outcome = command(*[word for word in JOBS if not words[0].startswith("hydra/") or "rltrain" not in word], *words)
    assert outcome.code == 2 and expected in outcome.last_line, outcome.err
    assert not outcome.run_dir.exists()


def test_without_ray_the_launcher_says_how_to_install_it(command, monkeypatch):
    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    outcome = command(*JOBS)
    assert outcome.code == 4
    assert outcome.last_line.endswith("Ray is missing; hydra/launcher; pip install 'rltrain[ray]'")
    assert not outcome.run_dir.exists()


def test_the_settings_reach_the_jobs_and_the_command_that_continues(command, monkeypatch):
    """Bugs: settings that Hydra composes and nobody reads; `resume` of the printed command on this machine."""
    monkeypatch.setattr(resolve, "find_spec", lambda name: name)
    found = []

    def stopped(planned, todo, fail_fast, pace, settings):
        found.append(settings)
        return signal.SIGTERM

    monkeypatch.setattr(on_ray, "run", stopped)
    words = ["hydra.launcher.address=node1:6379", "hydra.launcher.cpus_per_job=2", "hydra.launcher.gpus_per_job=0.5"]
    outcome = command(*JOBS, *words)
    assert outcome.code == 143, outcome.err
    assert found == [RayLauncherConfig("node1:6379", 2.0, 0.5, 3)]
    again = shlex.split(outcome.last_line.partition("resume with: rltrain ")[2])
    assert command(*again).code == 143 and found[1] == found[0]
    plan = json.loads((Path(again[1]) / sweep.PLAN).read_text())
    assert plan["at_once"] >= 1 and "node1" not in str(plan), "joining a cluster must be typed"
    assert not any("launcher" in word for job in plan["jobs"] for word in job["command"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hydra/launcher=joblib"], "`resume` takes no other launcher"),
        (["hydra.launcher.address=auto"], "`resume` takes no other launcher"),
        (["hydra/launcher=rltrain_ray", "hydra.launcher.address=there"], "'there' is no address of a Ray cluster"),
        (["hydra/launcher=rltrain_ray", "hydra.launcher.cpus_per_job=two"], "has the wrong type"),
    ],
)
def test_resume_refuses_wrong_settings_of_a_cluster(words, expected, command, tmp_path, monkeypatch):
    monkeypatch.setattr(resolve, "find_spec", lambda name: name)
    sweep.Sweep(tmp_path, []).save()
    outcome = command("resume", tmp_path, *words)
    assert outcome.code == 2 and expected in outcome.last_line, outcome.err


def test_a_single_run_takes_no_cluster(command):
    """Bug: `resume RUN hydra/launcher=rltrain_ray` runs here, and says nothing."""
    assert command(*[word for word in JOBS[1:-1] if word != "seed=0,1"]).code == 0
    outcome = command("resume", "last", "total_steps=400", "hydra/launcher=rltrain_ray")
    assert outcome.code == 2 and "this key is for a sweep; hydra/launcher" in outcome.last_line


def test_a_lost_job_is_tried_again_up_to_a_number_of_times(run, capsys):
    """Bugs: a lost job fails at once, or is tried without end, or ends the others."""
    lost = RayError("The actor is dead because its node has died. The node's id is 1.\nmore")
    code, ray = run({0: [lost, lost, 0], 1: [lost, lost, lost], 2: [0]}, max_restarts=2)
    error = capsys.readouterr().err
    assert code == 1 and "2 of 3 jobs done, 1 failed" in error
    assert error.count("00: its actor is lost: The actor is dead because its node has died; it is tried again") == 2
    assert "tried again (2 of 2)" in error and error.count("job 1 of 3: 00") == 1
    reason = ray.sweep.state(ray.sweep.jobs[1])[1]
    assert reason.startswith("its actor is lost: ") and ", in try 3; hydra.launcher.max_restarts; " in reason
    assert sorted(ray.begun) == [0, 0, 0, 1, 1, 1, 2]
    assert len(ray.killed) == 7, "an actor that is not killed keeps its cores"
    assert ray.options["num_cpus"] == 1 and ray.options["scheduling_strategy"] == "SPREAD"


def test_a_job_whose_holder_ray_has_killed_is_lost_and_not_killed(run, capsys):
    """Bug: on a lost node Ray kills the holder a moment before the actor, which still says so: the job counts as
    killed by SIGKILL and fails."""
    code, _ = run({0: [KILLED_HOLDER, 0]})
    assert code == 0
    assert "00: the process that holds it was killed; it is tried again (1 of 3)" in capsys.readouterr().err


def test_a_job_that_was_lost_after_its_end_is_done(run):
    """Bug: a finished job is tried again, because its actor is lost before it could answer."""
    code, ray = run({0: [RayError("lost after its end")]})
    assert code == 0 and ray.begun == [0]


def test_a_node_that_does_not_see_the_folder_fails_its_job_alone(run, tmp_path):
    """Bug: a traceback of Ray, or jobs that train into a folder that nobody looks at."""
    why = keeper.Keeper().start(str(tmp_path / "gone" / sweep.PLAN), str(tmp_path / "gone/00.log"), 1, "/", [], [])
    assert "does not see the sweep's folder" in why and not (tmp_path / "gone").exists()
    code, ray = run({0: [why], 1: [0]})
    assert code == 1
    state, reason = ray.sweep.state(ray.sweep.jobs[0])
    assert state == "failed" and reason == f"{why}; {tmp_path}; put run_dir on a file system that all nodes share"


def test_a_node_without_rltrain_fails_its_job_with_the_cause(run):
    cause = RayTaskError("ray::Keeper.start()\n  File x\nModuleNotFoundError: No module named 'rltrain'\n")
    code, ray = run({0: [cause], 1: [0]})
    assert code == 1
    assert (
        "the job cannot start: ModuleNotFoundError: No module named 'rltrain'; hydra.launcher.address; install"
        in (ray.sweep.state(ray.sweep.jobs[0])[1])
    )


def test_a_signal_reaches_every_job_and_begins_no_other(run, capsys):
    """Bugs: a second Ctrl-C is not passed on; jobs that wait for a node begin after the signal."""
    timer = subprocess.Popen([sys.executable, "-c", f"import os,time; time.sleep(1); os.kill({os.getpid()}, 15)"])
    with pytest.raises(Stopped) as stopped:
        run({0: [ENDLESS], 1: [0], 2: [ENDLESS]})
    timer.wait()
    assert stopped.value.signal_number == signal.SIGTERM
    assert "hydra/launcher=rltrain_ray" in stopped.value.again
    assert "stopping: 2 jobs are saving" in capsys.readouterr().err


def test_after_a_failed_job_fail_fast_begins_no_other(run, monkeypatch):
    """Bug: jobs that wait for a node begin although fail_fast=true."""
    monkeypatch.setattr(Ray, "wait", lambda self, references, num_returns, timeout: (references[-1:], references[:-1]))
    code, ray = run({0: [0], 1: [0], 2: [1]}, fail_fast=True)
    assert code == 1 and ray.begun == [2]


def test_a_lost_cluster_ends_the_sweep_with_the_way_on(run, monkeypatch):
    """Bug: "a bug in rltrain" if the head of the cluster is lost."""

    def lost(*args, **options):
        raise RayError("GCS is gone")

    monkeypatch.setattr(Ray, "wait", lost)
    with pytest.raises(ProcessLost, match=r"Ray is lost: GCS is gone; hydra\.launcher\.address; go on with"):
        run({0: [0]})


def test_a_result_that_a_file_server_shows_late_is_waited_for(run, monkeypatch):
    """Bug: a job that is done on another node counts as failed for the seconds until this machine sees its files."""
    finished, seen = sweep.Sweep.finished, []

    def late(self, job):
        seen.append(job)
        return len(seen) > 6 and finished(self, job)

    monkeypatch.setattr(sweep.Sweep, "finished", late)
    assert run({0: [0]})[0] == 0


def test_no_job_for_a_while_is_told_with_what_a_job_needs(run, monkeypatch, capsys):
    """Bug: a sweep that waits in silence for a GPU that no node has."""
    monkeypatch.setattr(on_ray, "_START_S", 0.0)
    calls = []

    def nothing_at_first(self, references, num_returns, timeout):
        calls.append(references)
        return ([], references) if len(calls) < 3 else (references[:1], references[1:])

    monkeypatch.setattr(Ray, "wait", nothing_at_first)
    assert run({0: [0]}, gpus_per_job=1.0)[0] == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "no job has begun" in line]
    assert len(lines) == 1 and "a job needs 1 cores and 1 GPUs of one node, and the cluster has 4 and 0" in lines[0]


@pytest.fixture
def endless(tmp_path, command, monkeypatch):
    """A sweep's folder whose first job never ends, and the words of the process of this job."""
    place = tmp_path / "sweep"
    monkeypatch.setattr(jobs, "run", lambda *args, **options: 0)
    words = [word for word in JOBS[:-1] if not word.startswith("total_steps")]
    assert command(*words, "total_steps=1e9", "eval_every_steps=0", f"hydra.sweep.dir={place}").code == 0
    return place, [str(place), "0", "False"]


@pytest.mark.parametrize("who", ["a signal", "the actor", "the holder"])
def test_a_job_saves_and_ends_if_it_is_asked_to_or_loses_its_actor(who, endless, monkeypatch):
    """Bugs: Ray kills the children of an actor, and the job with them, before it has saved; a job without its actor
    goes on; a signal that Ray blocks in its processes never reaches the job."""
    place, words = endless
    number = signal.SIGINT if who == "a signal" else signal.SIGTERM
    made = keeper.Keeper()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        log = str(place / "00.log")
        assert made.start(str(place / sweep.PLAN), log, 1, os.getcwd(), sys.path, words) == ""
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    status = place / "00_seed-0" / "status.json"
    end_s = time.monotonic() + 120
    while not status.exists() or json.loads(status.read_text())["state"] != "running":
        assert time.monotonic() < end_s, Path(log).read_text()
        time.sleep(0.05)
    if who == "a signal":
        made.stop(number)
        assert made.wait() == 128 + number
    elif who == "the actor":
        made._holder.stdin.close()
        made._holder.stdout.close()
        made._holder.wait(60)
    else:
        made._holder.kill()
        assert made.wait() is None
    while json.loads(status.read_text())["state"] == "running":
        assert time.monotonic() < end_s, Path(log).read_text()
        time.sleep(0.05)
    assert json.loads(status.read_text())["state"] == "stopped", Path(log).read_text()
    assert "Traceback" not in Path(log).read_text()
    made._holder.stdin.close()
    made._holder.stdout.close()


def test_the_words_of_the_settings_give_the_settings_again():
    """Bug: the command that continues a sweep leaves out a setting."""
    settings = RayLauncherConfig("node1:6379", 0.5, 1.0, 7)
    values = dict(word.split("=", 1) for word in settings.words())
    assert values.pop("hydra/launcher") == "rltrain_ray"
    assert {key.rpartition(".")[2] for key in values} == set(vars(settings))
    assert RayLauncherConfig().words() == ["hydra/launcher=rltrain_ray"]
    assert hydra_app.composed(["hydra/launcher=rltrain_ray"]), "rltrain --help composes it, too"
