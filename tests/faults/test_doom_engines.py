"""Doom engines that are killed, hang, never start, or lose their trainer. With the real engine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom import engine as doom_engine
from rltrain.envs.doom import process as doom_process
from rltrain.envs.doom.scenario import make_pool
from rltrain.errors import EnvironmentFailure

pytestmark = pytest.mark.faults
SCENARIO = "take_cover"  # a reward of 1 a tic and no end for 20 steps and more


def engines(trainer: int | None = None) -> list[psutil.Process]:
    """Engine processes of this trainer or another, oldest first."""
    found = []
    for process in psutil.Process(trainer).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            if process.name() == "vizdoom":
                found.append((process.create_time(), process))
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def one_started(pool_size: int, **fields):
    """A pool, and its engines in the order of its environments."""
    pool = make_pool(DoomConfig("x", **{"scenario": SCENARIO} | fields), pool_size)
    of_env = {}
    for process in engines():
        number = next(Path(part).parts[-3] for part in process.cmdline() if part.endswith("engine.ini"))
        of_env[int(number)] = process
    return pool, [of_env[i] for i in range(pool_size)]


def undisturbed(num_steps: int):
    pool = make_pool(DoomConfig("x", scenario=SCENARIO), 2)
    obs = [pool.reset(5)]
    steps = [pool.step(np.array([t % 2, (t + 1) % 2])) for t in range(num_steps)]
    pool.close()
    return obs, steps


@pytest.mark.tries(20)
def test_a_killed_engine_is_replaced_and_no_transition_crosses_the_gap(attempt):
    """Bugs: a step that fails for all; the successor taken from the next episode; the broken episode in the
    statistics, or its reward in the next one's; the neighbour disturbed; an engine or shared memory left."""
    num_steps, rng = 12, np.random.default_rng(attempt)
    _, expected = undisturbed(num_steps)
    pool, processes = one_started(2)
    obs = pool.reset(5)
    at, between = int(rng.integers(2, 9)), bool(rng.integers(2))
    gap = None
    for t in range(num_steps):
        if t == at and between:
            processes[1].kill()
        pool.send(np.array([t % 2, (t + 1) % 2]))
        if t == at and not between:
            time.sleep(float(rng.uniform(0, 0.003)))
            processes[1].kill()
        sent = time.monotonic()
        step = pool.recv()
        assert (step.next_obs[0] == expected[t].next_obs[0]).all() and step.reward[0] == expected[t].reward[0]
        if step.first[1]:
            assert gap is None and at <= t <= at + 1
            gap = t
            assert time.monotonic() - sent < 5
            assert step.truncated[1] and not step.terminated[1] and step.reward[1] == 0 and not step.episodes
            assert (step.next_obs[1] == obs[1]).all(), "the successor is not the last true frame"
            assert (step.obs[1] != obs[1]).any()
        elif gap is None:
            assert (step.next_obs[1] == expected[t].next_obs[1]).all()
        else:
            assert step.reward[1] > 0
        obs = step.obs
    assert gap is not None and pool.num_restarts == 1
    while not step.episodes or step.episodes[0].env_index != 1:
        step = pool.step(np.array([0, 0]))
        num_steps += 1
    assert step.episodes[0].length_steps == num_steps - gap - 1, "the next episode counts steps of the broken one"
    pool.close()
    assert not engines()


@pytest.mark.tries(6)
def test_a_hung_engine_is_replaced_after_the_time_out(attempt, capfd):
    pool, processes = one_started(2, step_timeout_s=1.0)
    pool.reset(5)
    for _ in range(1 + attempt % 3):
        pool.step(np.array([0, 1]))
    processes[0].suspend()
    sent = time.monotonic()
    step = pool.step(np.array([0, 1]))
    assert 0.9 < time.monotonic() - sent < 6
    assert step.truncated.tolist() == [True, False] and step.first.tolist() == [True, False]
    assert "did not answer for 1 s" in capfd.readouterr().err
    assert not processes[0].is_running()
    assert not pool.step(np.array([0, 1])).first.any()
    pool.close()
    assert not engines()


