"""Doom scenarios, with the real engine."""

import re
from pathlib import Path

import numpy as np
import pytest

from rltrain.config.environments import DoomConfig
from rltrain.envs import registry
from rltrain.envs.doom.actions import button_actions, left_out, named_actions
from rltrain.envs.doom.scenario import make_pool, scenarios, spaces
from rltrain.errors import ConfigError, EnvironmentFailure

LEFT, RIGHT, ATTACK = 0, 1, 2


def act(pool, *action):
    return pool.step(np.array(action))


def test_a_timeout_is_a_truncation_with_a_real_successor():
    """Bugs: timeout as termination; the black screen after the engine's own timeout as successor; a limit off by
    the start time; a last action that plays tics beyond the limit."""
    pool = make_pool(DoomConfig("x", frame_skip=7), 2)
    obs = pool.reset(0)
    for t in range(43):
        step = act(pool, LEFT, LEFT)
        assert (
            step.next_obs.min(axis=(1, 2, 3)).tolist() != [255, 255] and (step.next_obs.mean(axis=(1, 2, 3)) > 5).all()
        )
        assert step.first.tolist() == [t == 42] * 2, t
        if t < 42:
            assert (step.obs == step.next_obs).all()
            obs = step.obs
    pool.close()
    assert step.truncated.all() and not step.terminated.any()
    # 300 tics: 42 actions of 7 and one of 6, with a living reward of -1 a tic.
    assert [(e.length_steps, e.length_frames, e.reward) for e in step.episodes] == [(43, 300, -300.0)] * 2
    # The player stands at the wall on the left; at the start he stands in the middle.
    unlike_last = np.abs(step.next_obs.astype(int) - obs).mean(axis=(1, 2, 3))
    unlike_start = np.abs(step.next_obs.astype(int) - step.obs).mean(axis=(1, 2, 3))
    assert (unlike_last < unlike_start).all()


def test_a_limit_of_the_engine_itself_is_a_truncation(tmp_path):
    """Bug: `+timelimit` among game_args (in minutes) ends the game as if the player had died."""
    (tmp_path / "basic.cfg").write_text(
        "doom_scenario_path = basic.wad\ndoom_map = map01\nliving_reward = -1\nepisode_start_time = 14\n"
        "available_buttons = { MOVE_LEFT MOVE_RIGHT ATTACK }\ngame_args = +timelimit 0.05\n"
    )
    pool = make_pool(DoomConfig("x", cfg=str(tmp_path / "basic.cfg")), 1)
    pool.reset(0)
    for _ in range(100):
        step = act(pool, 0)
        if step.first[0]:
            break
    pool.close()
    assert step.truncated[0] and not step.terminated[0] and 0 < step.episodes[0].length_frames < 200


def test_killing_the_monster_terminates():
    """Bugs: every end taken for a timeout; the reward for the kill lost; next_obs black at the end."""
    pool = make_pool(DoomConfig("x"), 8)
    obs = pool.reset(0)
    sums, killed = np.zeros(8), 0
    rng = np.random.default_rng(0)
    for _ in range(150):
        step = pool.step(rng.integers(3, size=8))
        sums += step.reward
        assert (step.next_obs.mean(axis=(1, 2, 3)) > 5).all()
        assert (step.next_obs[step.terminated] == obs[step.terminated]).all()
        for episode in step.episodes:
            i = episode.env_index
            assert episode.reward == sums[i]
            if step.terminated[i]:
                killed += 1
                assert episode.reward > -300 and episode.length_frames < 300
            else:
                assert step.truncated[i] and episode.length_frames == 300
            sums[i] = 0
        obs = step.obs
    pool.close()
    assert killed >= 2


def test_a_kill_in_the_tic_of_the_timeout_terminates(tmp_path):
    """Bug: the clock alone asked, so that the end of the game itself is bootstrapped from."""
    rng = np.random.default_rng(1)
    actions = rng.integers(3, size=(400, 8))
    pool = make_pool(DoomConfig("x", frame_skip=1), 8)
    pool.reset(0)
    for action in actions:
        step = pool.step(action)
        if step.terminated.any():
            break
    pool.close()
    i = int(np.flatnonzero(step.terminated)[0])
    kill_tic = step.episodes[0].length_frames
    for timeout, terminated in ((kill_tic, True), (kill_tic - 1, False)):
        cfg = tmp_path / "basic.cfg"
        cfg.write_text(
            "doom_scenario_path = basic.wad\ndoom_map = map01\nliving_reward = -1\nrender_hud = false\n"
            f"episode_start_time = 14\nepisode_timeout = {timeout}\ndoom_skill = 5\n"
            "available_buttons = { MOVE_LEFT MOVE_RIGHT ATTACK }\n"
        )
        pool = make_pool(DoomConfig("x", cfg=str(cfg), frame_skip=1), 8)
        pool.reset(0)
        for action in actions[:timeout]:
            step = pool.step(action)
        pool.close()
        assert (bool(step.terminated[i]), bool(step.truncated[i])) == (terminated, not terminated)


