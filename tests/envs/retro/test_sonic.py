"""Sonic: his own states, variables and scoring, as stable-retro ships them, without his ROM."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from console import emulator

import rltrain.app.train
from rltrain.config.environments import RetroConfig
from rltrain.envs.retro.family import make_pool

stable_retro = pytest.importorskip("stable_retro")

CONFIGS = Path(__file__).parents[3] / "configs" / "env"
SONIC = "SonicTheHedgehog-Genesis-v0"


@pytest.fixture
def sonic(tmp_path, monkeypatch):
    """Sonic's own states, variables and contest script, on the ROM of Airstriker: the program crashes, and its memory
    stays as the state has it and as a test sets it. Gives the configuration of env=sonic, or of another option."""
    for game in (SONIC, "SonicTheHedgehog2-Genesis-v0", "SonicTheHedgehog3-Genesis-v0"):
        folder = tmp_path / "stable" / game
        shutil.copytree(Path(stable_retro.data.get_file_path(game, "data.json")).parent, folder)
        shutil.copy(stable_retro.data.get_romfile_path("Airstriker-Genesis-v0"), folder)
    monkeypatch.setenv("RETRO_DATA_PATH", str(tmp_path))  # for the workers; here it was read before
    monkeypatch.setattr(stable_retro.data, "path", lambda: str(tmp_path))

    def config(option="sonic", **fields):
        values = {}
        for name in dict.fromkeys(["sonic", option]):
            values |= yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        return RetroConfig(
            **{key: value for key, value in values.items() if key != "defaults"} | {"game": SONIC} | fields
        )

    return config


def test_sonic_is_paid_for_his_way_through_the_level(sonic):
    """Bugs: x paid instead of the share of the level; the same ground twice; the end of the level not noticed."""
    with emulator(sonic(state="GreenHillZone.Act1")) as (one, _):
        start, end = 80, 0x2560
        rewards = []
        for x in (1080, 580, 1580):
            one._env.data.set_value("x", x)
            rewards.append(one.step([1]).reward)
        assert rewards == pytest.approx([9000 * 1000 / (end - start), 0, 9000 * 500 / (end - start)])
        one._env.data.set_value("x", end)
        outcome = one.step([1])
        assert outcome.terminated and not outcome.truncated and outcome.num_frames == 1
        assert sum(rewards) + outcome.reward == pytest.approx(9000 + 1000 * (1 - 13 / 18000), abs=0.2)
        # A new episode: the level begins again, and so does the count.
        one._env.data.set_value("x", 1080)
        assert one.step([1]).reward == pytest.approx(rewards[0])
        one._env.data.set_value("lives", 2)
        assert one.step([1]).terminated


def test_sonic_3_is_paid_in_pixels_and_ends_with_a_life(sonic):
    """The same on a game without a contest: variables and rules of ours alone."""
    with emulator(sonic("sonic3")) as (one, _):
        rewards = []
        for x in (100, 90, 130):
            one._env.data.set_value("x", x)
            rewards.append(one.step([1]).reward)
        assert rewards == [20, 0, 30]
        one._env.data.set_value("lives", 2)
        assert one.step([1]).terminated


def test_levels_are_given_in_turn(sonic):
    """Bugs: every environment in the first level; one that is never played; a level per environment not kept where
    there are as many environments as levels."""
    levels = ["GreenHillZone.Act1", "MarbleZone.Act1", "StarLightZone.Act1"]
    config = sonic(states=levels, max_episode_frames=8)

    def zones(index, num_envs):
        from rltrain.envs.retro.emulator import Emulator

        frames = np.zeros((2, num_envs, *config.frame_shape), np.uint8)
        one = Emulator(config, frames, index, num_envs)
        one.reset(0)
        played = []
        for _ in range(4):
            played.append({0: 0, 2: 1, 3: 2}[one._env.data.lookup_value("zone")])
            while not one.step([0]).truncated:
                pass
        one.close()
        return played

    assert zones(0, 1) == [0, 1, 2, 0]
    assert zones(1, 2) == [1, 0, 2, 1]
    assert zones(2, 3) == [2, 2, 2, 2]
    assert zones(4, 8) == [1, 0, 2, 1]


def test_sonic_runs_as_a_pool(sonic):
    """The whole path but for the program on the cartridge."""
    pool = make_pool(sonic("sonic_levels"), 2)
    assert pool.action_space.n == 7 and pool.stack_num == 4
    obs = pool.reset(0)
    assert obs.shape == (2, 1, 96, 96)
    step = pool.step(np.array([1, 3]))
    assert step.reward.tolist() == [0, 0] and not step.first.any()
    pool.close()
    assert os.environ["RETRO_DATA_PATH"]  # the workers found their files by it


@pytest.mark.parametrize("env", ["sonic", "sonic2", "sonic3", "sonic_levels"])
@pytest.mark.parametrize("algo", ["a2c", "ppo"])
def test_tuned_settings_fit_together_once_the_rom_is_there(algo, env, sonic, command, monkeypatch):
    """Bug: a rollout that its minibatches do not divide, found by the first user who has the ROM."""
    got = []
    monkeypatch.setattr(rltrain.app.train, "train", lambda config, folder=None: got.append(config))
    outcome = command(f"algo={algo}", f"env={env}")
    assert got, outcome.last_line
    assert got[0].env.name == env and got[0].algo.reward_scale == 0.01


def test_sonic_from_the_command_line_to_an_update(sonic, command):
    outcome = command("algo=a2c", "env=sonic", "env.state=MarbleZone.Act2", "num_envs=2", "dry_run=true")
    assert outcome.code == 0, outcome.err