def test_a_worn_engine_gives_way_to_another_between_two_episodes(monkeypatch):
    """Bugs: an episode cut or a step lost for it; a restart counted; the first engine's episodes played again; an
    engine left; two runs that differ."""
    monkeypatch.setattr(doom_engine, "MAX_EPISODES", 2)

    def play():
        pool, _ = one_started(2, scenario="basic")
        begun, frames, pids, num_steps = [pool.reset(3)[0].tobytes()], [], [engines()], 0
        while len(begun) < 7:
            num_steps += 1
            step = pool.step(np.array([num_steps % 3, 2]))
            assert len(step.episodes) == step.first.sum(), "an episode was cut"
            if step.first[0]:
                begun.append(step.obs[0].tobytes())
                pids.append(engines())
                assert len(pids[-1]) == 2
            frames.append(step.obs.tobytes())
        assert pool.num_restarts == 0
        pool.close()
        assert not engines()
        return begun, frames, {process.pid for group in pids for process in group}

    begun, frames, pids = play()
    assert len(pids) > 4, "the control: engines were renewed"
    assert len(set(begun)) == len(begun)
    assert play()[:2] == (begun, frames)


class Stuck:
    """A game whose call never returns once its engine is dead, as where the engine died holding ViZDoom's lock."""

    def __init__(self, game, process):
        self.game, self.process, self.release = game, process, threading.Event()

    def __getattr__(self, name):
        return getattr(self.game, name)

    def make_action(self, *args):
        self.process.kill()
        self.release.wait()
        return self.game.make_action(*args)


@pytest.mark.parametrize("closes", [False, True])
def test_a_call_that_does_not_notice_its_engines_death_is_given_up(closes):
    """Bugs: a pool that waits for ever; a call that returns late after all and counts as the next step."""
    pool, processes = one_started(2)
    obs = pool.reset(5)
    engine = pool._engines[0]
    engine._game = stuck = Stuck(engine._game, processes[0])
    sent = time.monotonic()
    pool.send(np.array([0, 1]))
    if not closes:
        step = pool.recv()
        assert time.monotonic() - sent < 10
        assert step.truncated.tolist() == [True, False] and (step.next_obs[0] == obs[0]).all()
        assert pool.num_restarts == 1
        later = pool.step(np.array([0, 1]))
        stuck.release.set()
        time.sleep(0.3)
        assert not later.first.any() and not pool.step(np.array([0, 1])).first.any()
        assert pool.num_restarts == 1
    pool.close()
    stuck.release.set()
    assert not engines()


def test_an_engine_that_is_lost_between_episodes_ends_none(monkeypatch):
    """Bug: a finished episode dropped because the next one did not begin."""
    pool, processes = one_started(1)
    pool.reset(0)
    engine = pool._engines[0]
    begin = engine.begin

    def begin_dead(*args):
        processes[0].kill()
        processes[0].wait()
        monkeypatch.setattr(engine, "begin", begin)
        begin(*args)

    monkeypatch.setattr(engine, "begin", begin_dead)
    while not (step := pool.step(np.array([0]))).first[0]:
        pass
    assert step.terminated[0] and not step.truncated[0] and len(step.episodes) == 1 and pool.num_restarts == 1
    pool.close()


def test_a_reset_replaces_a_dead_engine_and_begins_the_same_episode():
    obs, _ = undisturbed(0)
    pool, processes = one_started(2)
    processes[0].kill()
    processes[0].wait()
    assert (pool.reset(5) == obs[0]).all() and pool.num_restarts == 1
    pool.close()


@pytest.mark.parametrize("max_restarts", [0, 2])
def test_beyond_the_budget_it_is_code_4_with_the_reason(max_restarts):
    pool, _ = one_started(1, max_restarts=max_restarts)
    pool.reset(0)
    with pytest.raises(EnvironmentFailure, match=rf"{max_restarts} engines were replaced.*env\.max_restarts") as caught:
        for _ in range(max_restarts + 2):
            for process in engines():
                process.kill()
                process.wait()
            pool.step(np.array([0]))
    assert caught.value.exit_code == 4 and pool.num_restarts == max_restarts
    pool.close()
    assert not engines()


def test_a_close_in_the_middle_of_a_step_whose_engine_died_starts_no_other():
    pool, processes = one_started(2)
    pool.reset(0)
    processes[0].suspend()
    pool.send(np.array([0, 0]))
    processes[0].kill()
    pool.close()
    assert not engines() and pool.num_restarts <= 1


