"""Atari games, with the real emulator."""

import numpy as np
import pytest

from rltrain.config.environments import AtariConfig
from rltrain.envs.atari.family import make_pool
from rltrain.envs.atari.pool import games, spaces
from rltrain.errors import ConfigError, EnvironmentFailure


def play(pool, num_steps, seed=0):
    """Random actions; all steps, and the obs that each was taken on."""
    rng = np.random.default_rng(seed)
    obs, taken = pool.reset(seed), []
    for _ in range(num_steps):
        step = pool.step(rng.integers(pool.action_space.n, size=pool.num_envs))
        taken.append((obs, step))
        obs = step.obs
    return taken


@pytest.mark.parametrize("life_loss", [False, True])
def test_lost_lives_do_not_reset_the_game(life_loss):
    """Bugs: a life taken for an episode; life loss signalled unasked; a frame stack restarted in mid-game."""
    pool = make_pool(AtariConfig("x", game="breakout", terminal_on_life_loss=life_loss), 2)
    taken = play(pool, 700)
    pool.close()
    episodes = [episode for _, step in taken for episode in step.episodes]
    ends = sum(int(step.terminated.sum()) for _, step in taken)
    assert len(episodes) >= 2
    assert len(episodes) == sum(int(step.first.sum()) for _, step in taken)
    # Breakout has five lives: the last one ends the game, the four before it do not.
    if life_loss:
        assert 5 * len(episodes) <= ends <= 5 * len(episodes) + 8
    else:
        assert ends == len(episodes)
    for _, step in taken:
        assert not (step.terminated & step.truncated).any()
        assert (step.obs[~step.first] == step.next_obs[~step.first]).all()


def test_rewards_are_raw_and_sum_to_the_episodes():
    """Bugs: rewards clipped to 1; those of the last step lost; an episode's sum carried into the next."""
    pool = make_pool(AtariConfig("x", game="space_invaders", max_episode_frames=1600), 3)
    sums, seen, largest = np.zeros(3), 0, 0.0
    for _, step in play(pool, 900):
        assert step.reward.dtype == np.float32
        sums += step.reward
        largest = max(largest, float(step.reward.max()))
        for episode in step.episodes:
            assert episode.reward == sums[episode.env_index]
            sums[episode.env_index] = 0
            seen += 1
    pool.close()
    assert seen >= 6 and largest > 1


def test_the_frame_limit_truncates_and_next_obs_is_the_old_episodes():
    """Bugs: truncation as termination; frames of the random start counted; the reset frame as successor."""
    pool, endless = (make_pool(AtariConfig("x", game="pong", max_episode_frames=n), 2) for n in (1600, 108_000))
    taken, reference = play(pool, 800), play(endless, 400)
    pool.close()
    endless.close()
    assert [t for t, (_, step) in enumerate(taken) if step.first.any()] == [399, 799]
    for _, step in (taken[399], taken[799]):
        assert step.truncated.all() and not step.terminated.any()
        assert [(e.length_steps, e.length_frames) for e in step.episodes] == [(400, 1600)] * 2
    # The same seed and actions without a limit show what the successor would have been. ALE leaves out the last
    # frames before a limit, so the ball may be a little behind; the score shows which game it is.
    successor, step = reference[399][1].next_obs, taken[399][1]
    for i in range(2):
        assert (step.next_obs[i] != successor[i]).sum() < 0.7 * (step.obs[i] != successor[i]).sum()
        score = slice(0, 14)  # the two rows of digits
        assert (step.next_obs[i, 0, score] == successor[i, 0, score]).all()
        assert (step.obs[i, 0, score] != successor[i, 0, score]).any()


def test_seeds():
    """Bugs: the pool's second run depending on its first; all environments alike; the seed ignored."""
    pool = make_pool(AtariConfig("x", game="breakout", sticky_actions=0.25), 3)

    def frames(seed):
        return np.stack([pool.reset(seed)] + [pool.step(np.full(3, t % 4)).obs for t in range(60)])

    first, second, other = frames(1), frames(1), frames(2)
    pool.close()
    assert (first == second).all() and (first != other).any()
    assert (first[:, 0] != first[:, 1]).any()


