"""Uniform experience replay (Lin 1992; Mnih et al. 2015) that stores every frame once.

Each environment has its own ring of slots. A slot holds one frame and the transition that starts there; stacks of
frames and n-step returns (Sutton & Barto 2018, eq. 7.1) are built when sampled. The slot at the write head already
holds the newest successor frame; when the episode ends, that slot is left behind as the true final frame: it belongs
to no transition, and is the only cost of an episode's end. After a lost life the game goes on, so the next transition
simply takes the slot and its stack reaches back over the life's end.

Legend: B environments, N sampled transitions, K frames of a stack, S n-step window, slot = env * slots_per_env + pos.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from rltrain.memory.batch import Batch, Change
from rltrain.memory.pieces import Pieces

FRAME_OVERHEAD_BYTES = 4 + 1 + 1 + 1 + 1
"""Bytes a slot needs besides frame and action: reward, terminated, ended, history, valid."""

GATHERED_BYTES = 1 << 20
"""Observations that `batches` gathers at once."""


def bytes_per_transition(
    frame_shape: tuple[int, ...], frame_dtype: DTypeLike, action_shape: tuple[int, ...], action_dtype: DTypeLike
) -> int:
    """Bytes of one slot. An ended episode takes one slot more than it has transitions."""
    frame_bytes = math.prod(frame_shape) * np.dtype(frame_dtype).itemsize
    return frame_bytes + math.prod(action_shape) * np.dtype(action_dtype).itemsize + FRAME_OVERHEAD_BYTES


class Replay:
    """The last `capacity` slots over all environments, sampled uniformly."""

    beta: float = 1.0
    """Ignored; there so that a loop may anneal it without asking which replay it has."""

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        frame_shape: tuple[int, ...],
        frame_dtype: DTypeLike,
        action_shape: tuple[int, ...],
        action_dtype: DTypeLike,
        stack_num: int,
        n_step: int,
        gamma: float,
        generator: np.random.Generator,
    ) -> None:
        """`capacity` counts slots over all environments; what does not divide by `num_envs` is left unused."""
        self.slots_per_env = capacity // num_envs
        if stack_num < 1 or stack_num > 255 or n_step < 1:
            raise ValueError(f"stack_num must be in 1..255 and n_step at least 1, got {stack_num} and {n_step}")
        if self.slots_per_env < stack_num + n_step + 1:
            raise ValueError(
                f"replay capacity {capacity} is too small for {num_envs} environments, {stack_num} stacked frames and "
                f"{n_step} steps: at least {num_envs * (stack_num + n_step + 1)}"
            )
        self.num_envs, self.stack_num, self.n_step, self.gamma = num_envs, stack_num, n_step, gamma
        self.capacity = self.slots_per_env * num_envs
        self.generator = generator
        self.size = 0
        """Transitions that can be sampled. Those whose n-step window is still open are not counted."""
        if frame_shape:
            self._obs_shape: tuple[int, ...] = (stack_num * frame_shape[0], *frame_shape[1:])
        else:
            self._obs_shape = () if stack_num == 1 else (stack_num,)
        # np.zeros takes pages from the system only when they are first written: an unfilled replay costs no memory.
        self._arrays: dict[str, np.ndarray] = {
            "frame": np.zeros((self.capacity, math.prod(frame_shape)), frame_dtype),
            "action": np.zeros((self.capacity, *action_shape), action_dtype),
            "reward": np.zeros(self.capacity, np.float32),
            "terminated": np.zeros(self.capacity, np.bool_),
            "ended": np.zeros(self.capacity, np.bool_),
            "history": np.zeros(self.capacity, np.uint8),  # earlier frames of its stack, at most stack_num - 1
            "valid": np.zeros(self.capacity, np.bool_),
        }
        self._frame, self._history, self._valid = (self._arrays[name] for name in ("frame", "history", "valid"))
        self._head = np.zeros(num_envs, np.int64)
        self._open = np.zeros(num_envs, np.bool_)  # in the middle of an episode
        self._run = np.zeros(num_envs, np.int64)  # transitions since the last end, at most n_step
        self._used = 0  # positions written in at least one ring
        self._num_adds = 0
        self._pieces = Pieces(self._frame.reshape(num_envs, self.slots_per_env, -1))
        self._base = np.arange(num_envs, dtype=np.int64) * self.slots_per_env
        self._discounts = gamma ** np.arange(n_step + 1, dtype=np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when full."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def valid(self) -> np.ndarray:
        """Which slots can be sampled, [capacity], bool; read it only."""
        return self._valid

    def add(
        self,
        frame: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_frame: np.ndarray,
        first: np.ndarray,
        next_first: np.ndarray,
    ) -> Change:
        """Store one step of every environment.

        frame, next_frame: the newest frame acted on and its true successor, [B, *frame_shape].
        action: [B, *action_shape]. reward: [B], float. terminated, truncated: [B], bool.
        first: frame is the first of its episode, [B], bool. next_first: the pool has reset (`TimeStep.first`), [B].
        """
        ended = terminated | truncated
        if np.any(first == self._open):
            raise ValueError("first must be set in the step after next_first (or end_episodes), and only there")
        if np.any(next_first & ~ended):
            raise ValueError("an environment was reset without terminated or truncated")
        slot, next_slot = self._slot(self._head), self._slot(self._head + 1)
        invalid = self._invalidate(slot)
        if first.any():  # elsewhere the slot already holds this frame, as the successor of the step before
            self._frame[slot[first]] = frame.reshape(self.num_envs, -1)[first]
        self._frame[next_slot] = next_frame.reshape(self.num_envs, -1)
        self._history[slot] = np.where(first, 0, self._history[slot])
        self._history[next_slot] = np.minimum(self._history[slot].astype(np.int64) + 1, self.stack_num - 1)
        for name, value in (("action", action), ("reward", reward), ("terminated", terminated), ("ended", ended)):
            self._arrays[name][slot] = value
        self._num_adds += 1
        self._used = max(self._used, min(int(self._head.max()) + 2, self.slots_per_env))
        self._run = np.minimum(self._run + 1, self.n_step)
        valid = self._validate(self._head, ended)
        self._run[ended] = 0
        self._open = ~next_first
        self._head = (self._head + 1 + next_first) % self.slots_per_env  # leaves the final frame's slot behind
        return Change(valid, invalid)

    def end_episodes(self) -> Change:
        """Close every open episode as truncated, for a resume that starts new ones; its successor is already stored."""
        self._arrays["ended"][self._slot(self._head - 1)[self._open]] = True
        valid = self._validate(self._head - 1, self._open)
        self._run[:] = 0
        self._head = (self._head + self._open) % self.slots_per_env
        self._open[:] = False
        return Change(valid, np.empty(0, np.int64))

    def sample(self, batch_size: int) -> Batch:
        """`batch_size` transitions, uniformly and with replacement."""
        return self.gather(self._draw(batch_size), np.ones(batch_size, np.float32))

    def batches(self, num_batches: int, batch_size: int) -> Iterator[Batch]:
        """`num_batches` times what `sample` gives, small transitions gathered for many batches at once."""
        bytes_per_batch = 2 * batch_size * math.prod(self._obs_shape) * self._frame.itemsize
        at_once = max(GATHERED_BYTES // bytes_per_batch, 1)
        for done in range(0, num_batches, at_once):
            count = min(at_once, num_batches - done)
            many = self.sample(count * batch_size)
            for first in range(0, count * batch_size, batch_size):
                yield many.rows(slice(first, first + batch_size)) if count > 1 else many

    def gather(self, index: np.ndarray, weight: np.ndarray) -> Batch:
        """The transitions that start at slots `index` [N] int64, with weights [N] float32."""
        base = index // self.slots_per_env * self.slots_per_env
        window_NS = base[:, None] + (index[:, None] - base[:, None] + np.arange(self.n_step)) % self.slots_per_env
        counted_NS = np.ones(window_NS.shape, np.bool_)  # up to and with the first end
        counted_NS[:, 1:] = ~np.logical_or.accumulate(self._arrays["ended"][window_NS[:, :-1]], axis=1)
        steps = counted_NS.sum(axis=1)
        reward = np.where(counted_NS, self._arrays["reward"][window_NS] * self._discounts[:-1], 0.0).sum(axis=1)
        terminated = (self._arrays["terminated"][window_NS] & counted_NS).any(axis=1)
        discount = np.where(terminated, 0.0, self._discounts[steps])
        obs = self._stack(np.concatenate([index, base + (index - base + steps) % self.slots_per_env]))
        return Batch(
            obs=obs[: len(index)],
            action=self._arrays["action"][index],
            reward=reward.astype(np.float32),
            discount=discount.astype(np.float32),
            next_obs=obs[len(index) :],
            weight=weight,
            index=index,
        )

    def update_priorities(self, index: np.ndarray, td_error: np.ndarray) -> None:
        """Nothing: uniform sampling has no priorities."""

    def state_dict(self) -> dict[str, Any]:
        """The written part of every array [B, used, ...], frames in pieces; counters, the generator.

        Views: save before adding.
        """
        state: dict[str, Any] = {
            name: array.reshape(self.num_envs, self.slots_per_env, *array.shape[1:])[:, : self._used]
            for name, array in self._arrays.items()
            if name != "frame"
        }
        state["frame"] = self._pieces.state_dict(self._head, self._num_adds, self._used)
        state |= {"head": self._head.copy(), "open": self._open.copy(), "run": self._run.copy()}
        state |= {"capacity": self.capacity, "stack_num": self.stack_num, "n_step": self.n_step}
        return state | {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the replay must have been built alike. Follow it with `end_episodes`."""
        for name in ("capacity", "stack_num", "n_step"):
            if int(state[name]) != getattr(self, name):
                raise ValueError(f"the saved replay has {name} {int(state[name])}, this one {getattr(self, name)}")
        self._used = state["valid"].shape[1]
        self._pieces.load_state_dict(state["frame"])
        self._num_adds = int(state["frame"]["adds"])
        for name, array in self._arrays.items():
            if name == "frame":
                continue
            rows = array.reshape(self.num_envs, self.slots_per_env, *array.shape[1:])
            saved = state[name]
            if saved.shape != rows[:, : self._used].shape or saved.dtype != array.dtype:
                raise ValueError(f"the saved replay's {name} is {saved.dtype} {saved.shape}, which does not fit")
            rows[:, : self._used] = saved
            if name == "valid":
                rows[:, self._used :] = False
        self._head[:], self._open[:], self._run[:] = state["head"], state["open"], state["run"]
        self.size = int(self._valid.sum())
        self.generator.bit_generator.state = state["generator"]

    def _slot(self, position: np.ndarray) -> np.ndarray:
        """Slots of positions [B] (taken modulo the ring), [B], int64."""
        return self._base + position % self.slots_per_env

    def _invalidate(self, slot: np.ndarray) -> np.ndarray:
        """Take away whatever needs `slot` [B] or its follower: both are about to be written. Returns slots, int64."""
        distance = np.arange(self.stack_num + 1)
        position = slot - self._base
        reach = self._base[:, None] + (position[:, None] + distance) % self.slots_per_env
        # A stack reaches back `history` slots; the follower, at distance 1, is the nearest that is written.
        lost = reach[self._valid[reach] & (self._history[reach] >= distance - 1)]
        self._valid[lost] = False
        self.size -= len(lost)
        return lost

    def _validate(self, position: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Admit the transitions whose window `position` [B], the newest transition, completes. Returns slots, int64."""
        back = np.arange(self.n_step)
        slot = self._base[:, None] + (position[:, None] - back) % self.slots_per_env
        complete = (back < self._run[:, None]) & (ended[:, None] | (back == self.n_step - 1))
        gained = slot[complete & ~self._valid[slot]]
        self._valid[gained] = True
        self.size += len(gained)
        return gained

    def _draw(self, batch_size: int) -> np.ndarray:
        """Valid slots, uniformly and with replacement, [N], int64."""
        if self.size == 0:
            raise ValueError("the replay holds no complete transition to sample")
        positions = self.num_envs * self._used
        if self.size * 16 < positions:  # rejection would be slow; happens only while almost empty
            return self.generator.choice(np.flatnonzero(self._valid), batch_size)
        accepted = np.empty(0, np.int64)
        while len(accepted) < batch_size:
            draw = self.generator.integers(positions, size=batch_size + 8)
            slot = draw // self._used * self.slots_per_env + draw % self._used
            accepted = np.concatenate([accepted, slot[self._valid[slot]]])
        return accepted[:batch_size]

    def _stack(self, slot: np.ndarray) -> np.ndarray:
        """Stacked frames that end at `slot` [M], oldest first, [M, *obs_shape]."""
        age = np.arange(self.stack_num - 1, -1, -1)
        base = slot // self.slots_per_env * self.slots_per_env
        source = base[:, None] + (slot[:, None] - base[:, None] - age) % self.slots_per_env
        frames = np.take(self._frame, source.ravel(), axis=0)
        frames[(age > self._history[slot][:, None]).ravel()] = 0
        return frames.reshape(len(slot), *self._obs_shape)