def test_death_terminates():
    """Bug: only the exit of a map noticed as an end."""
    pool = make_pool(DoomConfig("x", scenario="deadly_corridor"), 1)
    pool.reset(0)
    for _ in range(400):
        step = act(pool, ATTACK)
        if step.first[0]:
            break
    pool.close()
    assert step.terminated[0] and not step.truncated[0] and step.episodes[0].length_frames < 2100


def test_seeds():
    """Bugs: a run depending on the one before or on the number of environments; all environments alike."""

    def frames(pool, seed):
        shown = [pool.reset(seed)] + [pool.step(np.full(pool.num_envs, t % 3)).obs for t in range(90)]
        return np.stack(shown)

    pool, fresh = make_pool(DoomConfig("x"), 3), make_pool(DoomConfig("x"), 2)
    first, second, other, elsewhere = frames(pool, 1), frames(pool, 1), frames(pool, 2), frames(fresh, 1)
    pool.close()
    fresh.close()
    assert (first == second).all() and (first[:, :2] == elsewhere).all()
    assert (first != other).any() and (first[:, 0] != first[:, 1]).any()


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    """Bugs: `_vizdoom.ini` or `_vizdoom` in the working directory; engines, names of shared memory or folders after
    close, or names during play, which a kill -9 would leave."""
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    pool = make_pool(DoomConfig("x"), 2)
    pool.reset(0)
    pool.send(np.array([0, 0]))  # a close in the middle of a step, as after Ctrl-C
    assert list(temporary.iterdir())
    maps = Path("/proc/self/maps")
    shared = re.findall(r"/dev/shm/ViZDoom(\S+)(.*)", maps.read_text()) if maps.is_file() else []
    assert shared or not maps.is_file()
    assert {deleted for _, deleted in shared} <= {" (deleted)"}
    pool.close()
    pool.close()
    assert list(tmp_path.iterdir()) == [temporary] and not list(temporary.iterdir())


@pytest.mark.parametrize("gray", [True, False])
def test_frames(gray):
    """Bugs: channels last, channels of a wrong number, red and blue swapped, a space that the pool does not keep."""
    config = DoomConfig("x", gray=gray, height=48, width=64)
    pool = make_pool(config, 1)
    obs = pool.reset(0)
    pool.close()
    assert obs.dtype == np.uint8 and obs.shape == (1, 1 if gray else 3, 48, 64)
    assert spaces(config) == (pool.frame_space, pool.action_space)
    if not gray:
        assert obs[0, 0].mean() > obs[0, 2].mean()  # the walls of `basic` are brown


def test_every_listed_scenario_has_spaces_and_a_yaml():
    """Bugs: a scenario for several players listed, which waits for ever; a name without a configuration."""
    listed = scenarios()
    assert {"basic", "deadly_corridor", "take_cover"} <= set(listed)
    assert not {"cig", "multi", "multi_duel", "oblige"} & set(listed)
    configs = Path(__file__).parents[3] / "configs" / "env"
    for scenario in listed:
        assert spaces(DoomConfig("x", scenario=scenario))[1].n >= 2
        assert (configs / f"doom_{scenario}.yaml").is_file()


def test_actions():
    """Bugs: opposites pressed together; a delta button held at 1; the no-op not empty."""
    buttons = ["MOVE_LEFT", "MOVE_RIGHT", "ATTACK", "LOOK_UP_DOWN_DELTA"]
    assert button_actions(buttons, "single", False) == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert button_actions(buttons, "single", True)[3] == [0, 0, 0, 0]
    combined = button_actions(buttons, "combinations", False)
    assert combined == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0]]
    weapons = ["SELECT_WEAPON1", "SELECT_WEAPON2", "SELECT_NEXT_WEAPON", "SPEED"]
    assert len(button_actions(weapons, "combinations", False)) == 4 * 2