def run(code: str, tmp_path: Path, **keywords) -> subprocess.Popen:
    """Python code as a trainer of its own, whose temporary files go below tmp_path."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "RLTRAIN_FAULT_TEST": str(os.getpid())}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$", "sleep 0.5; exit 1"])
def test_an_engine_that_never_starts_is_an_error_and_no_crash(script, tmp_path):
    """Bug: ViZDoom reads a null pointer when its engine ends before it has started, and the trainer is gone."""
    code = f"""
        from pathlib import Path
        from rltrain.config.environments import DoomConfig
        from rltrain.envs.doom import engine
        from rltrain.envs.doom.scenario import make_pool
        from rltrain.errors import EnvironmentFailure
        place = Path("{tmp_path}") / "broken"
        place.mkdir()
        (place / "vizdoom").write_text("#!/bin/sh\\necho no such library\\n{script}\\n")
        (place / "vizdoom").chmod(0o700)
        real, engine.PACKAGE = engine.PACKAGE, place
        try:
            make_pool(DoomConfig("x"), 2)
        except EnvironmentFailure as error:
            print(error)
        engine.PACKAGE = real
        pool = make_pool(DoomConfig("x"), 2)  # it can still be put right in the same process
        pool.reset(0)
        pool.close()
        print("end")
    """
    process = run(code, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "does not start" in out and "no such library" in out and out.endswith("end\n")


TRAINER = """
    import sys, numpy as np
    from rltrain.config.environments import DoomConfig
    from rltrain.envs.doom.scenario import make_pool
    print("starting", flush=True)
    pool = make_pool(DoomConfig("x", scenario="take_cover"), 3)
    pool.reset(0)
    print("started", flush=True)
    while True:
        pool.step(np.zeros(3, int))
"""


def below(folder: Path) -> list[psutil.Process]:
    """Live processes whose command line names a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(
            str(folder) in part for part in process.info["cmdline"] or []
        ):
            found.append(process)
    return found


def shared_memory(folder: Path) -> list[str]:
    """Names in /dev/shm of the engines that worked below a folder."""
    instances = [path.read_text().split("+viz_instance_id ")[1].split()[0] for path in folder.rglob("processes")]
    return [name for name in os.listdir("/dev/shm") if any(name.endswith(instance) for instance in instances)]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
