"""Gymnasium environments spread over worker processes, for those that are slow enough to be worth it."""

import itertools
from typing import Any

import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import spaces
from rltrain.envs.gym.pool import GymPool
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.workers.pool import Lost, Workers


class WorkerPool:
    """Each process runs a GymPool over a contiguous share, so that both ways of stepping give the same transitions.

    A worker that dies or hangs, or whose environment raises, is replaced, `max_restarts` times in all: the episodes of
    its share end as truncated, with their last observations as successors, reward 0 and no Episode. Once the run was
    asked to stop, none is replaced: its share stands still, and each of its steps is cut like that.
    """

    def __init__(self, config: GymConfig, num_envs: int) -> None:
        # First here, where a wrong configuration is reported at once and by its own error.
        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        num_workers = min(config.workers, num_envs)
        bounds = np.linspace(0, num_envs, num_workers + 1).astype(int).tolist()
        self._shares = list(itertools.pairwise(bounds))
        arguments = [(config, end - begin, begin) for begin, end in self._shares]
        self._workers = Workers(GymPool, arguments, "env.workers", config.step_timeout_s, config.max_restarts)

    @property
    def num_restarts(self) -> int:
        """Workers that were replaced."""
        return self._workers.restarts.total

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; obs [B, *frame_shape]."""
        self._seed = seed
        self._workers.call("reset", [(seed,) for _ in self._shares])
        self._last: list[np.ndarray] = []
        for answer, (begin, end) in zip(self._workers.answers(), self._shares, strict=True):
            obs = self._workers.replace(answer, seed, begun=False) if isinstance(answer, Lost) else answer
            # Nothing, once the run was asked to stop: an observation that nobody will learn from.
            shape = (end - begin, *(self.frame_space.shape or ()))
            self._last.append(np.zeros(shape, self.frame_space.dtype) if obs is None else obs)
        return np.concatenate(self._last)

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] or [B, K] int64 or [B, A] float32; returns at once."""
        self._workers.call("step", [(action[begin:end],) for begin, end in self._shares])

    def recv(self) -> TimeStep:
        """Wait for the step. Raises EnvironmentFailure where workers are lost more often than they may."""
        parts: list[TimeStep] = [
            self._cut(answer) if isinstance(answer, Lost) else answer for answer in self._workers.answers()
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
        """`send`, then `recv`."""
        self.send(action)
        return self.recv()

    def _cut(self, lost: Lost) -> TimeStep:
        """What a lost worker's share did in this step: its episodes end, others begin in another process."""
        last = self._last[lost.number]
        obs = self._workers.replace(lost, self._seed, begun=True)
        if obs is None:  # the run is about to stop
            obs = last
        no, yes = np.zeros(len(last), bool), np.ones(len(last), bool)
        return TimeStep(obs, last, np.zeros(len(last), np.float32), no, yes, yes)

    def state_dict(self) -> None:
        """None: the environments live in other processes, and are not asked."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Never called: there is no state to take."""
        raise AssertionError("this pool saves no state")

    def close(self) -> None:
        """End the processes."""
        self._workers.close()
