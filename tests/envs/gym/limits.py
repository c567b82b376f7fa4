"""Environments with time limits of several kinds, and without; importing this registers them."""

import itertools

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit


class Walk(gymnasium.Env):
    """Never ends by itself; reward 1. `reward` in an evaluation: a number, once `at` steps of an episode are taken."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)
    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, reward: float = 1.0, at: int = 10**9, render_mode=None) -> None:
        self.reward, self.at, self.render_mode = reward, at, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), self.reward if self.t >= self.at else 1.0, False, False, {}

    def render(self):
        return np.zeros((40, 40, 3), np.uint8)


class Continuing(gymnasium.Wrapper):
    """Starts the next round by itself, and hides the end of each."""

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            obs, _ = self.env.reset()
        return obs, reward, False, False, info


class Skipping(gymnasium.Wrapper):
    """Repeats each action four times."""

    def step(self, action):
        total = 0.0
        for _ in range(4):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class Paid(TimeLimit):
    """A time limit that also pays for the way."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward + 10 * truncated, terminated, truncated, info


class Counting(Walk):
    """Counts its steps itself, as many classes do."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, self.t >= 6, info


class Leaving(Walk):
    """Cuts an episode when it leaves its field, at any time."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, self.np_random.random() < 0.2, info


gymnasium.register("Counting-v0", Counting)
gymnasium.register("Leaving-v0", Leaving)
gymnasium.register("Endless-v0", Walk)
gymnasium.register("Inner-v0", lambda **given: TimeLimit(Walk(**given), 5), max_episode_steps=20)
gymnasium.register("Skipping-v0", lambda: Skipping(TimeLimit(Walk(), 20)))
gymnasium.register(
    "SkippingAround-v0",
    Walk,
    additional_wrappers=(gymnasium.envs.registration.WrapperSpec("x", "limits:Skipping", {}),),
)
gymnasium.register("Factory-v0", lambda: TimeLimit(Walk(), 5))
_lengths = itertools.cycle((9, 5))
gymnasium.register("Varied-v0", lambda: TimeLimit(Walk(), next(_lengths)), order_enforce=False)
gymnasium.register("Outer-v0", Walk, max_episode_steps=7)
gymnasium.register("Paid-v0", lambda: Paid(Walk(), 5), max_episode_steps=20)
gymnasium.register("Twice-v0", lambda: gymnasium.make("Outer-v0"), max_episode_steps=20)
gymnasium.register("Continuing-v0", lambda **given: Continuing(TimeLimit(Walk(**given), 5)))
gymnasium.register(
    "Around-v0", Walk, additional_wrappers=(gymnasium.envs.registration.WrapperSpec("x", "limits:Continuing", {}),)
)
