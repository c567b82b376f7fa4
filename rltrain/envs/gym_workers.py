"""Gymnasium environments spread over worker processes, for those that are slow enough to be worth it."""

import contextlib
import itertools
import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rltrain.envs.gym import GymConfig, GymPool, spaces
from rltrain.envs.pool import Episode, TimeStep
from rltrain.errors import EnvironmentFailure, RltrainError


class WorkerPool:
    """Each process runs a GymPool over a contiguous share, so that both ways of stepping give the same transitions.

    Raises EnvironmentFailure where a worker dies or its environments raise.
    """

    def __init__(self, config: GymConfig, num_envs: int) -> None:
        # First here, where a wrong configuration is reported at once and by its own error.
        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        num_workers = min(config.workers, num_envs)
        bounds = np.linspace(0, num_envs, num_workers + 1).astype(int).tolist()
        self._shares = list(itertools.pairwise(bounds))
        # Not fork: a copy of a process with torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for begin, end in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, config, end - begin, begin), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._num_replies = 0

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; obs [B, *frame_shape]."""
        if self._num_replies:
            self._replies()
        self._tell([seed] * len(self._shares))
        return np.concatenate(self._replies())

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] int64 or [B, A] float32; returns at once."""
        self._tell([action[begin:end] for begin, end in self._shares])

    def recv(self) -> TimeStep:
        """Wait for the step."""
        parts: list[TimeStep] = self._replies()
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

    def close(self) -> None:
        """End the processes, by force if they do not follow within 5 s."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._pipes, self._processes = [], []

    def _tell(self, messages: list[Any]) -> None:
        for pipe, message in zip(self._pipes, messages, strict=True):
            # A dead worker is reported by `_replies`.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                pipe.send(message)
        self._num_replies = len(messages)

    def _replies(self) -> list[Any]:
        """One answer from each worker; all are read before an error is raised, so that none is left for later."""
        answers: list[Any] = []
        for number, pipe in enumerate(self._pipes):
            try:
                answers.append(pipe.recv())
            except (EOFError, ConnectionResetError) as error:
                what = f"worker process {number} ended"
                answers.append(EnvironmentFailure(what, "env.workers", "see its message above, or use env.workers=0"))
                answers[-1].__cause__ = error
        self._num_replies = 0
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def _work(pipe: Connection, config: GymConfig, num_envs: int, first_index: int) -> None:
    """A worker: a seed is answered with obs, an action with a TimeStep; ends when the pipe is closed."""
    # Ctrl-C reaches the whole group of processes; the trainer decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool: GymPool | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = pipe.recv()
            try:
                pool = pool or GymPool(config, num_envs, first_index)
                pipe.send(pool.reset(message) if isinstance(message, int) else pool.step(message))
            except RltrainError as error:
                # Its attributes, not the object: errors with several arguments do not survive pickling.
                pipe.send(EnvironmentFailure(error.what))
    if pool is not None:
        pool.close()
