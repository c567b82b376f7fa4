"""A pool with its frame stacks, and where it stands: what every loop steps."""

import math
from typing import Any

import numpy as np

from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Pool, TimeStep
from rltrain.errors import NonFiniteError


class Stepper:
    """Environments between two steps."""

    frame: np.ndarray
    """The newest single frame, [B, *frame_shape]."""
    first: np.ndarray
    """It begins an episode, [B], bool."""
    obs: np.ndarray
    """What the policy sees next, the newest frames stacked, [B, *obs_shape]."""

    def __init__(self, pool: Pool, seed: int) -> None:
        """Starts new episodes everywhere."""
        self.pool = pool
        self._stack = FrameStack(pool.num_envs, pool.frame_space, pool.stack_num)
        self.frame = pool.reset(seed)
        self.first = np.ones(pool.num_envs, bool)
        self.obs = self._stack.reset(self.frame)

    def step(self, action: np.ndarray) -> tuple[TimeStep, np.ndarray | None]:
        """Step with actions as the environments take them.

        Beside the time step: the true successors as the policy would see them, [B, *obs_shape], where some episode
        was truncated and they are asked for their value; None where none was. Raises NonFiniteError.
        """
        timestep = self.pool.step(action)
        check_finite(timestep)
        next_obs = self._stack.peek(timestep.next_obs) if timestep.truncated.any() else None
        self.frame, self.first = timestep.obs, timestep.first
        self.obs = self._stack.push(timestep.obs, timestep.first)
        return timestep, next_obs

    def state_dict(self) -> dict[str, Any]:
        """Everything, where the environments can give theirs; empty where they cannot."""
        environments = self.pool.state_dict()
        if environments is None:
            return {}
        return {
            "environments": environments,
            "frame": self.frame.copy(),
            "first": self.first.copy(),
            "obs": self.obs.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; from nothing, the new episodes go on."""
        if state:
            self.pool.load_state_dict(state["environments"])
            self.frame, self.first, self.obs = state["frame"], state["first"], state["obs"]
            self._stack.restore(self.obs)


def check_finite(timestep: TimeStep) -> None:
    """Raises NonFiniteError where a reward or an observation is none that could be learned from."""
    _check_finite("reward", timestep.reward)
    if timestep.next_obs.dtype.kind == "f":
        _check_finite("observation", timestep.next_obs)
        if timestep.first.any():  # elsewhere it is the same
            _check_finite("observation", timestep.obs)


def _check_finite(what: str, values: np.ndarray) -> None:
    # One sum tells for all: it is not finite if any of its terms is not.
    if not math.isfinite(np.add.reduce(values, axis=None, dtype=np.float64)):
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).tolist()
        if bad:
            facts = {"tensor": what, "environments": bad, "values": [str(values[i]) for i in bad]}
            where = f"environment {bad[0]}"
            raise NonFiniteError(f"the {what} is not finite", where, "the fault is in the environment", facts)
