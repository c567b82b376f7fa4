"""Environments that draw their rewards in a way that no `reset` seeds; importing this registers `Drawn-v0`."""

import random
import time

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import RescaleObservation


class Drawn(gymnasium.Env):
    """Observes and pays what it has drawn `by` the generator of its constructor, or at a reset by one of its own."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)

    def __init__(self, by: str, render_mode=None) -> None:
        self.observation_space, self.action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)
        self.render_mode, self.by, self.own = render_mode, by, spaces.Box(0, 1, (1,), np.float32)
        self.other = gymnasium.make("CartPole-v1").unwrapped
        if by == "constructor":
            self.drawn = self.np_random.random(1)
        elif by == "space of the constructor":
            self.drawn = self.observation_space.sample()
        elif by == "global":
            self.drawn = np.array([random.random()])

    def reset(self, *, seed=None, options=None):
        self.num_steps = 0
        if self.by == "space":
            self.drawn = self.observation_space.sample()
        elif self.by == "space of its own":
            self.drawn = self.own.sample()
        elif self.by == "environment inside":
            self.drawn = np.abs(self.other.reset()[0][:1])
        return self.drawn.astype(np.float32), {}

    def step(self, action):
        self.num_steps += 1
        return self.drawn.astype(np.float32), float(self.drawn[0]), self.num_steps == 5, False, {}

    def render(self):
        return np.zeros((40, 40, 3), np.uint8)


gymnasium.register("Drawn-v0", Drawn)
gymnasium.register("DrawnInside-v0", lambda: RescaleObservation(Drawn("space"), np.float32(0), np.float32(1)))


class Running(gymnasium.Wrapper):
    """Subtracts the mean of all `of` (observations or rewards) so far."""

    def __init__(self, env, of):
        super().__init__(env)
        self.of, self.total, self.count = of, 0.0, 0

    def reset(self, **given):
        obs, info = self.env.reset(**given)
        return self.without_mean(obs) if self.of == "observations" else obs, info

    def step(self, action):
        obs, reward, *others = self.env.step(action)
        if self.of == "rewards":
            return obs, self.without_mean(reward), *others
        return self.without_mean(obs), reward, *others

    def without_mean(self, value):
        self.total, self.count = self.total + value, self.count + 1
        return value - self.total / self.count


class Level(gymnasium.Wrapper):
    """Becomes harder with each episode."""

    def __init__(self, env):
        super().__init__(env)
        self.level = 0

    def reset(self, **given):
        self.level += 1
        obs, info = self.env.reset(**given)
        return obs + np.float32(self.level), info


class Kept(Drawn):
    """Draws in its first constructor, and keeps that for all."""

    kept: np.ndarray | None = None

    def __init__(self, render_mode=None):
        super().__init__("global", render_mode)
        Kept.kept = self.drawn = self.drawn if Kept.kept is None else Kept.kept


gymnasium.register("Kept-v0", Kept)


class SeededOnce(Drawn):
    """Fails `how` when it gets a seed again."""

    def __init__(self, how, render_mode=None):
        super().__init__("global", render_mode)
        self.how, self.num_seeds = how, 0

    def reset(self, *, seed=None, options=None):
        self.num_seeds += seed is not None
        if self.num_seeds > 1 and self.how == "hang":
            time.sleep(60)
        if self.num_seeds > 1:
            raise MemoryError if self.how == "memory" else RuntimeError("seeded twice")
        return super().reset(seed=seed, options=options)


gymnasium.register("SeededOnce-v0", SeededOnce)
for _of in ("observations", "rewards"):
    gymnasium.register(
        f"Running-{_of}-v0", lambda of=_of: Running(gymnasium.make("Pendulum-v1"), of), max_episode_steps=20
    )
gymnasium.register("Level-v0", lambda: Level(gymnasium.make("Pendulum-v1")), max_episode_steps=20)
gymnasium.register("NoLevel-v0", lambda: gymnasium.make("Pendulum-v1"), max_episode_steps=20)
