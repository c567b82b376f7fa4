"""Uniform experience replay (Lin 1992; Mnih et al. 2015) that stores each frame once.

Each environment has its own ring of slots. A slot holds one frame and the transition that starts with it. Sampling
builds the frame stacks and the n-step returns (Sutton & Barto 2018, eq. 7.1).

The slot at the write head already holds the successor frame of the last transition. The next transition uses this
slot. If the episode has ended, the slot keeps the true final frame, starts no transition, and the head moves on: the
end of an episode costs one slot. A lost life does not end the game, so the next transition uses the slot, and its frame
stack contains frames from before the lost life.

Legend: B environments, N sampled transitions, K frames of a stack, S steps of the n-step window,
slot = env * slots_per_env + position.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from rltrain.buffers.batch import Batch, Change, Transition
from rltrain.buffers.frames import Frames, HostFrames
from rltrain.buffers.pieces import Pieces, pieces_in

if TYPE_CHECKING:
    from torch import Tensor

FRAME_OVERHEAD_BYTES = 4 + 1 + 1 + 1 + 1
"""Bytes of a slot besides frame and action: reward, terminated, ended, history, valid."""

GATHERED_BYTES = 1 << 20
"""The approximate size of the observations that `batches` gathers at once."""


def bytes_per_transition(
    frame_shape: tuple[int, ...], frame_dtype: DTypeLike, action_shape: tuple[int, ...], action_dtype: DTypeLike
) -> int:
    """Return the bytes of one slot. An episode takes one slot more than it has transitions."""
    frame_bytes = math.prod(frame_shape) * np.dtype(frame_dtype).itemsize
    return frame_bytes + math.prod(action_shape) * np.dtype(action_dtype).itemsize + FRAME_OVERHEAD_BYTES


class Replay:
    """A replay buffer with uniform sampling. It holds `capacity` slots for all environments together."""

    beta: float = 1.0
    """Ignored. It exists because DQN anneals the `beta` of either replay buffer."""

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
        make_frames: Callable[[int, int, DTypeLike], Frames] = HostFrames,
        num_actions: int | None = None,
        num_states: int | None = None,
    ) -> None:
        """capacity: slots of all environments together, rounded down to a multiple of `num_envs`.

        make_frames: makes the storage of the frames from the number of slots, the numbers of a frame and their dtype.
        num_actions, num_states: the actions, and the frames that are states, of a restored replay must lie below; None:
        any may be. Raises ValueError for a capacity that is too small.
        """
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
        self._num_actions, self._num_states = num_actions, num_states
        self.size = 0
        """The number of transitions that can be sampled. Those with an incomplete n-step window do not count."""
        if frame_shape:
            self._obs_shape: tuple[int, ...] = (stack_num * frame_shape[0], *frame_shape[1:])
        else:
            self._obs_shape = () if stack_num == 1 else (stack_num,)
        self._frames = make_frames(self.capacity, math.prod(frame_shape), frame_dtype)
        self._arrays: dict[str, np.ndarray] = {
            "action": np.zeros((self.capacity, *action_shape), action_dtype),
            "reward": np.zeros(self.capacity, np.float32),
            "terminated": np.zeros(self.capacity, np.bool_),
            "ended": np.zeros(self.capacity, np.bool_),
            "history": np.zeros(self.capacity, np.uint8),  # earlier frames in the slot's stack, at most stack_num - 1
            "valid": np.zeros(self.capacity, np.bool_),
        }
        self._history, self._valid = self._arrays["history"], self._arrays["valid"]
        self._action, self._reward = self._arrays["action"], self._arrays["reward"]
        self._terminated, self._ended = self._arrays["terminated"], self._arrays["ended"]
        self._head = [0] * num_envs
        self._open = [False] * num_envs  # true in the middle of an episode
        self._since_end = [0] * num_envs  # transitions since the last end, at most n_step; checkpoints call it `run`
        self._used = 0  # positions that were written in at least one ring
        self._num_adds = 0
        self._pieces = Pieces(self._frames.rows.reshape(num_envs, self.slots_per_env, -1))
        self._discounts = gamma ** np.arange(n_step + 1, dtype=np.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of a full buffer."""
        return self._frames.nbytes + sum(array.nbytes for array in self._arrays.values())

    @property
    def valid(self) -> np.ndarray:
        """True for slots that can be sampled, [capacity], bool. Do not write to it."""
        return self._valid

    def add(self, step: Transition, first_env: int = 0) -> Change:
        """Store one step of every environment, or of those from number `first_env` on.

        Raises ValueError if the flags of the steps contradict each other.
        """
        # A Python loop over environments: for a single environment, the usual case, it is faster than NumPy calls.
        firsts, next_firsts = step.first.tolist(), step.next_first.tolist()
        cuts = (step.terminated | step.truncated).tolist()
        is_opens = self._open[first_env : first_env + len(cuts)]
        for is_first, next_is_first, cut, is_open in zip(firsts, next_firsts, cuts, is_opens, strict=True):
            if is_first == is_open:
                raise ValueError("first must be true after a step with next_first (or end_episodes), and only there")
            if next_is_first and not cut:
                raise ValueError("an environment was reset without terminated or truncated")
        frame, next_frame = step.frame.reshape(len(cuts), -1), step.next_frame.reshape(len(cuts), -1)
        action, reward, terminated = step.action, step.reward, step.terminated
        lost: list[int] = []
        gained: list[int] = []
        for row, ended in enumerate(cuts):
            env = first_env + row
            base, position = env * self.slots_per_env, self._head[env]
            slot, next_slot = base + position, base + (position + 1) % self.slots_per_env
            self._invalidate(base, position, lost)
            if firsts[row]:  # otherwise the slot already holds this frame, the successor of the last step
                self._frames.write(slot, frame[row])
                self._history[slot] = 0
            self._frames.write(next_slot, next_frame[row])
            self._history[next_slot] = min(int(self._history[slot]) + 1, self.stack_num - 1)
            self._action[slot], self._reward[slot] = action[row], reward[row]
            self._terminated[slot], self._ended[slot] = terminated[row], ended
            self._used = max(self._used, min(position + 2, self.slots_per_env))
            self._since_end[env] = min(self._since_end[env] + 1, self.n_step)
            self._validate(env, position, ended, gained)
            if ended:
                self._since_end[env] = 0
            self._open[env] = not next_firsts[row]
            # After a reset the slot of the final frame starts no transition.
            self._head[env] = (position + 1 + next_firsts[row]) % self.slots_per_env
        self._num_adds += 1
        return Change(np.array(gained, np.int64), np.array(lost, np.int64))

    def end_episodes(self, envs: Iterable[int] | None = None) -> Change:
        """Truncate the open episodes of some environments, or of all, because they start new ones.

        That happens in a resumed run, and if an actor is replaced. The final frames are stored already.
        """
        gained: list[int] = []
        for env in range(self.num_envs) if envs is None else envs:
            if self._open[env]:
                position = (self._head[env] - 1) % self.slots_per_env
                self._ended[env * self.slots_per_env + position] = True
                self._validate(env, position, True, gained)
                self._head[env] = (self._head[env] + 1) % self.slots_per_env
            self._since_end[env], self._open[env] = 0, False
        return Change(np.array(gained, np.int64), np.empty(0, np.int64))

    def sample(self, batch_size: int) -> Batch:
        """Sample `batch_size` transitions uniformly and with replacement. Raises ValueError if there are none."""
        return self.gather(self._draw(batch_size), np.ones(batch_size, np.float32))

    def batches(self, num_batches: int, batch_size: int) -> Iterator[Batch]:
        """Yield `num_batches` minibatches as from `sample`. Small observations are gathered for several at once."""
        bytes_per_batch = 2 * batch_size * math.prod(self._obs_shape) * self._frames.rows.itemsize
        at_once = max(GATHERED_BYTES // bytes_per_batch, 1)
        for done in range(0, num_batches, at_once):
            count = min(at_once, num_batches - done)
            many = self.sample(count * batch_size)
            for first in range(0, count * batch_size, batch_size):
                yield many.rows(slice(first, first + batch_size)) if count > 1 else many

    def gather(self, index: np.ndarray, weight: np.ndarray) -> Batch:
        """Return the transitions that start at slots `index` [N] int64, with importance weights [N] float32."""
        base = index // self.slots_per_env * self.slots_per_env
        window_NS = base[:, None] + (index[:, None] - base[:, None] + np.arange(self.n_step)) % self.slots_per_env
        counted_NS = np.ones(window_NS.shape, np.bool_)  # true up to the first end of an episode or life, inclusive
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

    def update_priorities(self, index: np.ndarray, td_error: "Tensor") -> None:
        """Do nothing: uniform sampling has no priorities. td_error is not read, as this could wait for the device."""

    def state_dict(self) -> dict[str, Any]:
        """Return the written part of each array, [B, used, ...], the frames in pieces, the counters and the generator.

        The arrays are views, so save them before the next `add`.
        """
        state: dict[str, Any] = {
            name: array.reshape(self.num_envs, self.slots_per_env, *array.shape[1:])[:, : self._used]
            for name, array in self._arrays.items()
        }
        self._frames.flush()
        head, since_end = np.array(self._head, np.int64), np.array(self._since_end, np.int64)
        state["frame"] = self._pieces.state_dict(head, self._num_adds, self._used)
        state |= {"head": head, "open": np.array(self._open, np.bool_), "run": since_end}
        state |= {"capacity": self.capacity, "stack_num": self.stack_num, "n_step": self.n_step}
        return state | {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned. The replay buffer must have the same sizes; else ValueError.

        Call `end_episodes` afterwards if the environments start new episodes.
        """
        for name in ("capacity", "stack_num", "n_step"):
            if int(state[name]) != getattr(self, name):
                raise ValueError(f"the saved replay has {name} {int(state[name])}, this one {getattr(self, name)}")
        used, num_adds = int(state["frame"]["used"]), int(state["frame"]["adds"])
        if used != state["valid"].shape[1] or not 0 <= used <= self.slots_per_env or not 0 <= num_adds < 2**62:
            raise ValueError(f"the saved replay has {used} used slots and {num_adds} additions")
        limits = {"head": self.slots_per_env, "open": 2, "run": self.n_step + 1}
        for name, limit in limits.items():  # they index memory
            saved = state[name]
            if saved.shape != (self.num_envs,) or saved.dtype.kind not in "bi":
                raise ValueError(f"the saved replay's {name} is {saved.dtype} {saved.shape}, which does not fit")
            if (saved < 0).any() or (saved >= limit).any():
                raise ValueError(f"the saved replay's {name} is outside 0..{limit - 1}")
        if (state["history"] >= self.stack_num).any():
            raise ValueError(f"the saved replay's history is outside 0..{self.stack_num - 1}")
        self._check_range("action", state["action"], self._num_actions)
        for piece in pieces_in(state["frame"]):
            self._check_range("frame", piece, self._num_states)
        self._used = used
        self._frames.flush()
        self._pieces.load_state_dict(state["frame"])
        self._num_adds = int(state["frame"]["adds"])
        for name, array in self._arrays.items():
            rows = array.reshape(self.num_envs, self.slots_per_env, *array.shape[1:])
            saved = state[name]
            if saved.shape != rows[:, : self._used].shape or saved.dtype != array.dtype:
                raise ValueError(f"the saved replay's {name} is {saved.dtype} {saved.shape}, which does not fit")
            rows[:, : self._used] = saved
            if name == "valid":
                rows[:, self._used :] = False
        self._head, self._open, self._since_end = (state[name].tolist() for name in ("head", "open", "run"))
        self.size = int(self._valid.sum())
        self.generator.bit_generator.state = state["generator"]

    def _check_range(self, name: str, saved: np.ndarray, limit: int | None) -> None:
        """Raise ValueError for numbers that would index what a network does not have."""
        if limit is not None and ((saved < 0) | (saved >= limit)).any():
            raise ValueError(f"the saved replay's {name} is outside 0..{limit - 1}")

    def _invalidate(self, base: int, position: int, lost: list[int]) -> None:
        """Make transitions invalid that need the slot at `position` or the next one, as both will be overwritten."""
        # The stack of a slot contains the `history` slots before it. Of the two, the next slot (distance 1) is nearer.
        for distance in range(self.stack_num + 1):
            slot = base + (position + distance) % self.slots_per_env
            if self._valid[slot] and self._history[slot] >= distance - 1:
                self._valid[slot] = False
                self.size -= 1
                lost.append(slot)

    def _validate(self, env: int, position: int, ended: bool, gained: list[int]) -> None:
        """Make transitions valid whose n-step window is complete with the newest transition, at `position`."""
        base = env * self.slots_per_env
        for back in range(0 if ended else self.n_step - 1, self._since_end[env]):
            slot = base + (position - back) % self.slots_per_env
            if not self._valid[slot]:
                self._valid[slot] = True
                self.size += 1
                gained.append(slot)

    def _draw(self, batch_size: int) -> np.ndarray:
        """Sample valid slots uniformly and with replacement, [N], int64."""
        if self.size == 0:
            raise ValueError("the replay buffer has no complete transition to sample")
        positions = self.num_envs * self._used
        if self.size * 16 < positions:  # few slots are valid, as in a new buffer: rejection sampling would be slow
            return self.generator.choice(np.flatnonzero(self._valid), batch_size)
        accepted = np.empty(0, np.int64)
        while len(accepted) < batch_size:
            draw = self.generator.integers(positions, size=batch_size + 8)
            slot = draw // self._used * self.slots_per_env + draw % self._used
            accepted = np.concatenate([accepted, slot[self._valid[slot]]])
        return accepted[:batch_size]

    def _stack(self, slot: np.ndarray) -> "np.ndarray | Tensor":
        """Return the stacks whose newest frames are at `slot` [M]: oldest frame first, [M, *obs_shape]."""
        age = np.arange(self.stack_num - 1, -1, -1)
        base = slot // self.slots_per_env * self.slots_per_env
        source = base[:, None] + (slot[:, None] - base[:, None] - age) % self.slots_per_env
        frames = self._frames.stacks(source, age > self._history[slot][:, None])
        return frames.reshape(len(slot), *self._obs_shape)
