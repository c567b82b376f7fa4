"""A pool of gymnasium environments in several worker processes, for slow environments."""

import itertools
from typing import Any

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import spaces
from rltrain.envs.gym.pool import GymPool, draw_constructor_seed
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.spaces import check_made_for, in_words
from rltrain.envs.workers.pool import Lost, Workers


def make_share(
    config: GymConfig, num_envs: int, first_index: int, constructor_seed: int, made_for: list[str]
) -> GymPool:
    """Make the pool of a worker. Raises EnvironmentFailure for other spaces than the trainer's, of `in_words`."""
    pool = GymPool(config, num_envs, first_index, constructor_seed)
    try:
        check_made_for(pool, made_for)
    except BaseException:
        pool.close()
        raise
    return pool


class WorkerPool:
    """Worker processes that each run a `GymPool` with a contiguous share of the environments.

    The transitions are the same as those of a single `GymPool`.

    A worker that dies or hangs, or whose environment raises an error, is replaced, up to `max_restarts` times in total.
    The episodes of its share are truncated, with their last observations as successors, reward 0 and no Episode. While
    the run stops, no worker is replaced, and each later step of its share is truncated in this way.
    """

    def __init__(self, config: GymConfig, num_envs: int, first_index: int = 0) -> None:
        seed = draw_constructor_seed()  # a worker in place of a lost one gets it, too
        # Make an environment here first, so that a wrong configuration raises its error before any process starts.
        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        num_workers = min(config.workers, num_envs)
        bounds = np.linspace(0, num_envs, num_workers + 1).astype(int).tolist()
        self._shares = list(itertools.pairwise(bounds))
        made_for = in_words(self.frame_space, self.action_space)
        arguments = [(config, end - begin, first_index + begin, seed, made_for) for begin, end in self._shares]
        self._workers = Workers(make_share, arguments, "env.workers", config.step_timeout_s, config.max_restarts)

    @property
    def num_restarts(self) -> int:
        """The number of replacements of workers."""
        return self._workers.restarts.total

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape]."""
        self._seed = seed
        self._workers.call("reset", [(seed,) for _ in self._shares])
        self._last: list[np.ndarray] = []
        for answer, (begin, end) in zip(self._workers.answers(), self._shares, strict=True):
            obs = self._workers.replace(answer, seed, begun=False) if isinstance(answer, Lost) else answer
            # None while the run stops. Zeros will do, because the run ends before it uses them.
            shape = (end - begin, *(self.frame_space.shape or ()))
            self._last.append(np.zeros(shape, self.frame_space.dtype) if obs is None else obs)
        return np.concatenate(self._last)

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] or [B, K] int64 or [B, A] float32, and return at once."""
        self._workers.call("step", [(action[begin:end],) for begin, end in self._shares])

    def recv(self) -> TimeStep:
        """Wait for the step and return its result.

        Raises EnvironmentFailure if the budget for replacements is used up.
        """
        parts: list[TimeStep] = [
            self._truncated_step(answer) if isinstance(answer, Lost) else answer for answer in self._workers.answers()
        ]
        self._last = [part.obs for part in parts]
        episodes = [
            Episode(begin + episode.env_index, episode.reward, episode.length_steps, episode.length_frames)
            for (begin, _), part in zip(self._shares, parts, strict=True)
            for episode in part.episodes
        ]
        return TimeStep(
            np.concatenate([part.obs for part in parts]),
            np.concatenate([part.next_obs for part in parts]),
            np.concatenate([part.reward for part in parts]),
            np.concatenate([part.terminated for part in parts]),
            np.concatenate([part.truncated for part in parts]),
            np.concatenate([part.first for part in parts]),
            episodes,
        )

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        self.send(action)
        return self.recv()

    def _truncated_step(self, lost: Lost) -> TimeStep:
        """Replace a lost worker. Return a step that truncates the episodes of its share and starts new ones."""
        last = self._last[lost.number]
        obs = self._workers.replace(lost, self._seed, begun=True)
        if obs is None:  # the run stops, so the worker was not replaced
            obs = last
        no, yes = np.zeros(len(last), bool), np.ones(len(last), bool)
        return TimeStep(obs, last, np.zeros(len(last), np.float32), no, yes, yes)

    def state_dict(self) -> None:
        """Return None: the environments of worker processes are not saved."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise AssertionError: this pool saves no state."""
        raise AssertionError("this pool saves no state")

    def close(self) -> None:
        """End the processes."""
        self._workers.close()
