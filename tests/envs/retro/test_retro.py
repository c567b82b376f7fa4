"""The pool of console games, with the real emulator and the game whose ROM comes with it."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from console import LEFT, RIGHT, airstriker

from rltrain.config.environments import RetroConfig
from rltrain.envs.retro.family import make_pool
from rltrain.envs.retro.pool import spaces
from rltrain.errors import ConfigError, EnvironmentFailure

stable_retro = pytest.importorskip("stable_retro")

SONIC = "SonicTheHedgehog-Genesis-v0"


def workers():
    """This process's children, without multiprocessing's own."""
    children = psutil.Process().children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def named_shared_memory():
    """Files of multiprocessing's shared memory that this process maps and that still have a name; None: none at all."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = [line for line in maps if re.search(r"/pym-", line)]
    return [line for line in mapped if not line.endswith("(deleted)")] if mapped else None


def test_random_games_end_as_they_should_and_every_step_is_accounted_for():
    """Bugs: a game over taken for a time limit; next_obs from the new game; statistics that leak into the next game."""
    pool, endless = make_pool(airstriker(max_episode_frames=1440), 2), make_pool(airstriker(), 2)
    rng = np.random.default_rng(5)
    sums, lengths, kinds = np.zeros(2), np.zeros(2, int), set()
    obs, reference = pool.reset(0), endless.reset(0)
    assert (obs == reference).all()
    in_step = np.ones(2, bool)  # whether `endless` still plays the same game
    for _ in range(380):
        action = rng.integers(4, size=2)
        endless.send(action)
        step, reference = pool.step(action), endless.recv()
        assert (step.next_obs[in_step] == reference.next_obs[in_step]).all()
        assert (step.obs[~step.first] == step.next_obs[~step.first]).all()
        assert (step.first == (step.terminated | step.truncated)).all()
        sums += step.reward
        lengths += 1
        for episode in step.episodes:
            i = episode.env_index
            assert (episode.reward, episode.length_steps) == (sums[i], lengths[i])
            assert (step.obs[i] != step.next_obs[i]).mean() > 0.01
            if step.truncated[i]:
                assert (episode.length_steps, episode.length_frames) == (360, 1440)
                assert not step.terminated[i]
            else:
                assert 4 * episode.length_steps - 4 < episode.length_frames <= 4 * episode.length_steps < 1440
                assert episode.reward > 0
            kinds.add(bool(step.truncated[i]))
            sums[i], lengths[i], in_step[i] = 0, 0, False
    pool.close()
    endless.close()
    assert kinds == {False, True}, "a control: both ends did occur"


def test_environment_i_depends_on_seed_and_i_alone():
    """Bugs: a run depending on the one before or on num_envs; all environments alike; the seed ignored; the length of
    one episode counted on in the next."""

    def frames(pool, seed):
        obs = [pool.reset(seed)]
        steps = [pool.step(np.full(pool.num_envs, t % 4)) for t in range(40)]
        lengths = [(episode.length_steps, episode.length_frames) for step in steps for episode in step.episodes]
        assert lengths == [(15, 60)] * 2 * pool.num_envs
        return np.stack(obs + [step.obs for step in steps])

    pool, fresh = make_pool(airstriker(max_episode_frames=60), 3), make_pool(airstriker(max_episode_frames=60), 2)
    first, second, other, elsewhere = frames(pool, 1), frames(pool, 1), frames(pool, 2), frames(fresh, 1)
    pool.close()
    fresh.close()
    assert (first == second).all() and (first[:, :2] == elsewhere).all()
    assert (first != other).any() and (first[:, 0] != first[:, 1]).any()


def test_arrays_belong_to_the_receiver_and_render_shows_the_game():
    """Bugs: the memory that the emulator writes to handed out; a reset or a picture that takes an answer of a step."""
    pool = make_pool(airstriker(gray=False, noop_max=0), 1)
    obs = pool.reset(0)
    taken = [pool.step(np.array([RIGHT])) for _ in range(5)]
    copies = [(step.obs.copy(), step.next_obs.copy()) for step in taken]
    picture = pool.render()
    assert picture.shape == (224, 320, 3) and picture.dtype == np.uint8
    assert picture[:112].mean() == pytest.approx(float(taken[-1].obs[0, :, :28].mean()), abs=2)
    for _ in range(5):
        pool.step(np.array([LEFT]))
    assert all((a == step.obs).all() and (b == step.next_obs).all() for (a, b), step in zip(copies, taken, strict=True))
    pool.send(np.array([LEFT]))
    assert (pool.reset(0) == obs).all()
    with pytest.raises(RuntimeError):
        pool.recv()
    pool.close()


