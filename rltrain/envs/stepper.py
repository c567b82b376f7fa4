"""Step a pool with its frame stacks, and save and restore its state."""

import math
from typing import Any

import numpy as np

from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Pool, TimeStep
from rltrain.errors import NonFiniteError


class Stepper:
    """A pool, its frame stacks and the current observations."""

    frame: np.ndarray
    """The newest single frames, [B, *frame_shape]."""
    first: np.ndarray
    """True if `frame` is the first of an episode, [B], bool."""
    obs: np.ndarray
    """The observations that the policy acts on next: the newest frames, stacked, [B, *obs_shape]."""

    def __init__(self, pool: Pool, seed: int) -> None:
        """Start a new episode in every environment. Raises NonFiniteError."""
        self.pool = pool
        self._stack = FrameStack(pool.num_envs, pool.frame_space, pool.stack_num)
        self.frame = pool.reset(seed)
        check_finite_obs(self.frame)
        self.first = np.ones(pool.num_envs, bool)
        self.obs = self._stack.reset(self.frame)

    def step(self, action: np.ndarray) -> tuple[TimeStep, np.ndarray | None]:
        """Step with actions as the environments take them. Return (time step, stacked true successors).

        The true successors, [B, *obs_shape], are needed for the values of truncated episodes. They are None if no
        episode was truncated in this step. Raises NonFiniteError.
        """
        timestep = self.pool.step(action)
        check_finite(timestep)
        next_obs = self._stack.peek(timestep.next_obs) if timestep.truncated.any() else None
        self.frame, self.first = timestep.obs, timestep.first
        self.obs = self._stack.push(timestep.obs, timestep.first)
        return timestep, next_obs

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environments and the stacks; empty if the environments cannot save theirs."""
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
        """Restore the state that `state_dict` returned. An empty state changes nothing.

        Raises ValueError for observations of other shapes, or states that the space does not have.
        """
        if state:
            for name in ("frame", "first", "obs"):
                own, saved = getattr(self, name), state[name]
                if saved.shape != own.shape or saved.dtype != own.dtype:
                    raise ValueError(f"the saved {name} is {saved.dtype} {saved.shape}, not {own.dtype} {own.shape}")
                num_states = getattr(self.pool.frame_space, "n", None)
                if name != "first" and num_states is not None and ((saved < 0) | (saved >= num_states)).any():
                    raise ValueError(f"the saved {name} has a state outside 0..{num_states - 1}")
            self.pool.load_state_dict(state["environments"])
            self.frame, self.first, self.obs = state["frame"], state["first"], state["obs"]
            self._stack.restore(self.obs)


def merged(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the states of steppers with consecutive ranges of environments into that of one stepper with all of them.

    Empty if one of them is empty: its environments cannot save their state.
    """
    if not all(states):
        return {}
    return {key: _joined([state[key] for state in states]) for key in states[0]}


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    if all(key.isdigit() for key in parts[0]):  # by environment
        values = [part[str(i)] for part in parts for i in range(len(part))]
        return {str(i): value for i, value in enumerate(values)}
    numbered = [{key: value for key, value in part.items() if key.isdigit()} for part in parts]
    others = {key: _joined([part[key] for part in parts]) for key in parts[0] if not key.isdigit()}
    return _joined(numbered) | others if numbered[0] else others


def part_of(state: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Return the state of a stepper with a contiguous range of the environments of `state`: the inverse of `merged`."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if key.isdigit():
            if rows.start <= int(key) < rows.stop:
                found[str(int(key) - rows.start)] = value
        else:
            found[key] = part_of(value, rows) if isinstance(value, dict) else value[rows]
    return found


def check_finite(timestep: TimeStep) -> None:
    """Raise NonFiniteError if a reward or an observation is not finite."""
    _check_finite("reward", timestep.reward)
    check_finite_obs(timestep.next_obs)
    if timestep.first.any():  # otherwise obs equals next_obs
        check_finite_obs(timestep.obs)


def check_finite_obs(obs: np.ndarray) -> None:
    """Raise NonFiniteError if an observation [B, ...] is not finite."""
    if obs.dtype.kind == "f":
        _check_finite("observation", obs)


def _check_finite(what: str, values: np.ndarray) -> None:
    # First check the sum, which is fast: it is not finite if a term is not finite.
    if not math.isfinite(np.add.reduce(values, axis=None, dtype=np.float64)):
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).tolist()
        if bad:
            facts = {"tensor": what, "environments": bad, "values": [str(values[i]) for i in bad]}
            where = f"environment {bad[0]}"
            raise NonFiniteError(f"the {what} is not finite", where, "the fault is in the environment", facts)
