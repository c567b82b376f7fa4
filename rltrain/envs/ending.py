"""Cut episodes that must end and do not."""

import dataclasses
from typing import Any

import numpy as np

from rltrain.envs.pool import Episode, Pool, TimeStep
from rltrain.system import notices


class EndingPool:
    """A pool whose episodes are truncated after `limit_steps`, if nothing else has ended them.

    An environment can have a time limit and yet no end, because a wrapper around it starts the next round by itself. It
    cannot be reset from here: its next episode begins where the last one was cut.
    """

    def __init__(self, pool: Pool, limit_steps: int, name: str) -> None:
        """name: the name of the environment, for the one line that says that an episode was cut."""
        self._pool, self._limit_steps, self._name = pool, limit_steps, name
        self.num_envs, self.stack_num = pool.num_envs, pool.stack_num
        self.frame_space, self.action_space = pool.frame_space, pool.action_space
        self._start()

    def _start(self) -> None:
        self._length_steps = np.zeros(self.num_envs, np.int64)
        self._reward_sum = np.zeros(self.num_envs)
        self._was_cut = np.zeros(self.num_envs, bool)
        """True where the pool counts an episode from before a cut."""

    @property
    def num_restarts(self) -> int:
        """The number of replaced environments."""
        return self._pool.num_restarts

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape]."""
        self._start()
        return self._pool.reset(seed)

    def send(self, action: np.ndarray) -> None:
        """Start one step and return at once."""
        self._pool.send(action)

    def recv(self) -> TimeStep:
        """Wait for the step that `send` started and return its result."""
        return self._ended(self._pool.recv())

    def step(self, action: np.ndarray) -> TimeStep:
        """Take one step."""
        return self._ended(self._pool.step(action))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the exact state of the environments, or None. The steps up to a cut begin anew when it is restored."""
        return self._pool.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self._start()
        self._pool.load_state_dict(state)

    def close(self) -> None:
        """End all environments."""
        self._pool.close()

    def _ended(self, step: TimeStep) -> TimeStep:
        self._length_steps += 1
        self._reward_sum += step.reward
        late = (self._length_steps >= self._limit_steps) & ~step.first
        if late.any() or self._was_cut.any():
            step = self._cut(step, late)
        self._length_steps[step.first] = 0
        self._reward_sum[step.first] = 0.0
        return step

    def _cut(self, step: TimeStep, late: np.ndarray) -> TimeStep:
        """Truncate the episodes that are late, and count those that follow on a cut from there."""
        if late.any():
            what = f"an episode of '{self._name}' had no end after {self._limit_steps:,} steps and was cut"
            notices.warn_once(f"{what}; if it has one, does a wrapper hide it?", about=f"cut {self._name}")
        cut_before = {episode.env_index for episode in step.episodes if self._was_cut[episode.env_index]}
        episodes = [episode for episode in step.episodes if episode.env_index not in cut_before]
        for i in sorted(cut_before | set(np.flatnonzero(late).tolist())):
            length = int(self._length_steps[i])
            episodes.append(Episode(i, float(self._reward_sum[i]), length, length))
        self._was_cut = (self._was_cut & ~step.first) | late
        truncated = step.truncated | (late & ~step.terminated)
        return dataclasses.replace(step, truncated=truncated, first=step.first | late, episodes=episodes)
