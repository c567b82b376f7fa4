"""What is for the training alone: reward shaping by game variables, and the skill level. With the real engine."""

from pathlib import Path

import numpy as np
import pytest

from rltrain.config.algorithms import PPOConfig
from rltrain.config.environments import DoomConfig
from rltrain.config.run import RunConfig
from rltrain.envs.doom.game import make_game
from rltrain.envs.doom.scenario import make_pool, spaces
from rltrain.envs.doom.setup import read_setup
from rltrain.errors import ConfigError
from rltrain.run.evaluation import ending_env


def play(num_steps, shaping, **fields):
    """Of fixed actions: rewards [T, B], health before and after each step [T, B], and the episodes."""
    pool = make_pool(DoomConfig("x", shaping=shaping, game_variables=["HEALTH"], **fields), 2)
    obs = pool.reset(3)
    rng = np.random.default_rng(0)
    rewards, before, after, episodes = [], [], [], []
    for _ in range(num_steps):
        before.append(obs[:, 0, 60, 0].astype(int))
        step = pool.step(rng.integers(pool.action_space.n, size=2))
        obs = step.obs
        after.append(step.next_obs[:, 0, 60, 0].astype(int))
        rewards.append(step.reward)
        episodes += step.episodes
    pool.close()
    return np.stack(rewards), np.stack(before), np.stack(after), episodes


SCENARIO = {"scenario": "health_gathering"}


def test_the_change_of_a_variable_is_learned_from_and_the_episode_keeps_the_scenarios_return():
    """Bugs: the level instead of its change; a change across a reset; the last step of an episode left out; an
    episode's return with the shaping in it."""
    raw, before, after, episodes = play(300, {}, **SCENARIO)
    shaped, _, same, shaped_episodes = play(300, {"HEALTH": 0.5}, **SCENARIO)
    assert (after == same).all() and episodes == shaped_episodes and len(episodes) >= 2
    died = raw < 0  # death costs 100
    change = after - before
    assert (change[~died] > 0).any() and (change[~died] < 0).any(), "no medkit or no acid: nothing was tested"
    assert np.allclose((shaped - raw)[~died], 0.5 * change[~died])
    # At death the last frame stands in for a black one; health reads 0 or less then.
    assert ((shaped - raw)[died] <= -0.5 * before[died]).all()
    returns = [
        rewards[: np.flatnonzero(ends)[-1] + 1].sum() for rewards, ends in zip(raw.T, died.T, strict=True) if ends.any()
    ]
    assert sum(episode.reward for episode in episodes) == pytest.approx(sum(returns))


def test_gains_and_losses_have_weights_of_their_own():
    raw = play(150, {}, **SCENARIO)[0]
    both, gained, lost = (
        play(150, {name: 1.0}, **SCENARIO)[0] - raw for name in ("HEALTH", "HEALTH_GAINED", "health_lost")
    )
    assert (gained >= 0).all() and (lost >= 0).all() and gained.any() and lost.any()
    assert np.allclose(gained - lost, both)
    together = play(150, {"HEALTH_GAINED": 2.0, "HEALTH_LOST": -0.1}, **SCENARIO)[0]
    assert np.allclose(together - raw, 2 * gained - 0.1 * lost, atol=1e-5)


def test_unknown_names_are_refused_with_the_nearest():
    for name, meant in (("HEALHT", "HEALTH"), ("HEALHT_GAINED", "HEALTH_GAINED"), ("HEALHT_LOST", "HEALTH_LOST")):
        with pytest.raises(ConfigError, match=rf"env\.shaping; did you mean '{meant}'"):
            spaces(DoomConfig("x", shaping={name: 1.0}))
    with pytest.raises(ConfigError, match=r"env\.shaping\.HEALTH"):
        DoomConfig("x", shaping={"HEALTH": float("nan")})


def test_the_skill_level_is_that_of_the_training_alone():
    """Bugs: a key that the engine never gets; an evaluation of an easier game than the scenario's."""
    config = DoomConfig("x", scenario="deadly_corridor", doom_skill=1, shaping={"HEALTH": 1.0})
    for settings, skill in ((config, 1), (config.scored(), 5)):
        game, _ = make_game(settings, read_setup(settings), Path("unused"))
        assert game.get_doom_skill() == skill
    run_config = RunConfig(PPOConfig(), config, device="cpu")
    assert (ending_env(run_config).doom_skill, ending_env(run_config).shaping) == (None, {})
    with pytest.raises(ConfigError, match=r"env\.doom_skill"):
        DoomConfig("x", doom_skill=6)