def test_delta_buttons_of_an_own_cfg_that_no_action_presses_are_told(tmp_path, capsys):
    """Bug: with TURN_LEFT_RIGHT_DELTA and ATTACK, as in many examples, the agent could only shoot, in silence."""
    buttons = {"delta": "TURN_LEFT_RIGHT_DELTA ATTACK", "plain": "TURN_LEFT ATTACK"}
    for name, available in buttons.items():
        text = f"doom_scenario_path = basic.wad\navailable_buttons = {{ {available} }}\nepisode_timeout = 40\n"
        (tmp_path / f"{name}.cfg").write_text(text)
    for name, fields, told in (("delta", {}, 1), ("plain", {}, 0), ("delta", {"actions": [["ATTACK"]]}, 0)):
        config = DoomConfig("x", cfg=str(tmp_path / f"{name}.cfg"), **fields)
        assert registry.settle(config, spaces(config)[1]) == config
        assert capsys.readouterr().err.count("no action presses TURN_LEFT_RIGHT_DELTA") == told
    config = DoomConfig("x", scenario="deathmatch")
    assert registry.settle(config, spaces(config)[1]) == config
    assert capsys.readouterr().err == ""
    assert left_out(["TURN_RIGHT", "TURN_LEFT_RIGHT_DELTA", "LOOK_UP_DOWN_DELTA"]) == ["LOOK_UP_DOWN_DELTA"]


def test_more_combinations_than_a_network_has_outputs_are_refused():
    """Bug: a `.cfg` with all buttons makes millions of actions, for minutes that no signal ends."""
    buttons = [f"USER{i}" for i in range(14)]
    assert len(button_actions(buttons[:13], "combinations", False)) == 8192
    with pytest.raises(ConfigError, match="the 14 buttons make 16,384 combinations"):
        button_actions(buttons, "combinations", False)


def test_actions_by_name():
    """Bugs: the buttons of another action, an order that is not the user's, a wrong name pressed as nothing."""
    buttons = ["MOVE_LEFT", "MOVE_RIGHT", "ATTACK"]
    wanted = [[0, 0, 1], [1, 0, 1], [0, 0, 0]]
    assert named_actions(buttons, [["ATTACK"], ["attack", "MOVE_LEFT"], []]) == wanted
    with pytest.raises(ConfigError, match=r"env\.actions; did you mean 'MOVE_LEFT'"):
        named_actions(buttons, [["MOVELEFT"]])
    config = DoomConfig("x", actions=[["ATTACK"], ["MOVE_LEFT"]])
    assert spaces(config)[1].n == 2
    pool = make_pool(config, 2)
    pool.reset(0)
    for _ in range(3):
        step = act(pool, 0, 1)
    pool.close()
    assert step.reward[1] == -4


def test_wrong_configurations_are_refused_with_a_hint(tmp_path):
    """Bugs: a traceback, or an engine that never starts, for a name or file that is not there."""
    with pytest.raises(ConfigError, match="deadly_corridor"):
        spaces(DoomConfig("x", scenario="deadly_coridor"))
    with pytest.raises(ConfigError, match=r"env\.cfg"):
        DoomConfig("x", cfg=str(tmp_path / "none.cfg"))
    with pytest.raises(ConfigError, match="action_set"):
        DoomConfig("x", action_set="all")
    with pytest.raises(ConfigError, match="RES_160X120"):
        spaces(DoomConfig("x", render_resolution="RES_160X121"))
    cfg = tmp_path / "mine.cfg"
    cfg.write_text("doom_scenario_path = nowhere.wad\navailable_buttons = { ATTACK }\n")
    with pytest.raises(EnvironmentFailure, match=r"nowhere\.wad"):
        spaces(DoomConfig("x", cfg=str(cfg)))
    cfg.write_text("available_buttons = { ATTACK }\ngame_args += -host 2\n")
    with pytest.raises(ConfigError, match="several players"):
        spaces(DoomConfig("x", cfg=str(cfg)))


def test_engines_start_at_once_without_a_crash():
    """Bug: two engines initialised in parallel, which ends the whole process in about every second such start."""
    for _ in range(3):
        pool = make_pool(DoomConfig("x"), 8)
        pool.close()