def test_nothing_is_left_behind():
    """Bugs: processes that outlive `close`, or a pool that nobody closed; shared memory with a name, which stays
    where the trainer is killed."""
    pool = make_pool(airstriker(), 2)
    pool.reset(0)
    assert len(workers()) == 2
    if sys.platform == "linux":
        assert named_shared_memory() == []
    pool.send(np.array([0, 0]))  # a close in the middle of a step, as after Ctrl-C
    pool.close()
    pool.close()
    assert not workers()
    pool = make_pool(airstriker(), 1)
    pool.reset(0)
    del pool
    assert not workers()


def test_a_dead_emulator_is_reported_and_signals_of_the_group_are_left_to_the_trainer():
    """Bugs: waiting for ever for a dead process; Ctrl-C or a scheduler's SIGTERM ending emulators before the save."""
    pool = make_pool(airstriker(max_restarts=0), 2)
    pool.reset(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        for worker in workers():
            worker.send_signal(number)
    for _ in range(3):
        pool.step(np.zeros(2, int))
    workers()[0].kill()
    with pytest.raises(EnvironmentFailure, match="SIGKILL") as caught:
        for _ in range(3):
            pool.step(np.zeros(2, int))
    assert caught.value.exit_code == 4
    pool.close()
    assert not workers()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_emulators_die_with_the_trainer(tmp_path):
    """Bugs: emulators that outlive a trainer killed with SIGKILL; one that hangs, so that it reads no pipe."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, psutil\n"
        "from rltrain.envs.retro.pool import RetroConfig, make_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = make_pool(RetroConfig('x'), 2)\n"
        "    pool.reset(0)\n"
        "    children = [child.pid for child in psutil.Process().children()]\n"
        "    os.kill(children[-1], signal.SIGSTOP)\n"
        "    print(*children, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120)
    children = [int(word) for word in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(children) >= 2, done.stderr
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if alive(child)]


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_wrong_configurations_are_refused_with_a_hint():
    """Bugs: a traceback of the library; a missing ROM told for a name that is wrong."""
    for game in (SONIC, "SonicTheHedgehog2-Genesis-v0", "SonicTheHedgehog3-Genesis-v0"):
        if stable_retro.data.get_file_path(game, "rom.md") is None:
            with pytest.raises(EnvironmentFailure, match=r"python -m stable_retro\.import DIR"):
                spaces(RetroConfig("x", game=game))
    for fields, hint in (
        ({"game": "SonicTheHedgehog-Genesis"}, SONIC),
        ({"game": SONIC, "state": "GreenHill.Act1"}, r"GreenHillZone\.Act1"),
        ({"game": SONIC, "states": ["GreenHillZone.Act1", "MarbelZone.Act2"]}, r"MarbleZone\.Act2"),
        ({"game": SONIC, "scenario": "contst"}, "contest"),
        ({"scenario": "metadata"}, "scenario"),
        ({"actions": ["JUMP"]}, "JUMP"),
        ({"reward_variable": "scores"}, "score"),
    ):
        with pytest.raises(ConfigError, match=hint):
            spaces(RetroConfig("x", **fields))
    for fields in (
        {"crop": [1, 2]},
        {"crop": [0, 0, 0, -1]},
        {"state": "a", "states": ["b"]},
        {"actions": ["B"], "action_set": "buttons"},
        {"action_set": "all"},
        {"sticky_actions": 2.0},
        {"frame_skip": 0},
    ):
        with pytest.raises(ConfigError, match=r"env\."):
            RetroConfig("x", **fields)
    pool = make_pool(airstriker(crop=[200, 30, 0, 0]), 1)
    with pytest.raises(ConfigError, match=r"env\.crop.*224 x 320"):
        pool.reset(0)
    pool.close()