@pytest.mark.parametrize("path", ["the usual one", "without the system's programs", "no UTF-8", "mv fails", "full"])
def test_an_engine_whose_supervisor_lacks_programs_starts_or_is_an_error(path, tmp_path):
    """Bug: no end and no answer to a signal with the PATH of a cron job. The game that failed to start was destroyed:
    ViZDoom waits then for an engine that nobody ends, and holds the interpreter's lock."""
    words = ["algo=ppo", "env=doom_basic", "total_steps=32", "num_envs=1", "algo.num_steps=16", "batch_size=16"]
    words += ["eval_every_steps=0", "final_eval_episodes=1", "progress=false", "device=cpu"]
    code = "import sys\nfrom rltrain import cli\nfrom rltrain.envs.doom import process\n"
    broken = {"mv fails": ("mv processes.tmp", "false"), "full": ('echo "$$ $! $*" >processes.tmp', ": >processes.tmp")}
    if path in broken:
        code += f"process._SUPERVISOR = process._SUPERVISOR.replace{broken[path]!r}\n"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if path == "without the system's programs":
        env["PATH"] = str(Path(sys.executable).parent)
    if path == "no UTF-8":
        env["PATH"] += ":/opt/m\udcfcller/bin"
    command = [sys.executable, "-c", f"{code}sys.argv = ['rltrain', *{words}]\ncli.main()"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == (4 if path in broken else 0), done.stderr
    assert path not in broken or "the Doom engine does not start" in done.stderr.splitlines()[-1]


@pytest.mark.tries(12)
def test_nothing_outlives_a_killed_trainer(attempt, tmp_path, monkeypatch):
    """Bugs: engines or their shared memory left by kill -9, at work or while they start; the next start does not
    remove the folder."""
    process = run(TRAINER, tmp_path)
    delay_s = float(np.random.default_rng(attempt).uniform(0, 1.5))
    assert process.stdout.readline() == "starting\n"
    if attempt % 2 == 0:
        assert process.stdout.readline() == "started\n", process.stderr.read()
        assert len([engine for engine in below(tmp_path) if engine.name() == "vizdoom"]) == 3
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not below(tmp_path), "engines are left"
    if attempt % 2 == 0:
        assert not shared_memory(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = shared_memory(tmp_path)
    doom_process.sweep()
    assert not list(tmp_path.glob("rltrain-doom-*"))
    assert not set(left) & set(os.listdir("/dev/shm"))  # what was not told yet is seen by the fixture of all faults


def test_without_a_parent_death_signal_the_next_start_ends_the_engines(tmp_path, monkeypatch):
    code = TRAINER.replace(
        "print(", "from rltrain.envs.doom import process\n    process._dies_with_parent = str\n    print(", 1
    )
    process = run(code, tmp_path)
    assert process.stdout.readline() == "starting\n" and process.stdout.readline() == "started\n"
    process.kill()
    process.communicate()
    time.sleep(0.3)
    assert [engine for engine in below(tmp_path) if engine.name() == "vizdoom"], "the control: here they outlive it"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    doom_process.sweep()
    deadline = time.monotonic() + 5
    while below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not below(tmp_path) and not list(tmp_path.iterdir())


def test_names_of_an_engine_that_had_not_told_them_are_found_by_their_age(tmp_path, monkeypatch):
    """Bugs: two entries left by a trainer that was killed in the first moment of a start; those of others removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = tmp_path / "rltrain-doom-dead" / "0" / "1"
    start.mkdir(parents=True)
    (start / "engine.sh").touch()
    (tmp_path / "rltrain-doom-dead" / "lock").touch()
    left, mapped = (Path(f"/dev/shm/ViZDoomMQCtrrltrainTest{os.getpid()}x{i}") for i in range(2))
    for path in (left, mapped):
        path.write_bytes(b"0" * 4096)
    memory = np.memmap(mapped)
    try:
        later = left.stat().st_ctime + 60
        os.utime(start / "engine.sh", (later, later))
        doom_process.sweep()
        assert left.exists(), "an entry from before the start is not ours"
        start.mkdir(parents=True)
        (start / "engine.sh").touch()
        (tmp_path / "rltrain-doom-dead" / "lock").touch()
        doom_process.sweep()
        assert not left.exists() and mapped.exists()
    finally:
        del memory
        for path in (left, mapped):
            path.unlink(missing_ok=True)


def test_a_sweep_leaves_all_others_alone(tmp_path, monkeypatch):
    """Bug: a neighbour's training, or whatever else looks like ours, removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = run(TRAINER, tmp_path)
    assert process.stdout.readline() == "starting\n" and process.stdout.readline() == "started\n"
    (tmp_path / "rltrain-doom-unknown").mkdir()
    foreign = Path(f"/dev/shm/ViZDoomSMrltrainTest{os.getpid()}")
    foreign.touch()
    pool, processes = one_started(1)  # a trainer of ours in this process, and its sweep
    try:
        before = {path.name for path in tmp_path.iterdir()}
        doom_process.sweep()
        assert {path.name for path in tmp_path.iterdir()} == before and len(before) == 3
        assert foreign.exists() and processes[0].is_running()
        assert len([engine for engine in below(tmp_path) if engine.name() == "vizdoom"]) == 4
        pool.reset(0)
    finally:
        foreign.unlink(missing_ok=True)
        pool.close()
        process.kill()
        process.communicate()


def test_signals_of_a_terminal_are_left_to_the_trainer():
    """Bug: Ctrl-C, which reaches the whole group, ends the engines before the trainer has saved."""
    pool, processes = one_started(2)
    pool.reset(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        for process in [*processes, *(process.parent() for process in processes)]:
            process.send_signal(number)
    time.sleep(0.2)
    assert not pool.step(np.array([0, 0])).first.any() and pool.num_restarts == 0
    pool.close()


def test_a_run_goes_on_after_a_kill_and_ends_with_code_4_when_they_go_on(start, status):
    arguments = ["algo=dqn", "env=doom", "device=cpu", "progress=false", "num_envs=2", "total_steps=1e9"]
    arguments += ["algo.learning_starts=1e9", "env.max_restarts=1", "eval_every_steps=0", "log_every_steps=20"]
    process = start(*arguments)
    metrics = process.wait_for("metrics.jsonl")
    first = engines(process.process.pid)
    first[0].kill()
    while set(engines(process.process.pid)) <= set(first) or len(engines(process.process.pid)) < 2:
        time.sleep(0.05)
    lines = len(metrics.read_text().splitlines())
    while len(metrics.read_text().splitlines()) < lines + 2:
        time.sleep(0.05)
    first[1].kill()
    code, error = process.end()
    assert code == 4, error
    last = error.strip().splitlines()[-1]
    assert last.startswith("rltrain: error:") and "1 engines were replaced" in last and "engine" in last
    assert "is replaced (1 of 1)" in error
    assert status(metrics.parent)["exit_code"] == 4
    assert json.loads(metrics.read_text().splitlines()[-1])["env/restarts"] == 1
