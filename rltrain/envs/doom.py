"""Doom scenarios: their configuration, and a pool of ViZDoom engines stepped by threads."""

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.envs.doom_actions import button_actions
from rltrain.envs.pool import Episode, Pool, TimeStep
from rltrain.envs.seeding import env_seed
from rltrain.errors import ConfigError
from rltrain.validate import at_least, one_of


@dataclass
class DoomConfig:
    """A ViZDoom scenario for one player."""

    name: str
    """Name in run folders."""
    family: str = "doom"
    scenario: str = "basic"
    """One of ViZDoom's own scenarios."""
    cfg: str | None = None
    """A ViZDoom .cfg file of yours, in place of `scenario`; its WAD is looked for beside it, then in ViZDoom."""
    frame_skip: int = 4
    """Game tics (35 a second) per action."""
    height: int = 60
    """Height of a frame, pixels."""
    width: int = 80
    """Width of a frame, pixels."""
    stack_num: int = 4
    """Frames that the policy sees at once."""
    gray: bool = True
    """One channel of brightness; otherwise red, green, blue."""
    action_set: str = "single"
    """`single`: an action presses one button; `combinations`: any buttons that are not opposites."""
    noop: bool = False
    """With `single`, one action more, which presses nothing."""
    render_resolution: str = "RES_160X120"
    """What the engine draws, before it is scaled to `height` and `width`."""

    def __post_init__(self) -> None:
        for field in ("frame_skip", "height", "width", "stack_num"):
            at_least(f"env.{field}", getattr(self, field), 1)
        one_of("env.action_set", self.action_set, ("single", "combinations"))
        if self.cfg is not None and not Path(self.cfg).is_file():
            raise ConfigError(f"there is no file '{self.cfg}'", "env.cfg", "give the path of a ViZDoom .cfg file")


def scenarios() -> list[str]:
    """ViZDoom's own scenarios for one player that come with their WAD."""
    from rltrain.envs import doom_engine

    return doom_engine.scenarios()


def spaces(config: DoomConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """(Box [C, height, width] uint8, Discrete), from the .cfg file: starts no engine.

    Raises ConfigError (unknown scenario, bad .cfg) or EnvironmentFailure (no WAD, no ViZDoom).
    """
    from rltrain.envs import doom_engine

    setup = doom_engine.read_setup(config)
    actions = button_actions(setup.buttons, config.action_set, config.noop)
    if not actions:
        raise ConfigError(f"'{setup.cfg.name}' has no button that an action can press", "env.cfg", "add buttons to it")
    shape = (1 if config.gray else 3, config.height, config.width)
    return gym_spaces.Box(0, 255, shape, np.uint8), gym_spaces.Discrete(len(actions))


def make_pool(config: DoomConfig, num_envs: int) -> Pool:
    """Start `num_envs` engines. Raises ConfigError or EnvironmentFailure."""
    return DoomPool(config, num_envs)


class DoomPool:
    """`num_envs` engines, each a process of its own, driven by threads that live as long as the pool.

    An engine may be bound to the thread that started it (so that it dies with the trainer), which is why no thread
    of ours ends before its engines.
    """

    def __init__(self, config: DoomConfig, num_envs: int) -> None:
        from rltrain.envs import doom_engine

        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        setup = doom_engine.read_setup(config)
        self._buttons = button_actions(setup.buttons, config.action_set, config.noop)
        self._folder = tempfile.TemporaryDirectory(prefix="rltrain-doom-")
        self._threads = ThreadPoolExecutor(num_envs, thread_name_prefix="doom")
        self._pending: list[Future[None]] = []
        self._closed = False
        folder = Path(self._folder.name)
        self._engines = [doom_engine.Engine(config, setup, folder / str(i)) for i in range(num_envs)]
        try:
            self._run([self._threads.submit(engine.start) for engine in self._engines])
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; obs [B, C, height, width] uint8."""
        wait(self._pending)
        self._pending = []
        obs = self._frames()
        self._run(
            [self._threads.submit(engine.begin, obs[i], env_seed(seed, i)) for i, engine in enumerate(self._engines)]
        )
        # Kept apart from what the caller gets and may write to.
        self._last = obs.copy()
        self._reward_sum = np.zeros(self.num_envs)
        self._length_steps = np.zeros(self.num_envs, np.int64)
        self._length_frames = np.zeros(self.num_envs, np.int64)
        return obs

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] int64; returns at once."""
        self._obs, self._next_obs = self._frames(), self._frames()
        self._reward = np.zeros(self.num_envs, np.float32)
        self._tics = np.zeros(self.num_envs, np.int64)
        self._terminated, self._truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._pending = [self._threads.submit(self._step_one, i, act) for i, act in enumerate(action.tolist())]

    def recv(self) -> TimeStep:
        """Wait for the step. Raises EnvironmentFailure where an engine failed."""
        if not self._pending:
            raise RuntimeError("recv without send")
        pending, self._pending = self._pending, []
        self._run(pending)
        first = self._terminated | self._truncated
        self._reward_sum += self._reward
        self._length_steps += 1
        self._length_frames += self._tics
        episodes = []
        for i in np.flatnonzero(first).tolist():
            totals = (float(self._reward_sum[i]), int(self._length_steps[i]), int(self._length_frames[i]))
            episodes.append(Episode(i, *totals))
            self._reward_sum[i] = self._length_steps[i] = self._length_frames[i] = 0
        self._last = self._obs.copy()
        return TimeStep(self._obs, self._next_obs, self._reward, self._terminated, self._truncated, first, episodes)

    def step(self, action: np.ndarray) -> TimeStep:
        """`send`, then `recv`."""
        self.send(action)
        return self.recv()

    def close(self) -> None:
        """End the engines and their threads, and remove their files."""
        if self._closed:
            return
        self._closed = True
        wait(self._pending)
        wait([self._threads.submit(engine.close) for engine in self._engines])
        self._threads.shutdown()
        self._folder.cleanup()

    def _step_one(self, i: int, action: int) -> None:
        """Runs in a thread: step engine i, write its row of every array."""
        engine, next_obs = self._engines[i], self._next_obs[i]
        # At a real end the engine shows no picture; the last one stands in for a successor without value.
        next_obs[...] = self._last[i]
        outcome = engine.act(self._buttons[action], next_obs)
        self._reward[i], self._tics[i] = outcome.reward, outcome.tics
        self._terminated[i], self._truncated[i] = outcome.terminated, outcome.truncated
        if outcome.terminated or outcome.truncated:
            engine.begin(self._obs[i])
        else:
            self._obs[i] = next_obs

    def _frames(self) -> np.ndarray:
        return np.empty((self.num_envs, *(self.frame_space.shape or ())), np.uint8)

    @staticmethod
    def _run(futures: "list[Future[None]]") -> None:
        """Wait for all, then raise the first error: no thread is left at work on arrays of a step given up."""
        wait(futures)
        for future in futures:
            future.result()