def test_arrays_belong_to_the_receiver():
    """Bug: the emulator writing into a frame that was stored."""
    pool = make_pool(AtariConfig("x", game="pong"), 2)
    taken = play(pool, 30)
    copies = [(step.obs.copy(), step.next_obs.copy()) for _, step in taken]
    for _ in range(30):
        pool.step(np.zeros(2, np.int64))
    pool.close()
    for (obs, next_obs), (_, step) in zip(copies, taken, strict=True):
        assert (step.obs == obs).all() and (step.next_obs == next_obs).all()
        assert not np.shares_memory(step.obs, step.next_obs)


def test_protocols_set_what_is_left_open():
    """Bugs: a protocol that sets nothing, or overrides what was given; sticky actions where there should be none."""
    fields = ("sticky_actions", "noop_max", "fire_reset", "terminal_on_life_loss", "full_action_space")

    def values(**given):
        config = AtariConfig("x", game="breakout", **given)
        return [getattr(config, field) for field in fields]

    assert values() == [0, 30, True, False, False]
    assert values(protocol="dqn") == [0, 30, True, True, False]
    assert values(protocol="machado") == [0.25, 0, False, False, True]
    assert values(protocol="machado", sticky_actions=0.0, full_action_space=False) == [0, 0, False, False, False]
    with pytest.raises(ConfigError, match="machado"):
        AtariConfig("x", game="pong", protocol="machdo")


def test_protocols_in_the_emulator():
    """Bug: a field that is resolved and not handed on. Without no-ops, only sticky actions tell two games apart."""
    starts, unlike, lost = {}, {}, {}
    for protocol in ("dqn", "machado"):
        pool = make_pool(AtariConfig("x", game="breakout", protocol=protocol, noop_max=0), 2)
        rng = np.random.default_rng(0)
        starts[protocol], unlike[protocol], lost[protocol] = pool.reset(0), 0, 0
        assert pool.action_space.n == {"dqn": 4, "machado": 18}[protocol]
        for _ in range(400):
            step = pool.step(np.full(2, rng.integers(4)))
            unlike[protocol] += int((step.obs[0] != step.obs[1]).any())
            lost[protocol] += int((step.terminated & ~step.first).sum())
        pool.close()
        assert (starts[protocol][0] == starts[protocol][1]).all()
    assert unlike["dqn"] == 0 < unlike["machado"]
    assert lost["machado"] == 0 < lost["dqn"]


def check_game(game):
    pool = make_pool(AtariConfig("x", game=game), 1)
    obs = pool.reset(0)
    seen = {bytes(obs)}
    for action in range(60):
        step = pool.step(np.array([action % pool.action_space.n]))
        assert step.obs.shape == (1, 1, 84, 84) and np.isfinite(step.reward).all()
        seen.add(bytes(step.obs))
    pool.close()
    return len(seen)


@pytest.mark.parametrize("game", ["asterix", "montezuma_revenge", "tetris", "video_chess"])
def test_games_start_and_step(game):
    """Bug: a game without a start of its own (a menu, a mode) that crashes or stands still."""
    assert check_game(game) > 1


@pytest.mark.slow
def test_every_listed_game_starts_and_steps():
    """Bug: a game in the list that ends the process or stands still."""
    assert len(games()) == 104
    shown = {game: check_game(game) for game in games()}
    # These two begin with a still picture of more than 240 frames.
    assert {game for game, pictures in shown.items() if pictures == 1} <= {"crazy_climber", "kung_fu_master"}


@pytest.mark.parametrize("game", ["combat", "joust", "maze_craze", "warlords"])
def test_games_for_two_are_refused_with_the_reason(game):
    """Bug: a real game called unknown, or started and waiting for a second player for ever."""
    with pytest.raises(ConfigError, match="two players"):
        spaces(AtariConfig("x", game=game))


def test_wrong_games_are_refused_with_a_hint(monkeypatch, tmp_path):
    """Bugs: the emulator ending the process on a game that it has no rules for; a missing ROM as a wrong name."""
    with pytest.raises(ConfigError, match="breakout"):
        spaces(AtariConfig("x", game="breakuot"))
    assert {"pong", "ms_pacman"} <= set(games())
    frame_space, action_space = spaces(AtariConfig("x", game="pong", full_action_space=True, size=42))
    assert frame_space.shape == (1, 42, 42) and action_space.n == 18
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="pong"):
        spaces(AtariConfig("x", game="pong"))
