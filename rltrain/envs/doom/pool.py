"""A pool of ViZDoom engines, stepped by threads. Imported only when Doom is used."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom import probe
from rltrain.envs.doom import process as doom_process
from rltrain.envs.doom.engine import Engine
from rltrain.envs.doom.setup import read_setup
from rltrain.envs.patience import Clock, is_stopping
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.restarts import Restarts
from rltrain.envs.seeding import env_seed
from rltrain.envs.threads import CHECK_S, Job, Threads
from rltrain.errors import EnvironmentFailure
from rltrain.system import ram

_SHARED_BYTES = 300_000
"""Shared memory of one engine besides its screen (ViZDoom 1.3.2)."""
_START_TRIES = 3
"""Starts of an engine in a row that may fail before the first has worked. More would not help a broken installation."""

Recovery = Callable[[EnvironmentFailure], None]
"""What to do after a call of an engine was given up. It runs in the engine's thread."""


class DoomPool:
    """`num_envs` engines, each with its own process and its own thread.

    An engine that dies or hangs is replaced, up to `max_restarts` times in total. Its episode is truncated, with the
    last frame as successor, reward 0 and no Episode, and a new episode starts. While the run stops, no engine is
    replaced, and each later step of the environment is truncated in this way.
    """

    def __init__(
        self,
        config: DoomConfig,
        num_envs: int,
        frame_space: gymnasium.Space,
        action_space: gymnasium.Space,
        first_index: int = 0,
    ) -> None:
        self._first_index = first_index
        self.frame_space, self.action_space = frame_space, action_space
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        self._config, self._setup = config, read_setup(config)
        self._actions = self._setup.actions
        self._restarts = Restarts(num_envs, config.max_restarts, "engine")
        self._num_renewals = [0] * num_envs
        self._closed = self._sent = False
        probe.require_start(config)
        doom_process.sweep()
        self._folder = doom_process.PoolFolder()
        self._threads = Threads(num_envs, "doom")
        self._clock = Clock(longest_s=2 * CHECK_S)
        self._last = np.zeros((num_envs, *(frame_space.shape or ())), np.uint8)
        self._num_engines = 0
        self._engines = [self._engine() for _ in range(num_envs)]
        self._recover: list[Recovery] = [self._ignore] * num_envs
        try:
            width, height = map(int, config.render_resolution.removeprefix("RES_").split("X"))
            num_bytes = num_envs * (_SHARED_BYTES + width * height * (1 if config.gray else 3))
            ram.require_shared(num_bytes, f"{num_envs} Doom engines need", "use a smaller num_envs")
            self._run([functools.partial(self._start, i) for i in range(num_envs)])
        except BaseException:
            self.close()
            raise

    @property
    def num_restarts(self) -> int:
        """The number of replacements of failed engines."""
        return self._restarts.total

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape] uint8."""
        if self._sent:
            self._wait()
            self._sent = False
        self._seed = seed
        obs = self._frames()
        self._run([functools.partial(self._begin, i, obs[i], self._seed_of(i)) for i in range(self.num_envs)])
        # A copy, because the caller may change obs.
        self._last = obs.copy()
        self._reward_sum = np.zeros(self.num_envs)
        self._length_steps = np.zeros(self.num_envs, np.int64)
        self._length_frames = np.zeros(self.num_envs, np.int64)
        return obs

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] int64, and return at once."""
        self._obs, self._next_obs = self._frames(), self._frames()
        self._reward, self._shaping = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.float32)
        self._tics = np.zeros(self.num_envs, np.int64)
        self._terminated, self._truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        self._broken = np.zeros(self.num_envs, bool)
        self._sent = True
        self._clock.look()
        for i, act in enumerate(action.tolist()):
            self._threads.submit(i, functools.partial(self._step_one, i, act))

    def recv(self) -> TimeStep:
        """Wait for the step and return its result.

        Raises EnvironmentFailure if the budget for replacements is used up.
        """
        if not self._sent:
            raise RuntimeError("recv was called without send")
        self._wait()
        self._sent = False
        first = self._terminated | self._truncated
        self._reward_sum += self._reward
        self._length_steps += 1
        self._length_frames += self._tics
        episodes = []
        for i in np.flatnonzero(first).tolist():
            if not self._broken[i]:
                totals = (float(self._reward_sum[i]), int(self._length_steps[i]), int(self._length_frames[i]))
                episodes.append(Episode(i, *totals))
            self._reward_sum[i] = self._length_steps[i] = self._length_frames[i] = 0
        self._last = self._obs.copy()
        reward = self._reward + self._shaping
        return TimeStep(self._obs, self._next_obs, reward, self._terminated, self._truncated, first, episodes)

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        self.send(action)
        return self.recv()

    def state_dict(self) -> None:
        """Return None: a game saved by ViZDoom does not continue identically."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise AssertionError: this pool saves no state."""
        raise AssertionError("this pool saves no state")

    def close(self) -> None:
        """End the engines and their threads, and remove their files."""
        if self._closed:
            return
        self._closed = True
        self._restarts.stop()
        with contextlib.suppress(Exception):  # an error of a step whose result nobody will read
            self._wait()
        self._recover = [self._ignore] * self.num_envs
        self._run([engine.close for engine in self._engines])
        self._threads.stop()
        self._folder.remove()

    def _start(self, i: int) -> None:
        """Start engine i. Runs in the engine's thread. Raises EnvironmentFailure if some tries in a row fail."""
        for tries_left in reversed(range(_START_TRIES)):
            try:
                self._engines[i].start()
                return
            except EnvironmentFailure as error:
                self._engines[i].kill()
                if tries_left == 0 or is_stopping():
                    raise
                self._restarts.count(i, error)

    def _step_one(self, i: int, action: int) -> None:
        """Step engine i and write its row of every array. Runs in the engine's thread."""
        next_obs = self._next_obs[i]
        # When the episode really ends, the engine has no picture. The successor, whose value is 0, is the last frame.
        next_obs[...] = self._last[i]
        self._recover[i] = functools.partial(self._truncate, i)
        try:
            outcome = self._engines[i].act(self._actions[action], next_obs)
        except EnvironmentFailure as error:
            self._truncate(i, error)
            return
        self._restarts.worked(i)
        self._reward[i], self._shaping[i], self._tics[i] = outcome.reward, outcome.shaping, outcome.tics
        self._terminated[i], self._truncated[i] = outcome.terminated, outcome.truncated
        if outcome.terminated or outcome.truncated:
            self._begin(i, self._obs[i], None)
        else:
            self._obs[i] = next_obs

    def _truncate(self, i: int, error: EnvironmentFailure) -> None:
        """Truncate the episode of an engine that failed in a step, and replace it. Runs in the engine's thread."""
        self._next_obs[i] = self._last[i]
        self._truncated[i] = self._broken[i] = True
        self._replace(i, self._obs[i], None, error)

    def _begin(self, i: int, obs: np.ndarray, seed: int | None) -> None:
        """Start an episode, seeded if `seed` is given, and write its first frame. Runs in the engine's thread."""
        self._recover[i] = functools.partial(self._replace, i, obs, seed)
        engine = self._engines[i]
        try:
            if engine.is_worn and not is_stopping():
                engine.close()
                engine.start()
                self._num_renewals[i] += 1
                if seed is None:  # a new seed, so that the new engine does not play the same episodes again
                    seed = env_seed(self._seed_of(i), self._num_renewals[i] << 16)
            engine.begin(obs, seed)
        except EnvironmentFailure as error:
            self._replace(i, obs, seed, error)

    def _replace(self, i: int, obs: np.ndarray, seed: int | None, error: EnvironmentFailure) -> None:
        """Replace engine i and start an episode. Runs in the engine's thread. Raises EnvironmentFailure."""
        engine = self._engines[i]
        if is_stopping():  # the start of a new engine would delay the stop
            engine.kill()
            obs[...] = self._last[i]
            return
        self._recover[i] = functools.partial(self._replace, i, obs, seed)
        while True:
            engine.kill()
            count = self._restarts.count(i, error)
            try:
                engine.start()
                # A new seed, so that the new engine does not play the same episodes again.
                engine.begin(obs, env_seed(self._seed_of(i), count) if seed is None else seed)
                return
            except EnvironmentFailure as another:
                error = another

    def _seed_of(self, i: int) -> int:
        """Return the seed of engine i since the last `reset`."""
        return env_seed(self._seed, self._first_index + i)

    def _ignore(self, error: EnvironmentFailure) -> None:
        """Do nothing about an engine that failed while it was started or closed."""

    def _engine(self) -> Engine:
        folder = self._folder.path / str(self._num_engines)
        self._num_engines += 1
        return Engine(self._config, self._setup, self.frame_space, folder, self._clock)

    def _frames(self) -> np.ndarray:
        return np.empty((self.num_envs, *(self.frame_space.shape or ())), np.uint8)

    def _run(self, jobs: list[Job]) -> None:
        """Run one job in each engine's thread, and wait for all. Raises the first error."""
        self._clock.look()
        for i, job in enumerate(jobs):
            self._threads.submit(i, job)
        self._wait()

    def _wait(self) -> None:
        self._threads.wait(self._look_after_engines)

    def _look_after_engines(self) -> None:
        """Kill engines that hang, and give up calls that do not return. Called regularly during long waits."""
        self._clock.look()
        for i, engine in enumerate(self._engines):
            if engine.check():
                self._threads.abandon(i)
                self._engines[i] = self._engine()
                self._threads.submit(i, functools.partial(self._recover[i], engine.failure("has ended")))
