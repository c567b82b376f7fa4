"""CartPole stepped for several environments at once is gymnasium's, bit for bit."""

import dataclasses
import functools

import gymnasium
import numpy as np
import pytest

from rltrain.config.environments import GymConfig
from rltrain.envs.gym import cartpole
from rltrain.envs.gym import family as gym
from rltrain.envs.gym.cartpole import CartPolePool
from rltrain.envs.gym.pool import GymPool

CONFIG = GymConfig("cartpole", id="CartPole-v1")


def test_the_quick_pool_is_taken_where_it_is_quicker_and_fits():
    assert isinstance(gym.make_pool(CONFIG, 8), CartPolePool)
    assert type(gym.make_pool(CONFIG, 1)) is GymPool
    other_reward = GymConfig("cartpole", id="CartPole-v1", kwargs={"sutton_barto_reward": True})
    assert type(gym.make_pool(other_reward, 8)) is GymPool


@pytest.mark.parametrize("change", [{"kwargs": {"sutton_barto_reward": True}}, {"additional_wrappers": (1,)}])
def test_another_cartpole_under_the_same_id_is_stepped_as_it_is(change, monkeypatch):
    """Bug: a plugin's CartPole was evaluated, and gymnasium's was trained."""
    spec = gymnasium.spec("CartPole-v1")
    assert cartpole.fits(CONFIG, 8)
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", dataclasses.replace(spec, **change))
    assert not cartpole.fits(CONFIG, 8)
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", spec)
    for owner, name in ((cartpole.CartPoleEnv, "step"), (gymnasium, "make")):
        with monkeypatch.context() as patch:  # with the name and the module of the original
            patch.setattr(owner, name, functools.wraps(getattr(owner, name))(lambda *args, **kwargs: None))
            assert not cartpole.fits(CONFIG, 8)
    assert cartpole.fits(CONFIG, 8)


def actions(step: int, obs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random ones, from step 5,000 on mostly such as keep the pole up, so that time limits are reached too."""
    random = generator.integers(2, size=len(obs))
    balancing = (obs[:, 2] + obs[:, 3] > 0).astype(np.int64)
    return np.where(generator.random(len(obs)) < (0.1 if step > 5000 else 1.0), random, balancing)


def assert_equal(ours, reference):
    for name in ("obs", "next_obs", "reward", "terminated", "truncated", "first"):
        a, b = getattr(ours, name), getattr(reference, name)
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), name
    assert ours.episodes == reference.episodes


def assert_same_states(ours, reference):
    """In double precision, in which environments count."""
    assert ours._state.T.tobytes() == np.stack([env.state for env in reference._inner]).tobytes()


def test_every_number_is_gymnasiums_bit_for_bit():
    """Another order of operations differs in the last bits; the control shows that one bit is seen."""
    ours, reference, generator = CartPolePool(CONFIG, 5), GymPool(CONFIG, 5), np.random.default_rng(0)
    obs = ours.reset(7)
    assert obs.tobytes() == reference.reset(7).tobytes()
    num_cut = 0
    for step in range(8_000):
        action = actions(step, obs, generator)
        timestep = ours.step(action)
        assert_equal(timestep, reference.step(action))
        assert_same_states(ours, reference)
        obs, num_cut = timestep.obs, num_cut + int(timestep.truncated.sum())
    assert num_cut > 8, "time limits were to be among what is compared"
    ours._state[0, 0] = np.nextafter(ours._state[0, 0], 1.0)  # control: a single bit
    with pytest.raises(AssertionError):
        assert_same_states(ours, reference)


def test_a_saved_state_goes_on_exactly_in_either_pool():
    """A checkpoint of one is resumed by the other, say with another number of environments at home."""
    first, generator = CartPolePool(CONFIG, 4), np.random.default_rng(1)
    first.reset(3)
    for _ in range(77):
        first.step(generator.integers(2, size=4))
    for pool in (CartPolePool(CONFIG, 4), GymPool(CONFIG, 4)):
        pool.reset(99)
        pool.load_state_dict(first.state_dict())
        twin = CartPolePool(CONFIG, 4)
        twin.reset(98)
        twin.load_state_dict(pool.state_dict())
        later = np.random.default_rng(2)
        for _ in range(300):
            action = later.integers(2, size=4)
            assert_equal(twin.step(action), pool.step(action))
