"""A .cfg file may come from somebody else, and a run's own is found from anywhere."""

import os
import shutil
from pathlib import Path

import pytest
import vizdoom
import yaml

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom import setup
from rltrain.envs.doom.scenario import make_pool
from rltrain.errors import ConfigError, EnvironmentFailure

SCENARIOS = Path(vizdoom.scenarios_path)
CFG = "doom_scenario_path = basic.wad\ndoom_map = map01\navailable_buttons = { ATTACK }\nepisode_timeout = 40\n"


def read(folder, text):
    (folder / "mine.cfg").write_text(text)
    return setup.read_setup(DoomConfig("x", cfg=str(folder / "mine.cfg")))


@pytest.mark.parametrize(
    "line",
    [
        "game_args = +logfile /tmp/x",
        "game_args += +sv_cheats 1 +logfile /tmp/x",
        "GameArgs = -savedir /tmp",
        "game_args = +sv_cheats 1;logfile",
        "game_args = evil.cfg",
        "game_args = +exec x",
        'game_args = "+logfile x"',
        "doom_map = map01;logfile",
    ],
)
def test_the_engine_gets_no_argument_that_could_write(tmp_path, line):
    """Bugs: `+logfile FILE` in a .cfg overwrites any file; another spelling of the key, or a `;`, passes the check."""
    with pytest.raises(ConfigError, match=r"(game_args|doom_map) of 'mine\.cfg'"):
        read(tmp_path, CFG + line)


def test_arguments_that_change_the_rules_are_allowed(tmp_path):
    """Bug: a check that is too strict refuses ViZDoom's own scenarios."""
    read(tmp_path, CFG + "game_args = +sv_noautoaim 1 +timelimit 10.0 -nomonsters\n")
    for name in setup.scenarios():
        setup.read_setup(DoomConfig("x", scenario=name))


@pytest.mark.parametrize("name", ["wads/deep/mine.wad", "C:\\wads\\mine.wad", "../elsewhere/mine.wad", "mine.wad"])
def test_a_wad_of_another_folder_is_found_beside_the_cfg(tmp_path, name):
    """Bug: a .cfg that was copied together with its WAD asks for the folder where the WAD was."""
    shutil.copy(SCENARIOS / "basic.wad", tmp_path / "mine.wad")
    assert read(tmp_path, CFG.replace("basic.wad", name)).scenario_wad == tmp_path / "mine.wad"


def test_a_run_with_a_cfg_is_evaluated_from_elsewhere_if_the_command_names_the_file(command, tmp_path, monkeypatch):
    """Bugs: config.yaml keeps the short name, so that `eval` finds no file elsewhere and no key names it; `eval` uses
    the file without being asked; a copy of the file elsewhere is taken for another environment, whose checkpoints
    nobody has.
    """
    (tmp_path / "mine.cfg").write_text(CFG)
    done = command(
        *("algo=ppo", "env=doom", "env.cfg=mine.cfg", "env.height=36", "env.width=48", "network=small_cnn"),
        *("total_steps=32", "num_envs=1", "algo.num_steps=32", "batch_size=32", "eval_every_steps=0"),
        *("final_eval_episodes=1", "progress=false"),
    )
    assert done.code == 0, done.err
    folder = done.folder
    assert yaml.safe_load((folder / "config.yaml").read_text())["env"]["cfg"] == str(tmp_path / "mine.cfg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    unnamed = command("eval", folder, "episodes=1")
    assert unnamed.code == 2
    assert f"env.cfg={tmp_path}/mine.cfg" in unnamed.last_line
    shutil.move(tmp_path / "mine.cfg", elsewhere / "mine.cfg")
    for words in (["resume", folder, "total_steps=64"], ["eval", folder, "episodes=1"]):
        done = command(*words, "env.cfg=mine.cfg")
        assert done.code == 0, done.err
    assert command("eval", folder, "env.cfg=none.cfg").code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no WAD"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is no WAD"),
        (b"<!DOCTYPE html>", "is no WAD"),
        (0.5, "is cut off"),
        (1.0, None),
        (b"PK\x03\x04", None),  # an archive, which the engine looks into
    ],
)
def test_a_file_that_is_no_wad_is_refused(content, said, tmp_path):
    """Bug: ViZDoom passes over it and plays the first map of Freedoom, which was trained and scored in silence."""
    whole = (SCENARIOS / "basic.wad").read_bytes()
    (tmp_path / "mine.wad").write_bytes(whole[: int(len(whole) * content)] if isinstance(content, float) else content)
    text = CFG.replace("basic.wad", "mine.wad")
    if said is None:
        assert read(tmp_path, text).scenario_wad == tmp_path / "mine.wad"
        return
    with pytest.raises(ConfigError, match=f"mine.wad' {said} .*bytes"):
        read(tmp_path, text)


def test_the_name_of_a_map_ends_at_its_first_zero(tmp_path):
    """Bug: what old editors leave behind it was taken for a part of the name, and the WAD refused."""
    whole = (SCENARIOS / "basic.wad").read_bytes()
    assert whole.count(b"MAP01\0\0\0") == 1
    (tmp_path / "mine.wad").write_bytes(whole.replace(b"MAP01\0\0\0", b"MAP01\0\xffx"))
    assert read(tmp_path, CFG.replace("basic.wad", "mine.wad")).scenario_wad == tmp_path / "mine.wad"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "doom_map = MAP02",
            r"'basic\.wad' has no map 'map02'; env\.cfg; set doom_map in the \.cfg file; did you mean",
        ),
        ("doom_game_path = freedoom1.wad", None),
        ("doom_scenario_path\ndoom_game_path = freedoom1.wad", r"'freedoom1\.wad' has no map 'map01'"),
        ("doom_scenario_path\ndoom_game_path = freedoom1.wad\ndoom_map = e1m2", None),
    ],
)
def test_a_map_that_the_wad_lacks_is_refused(line, said, tmp_path):
    """Bugs: that of Freedoom was played in silence; an engine that waits for ever."""
    keys = [each.partition(" ")[0] for each in line.split("\n")]
    kept = [each for each in CFG.splitlines() if each.partition(" ")[0] not in keys]
    text = "\n".join([*kept, *(each for each in line.split("\n") if "=" in each)])
    if said is None:
        assert read(tmp_path, text).game_wad.name == "freedoom1.wad"
        return
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)


def test_a_map_for_which_vizdoom_crashes_is_an_error(tmp_path):
    """Bug: ViZDoom ends the whole process with SIGSEGV for a map without a start for player 1, and a sweep with it."""
    for name in ("multi_duel.cfg", "multi_duel.wad"):
        shutil.copy(SCENARIOS / name, tmp_path)
    config = DoomConfig("x", cfg=str(tmp_path / "multi_duel.cfg"))
    before = set(os.listdir("/dev/shm"))
    for _ in range(2):
        with pytest.raises(
            EnvironmentFailure, match=r"crashes with SIGSEGV .*multi_duel\.cfg; use a map for one player"
        ):
            make_pool(config, 1)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("ViZDoom")]
    (tmp_path / "mine.cfg").write_text(CFG)
    pool = make_pool(DoomConfig("x", cfg=str(tmp_path / "mine.cfg")), 1)
    assert pool.reset(0).shape[0] == 1
    pool.close()
