"""A replay that is too simple to be wrong, and a counter game to feed both: every frame is a number of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rltrain.buffers.batch import Transition
from rltrain.buffers.frames import Frames, HostFrames
from rltrain.buffers.pieces import Piece
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.buffers.replay import Replay


@dataclass
class NaiveTransition:
    """One step with everything spelled out; stacks are oldest first."""

    slot: int
    """How many slots its environment had written before it."""
    stack: list[int]
    history: int
    reward: float
    terminated: bool
    ended: bool
    next_stack: list[int]


@dataclass
class NaiveEnv:
    """One environment: the frames of its running game, and every transition of the past."""

    game: list[int] = field(default_factory=list)
    past: list[NaiveTransition] = field(default_factory=list)
    next_slot: int = 0


class Feeder:
    """Plays a random counter game into a replay and keeps the naive record beside it. Actions number the steps."""

    def __init__(
        self, replay: Replay | PrioritizedReplay, stack_num: int, n_step: int, gamma: float, seed: int
    ) -> None:
        self.replay, self.inner = replay, replay if isinstance(replay, Replay) else replay.replay
        self.stack_num, self.n_step, self.gamma = stack_num, n_step, gamma
        self.random = np.random.default_rng(seed)
        self.envs = [NaiveEnv() for _ in range(self.inner.num_envs)]
        self.frame = np.arange(1, len(self.envs) + 1)
        self.num_frames = len(self.envs)
        self.first = np.ones(len(self.envs), np.bool_)

    def stack(self, game: list[int]) -> list[int]:
        return ([0] * self.stack_num + game)[-self.stack_num :]

    def step(self, end_rate: float) -> None:
        """One step; a third each of the ends are lost lives, terminations and truncations."""
        num_envs = len(self.envs)
        kind = np.where(self.random.random(num_envs) < end_rate, self.random.integers(1, 4, num_envs), 0)
        next_frame = self.num_frames + 1 + np.arange(num_envs)
        self.num_frames += num_envs
        reward = self.random.integers(-3, 4, num_envs).astype(np.float32)
        terminated, truncated, next_first = (kind == 1) | (kind == 2), kind == 3, kind >= 2
        number = np.array([len(env.past) for env in self.envs])
        frame, newest = self.frame.reshape(-1, 1, 1, 1), next_frame.reshape(-1, 1, 1, 1)
        self.replay.add(Transition(frame, number, reward, terminated, truncated, newest, self.first, next_first))
        for i, env in enumerate(self.envs):
            if self.first[i]:
                env.game = [int(self.frame[i])]
            stack, history = self.stack(env.game), min(len(env.game), self.stack_num) - 1
            env.game.append(int(next_frame[i]))
            ended, next_stack = bool(kind[i]), self.stack(env.game)
            arguments = (stack, history, float(reward[i]), bool(terminated[i]), ended, next_stack)
            env.past.append(NaiveTransition(env.next_slot, *arguments))
            env.next_slot += 1 + int(next_first[i])
        new = self.num_frames + 1 + np.arange(num_envs)
        self.num_frames += num_envs
        self.frame, self.first = np.where(next_first, new, next_frame), next_first

    def end_episodes(self) -> None:
        """What a resume does: open episodes are cut, every environment begins anew."""
        self.replay.end_episodes()
        for i, env in enumerate(self.envs):
            if not self.first[i]:
                env.past[-1].ended = True
                env.next_slot += 1
        self.first[:] = True

    def check(self) -> int:
        """Compare all that can be sampled with the naive record. Returns how many transitions that were."""
        slots = np.flatnonzero(self.inner.valid)
        assert self.replay.size == len(slots)
        batch = self.inner.gather(slots, np.ones(len(slots), np.float32))
        found = list(zip((slots // self.inner.slots_per_env).tolist(), batch.action.tolist(), strict=True))
        assert set(found) == self.expected() and len(set(found)) == len(found)
        for row, (i, number) in enumerate(found):
            transition = self.envs[i].past[number]
            assert slots[row] == i * self.inner.slots_per_env + transition.slot % self.inner.slots_per_env
            total, discount = 0.0, 1.0
            for last in self.envs[i].past[number : number + self.n_step]:
                total, discount = total + discount * last.reward, discount * self.gamma
                if last.ended:
                    break
            assert batch.obs[row].ravel().tolist() == transition.stack
            assert batch.next_obs[row].ravel().tolist() == last.next_stack
            np.testing.assert_allclose(batch.reward[row], total, atol=1e-5)
            np.testing.assert_allclose(batch.discount[row], 0.0 if last.terminated else discount, rtol=1e-6)
        return len(found)

    def expected(self) -> set[tuple[int, int]]:
        """(environment, number) of all transitions with a whole window and a whole stack still in the ring."""
        expected = set()
        for i, env in enumerate(self.envs):
            newest = env.next_slot - int(self.first[i])  # the newest frame's slot
            oldest = newest - self.inner.slots_per_env + 1
            for number, transition in enumerate(env.past):
                window = env.past[number : number + self.n_step]
                whole = len(window) == self.n_step or any(later.ended for later in window)
                if whole and transition.slot - transition.history >= oldest:
                    expected.add((i, number))
        return expected


def build(
    num_envs: int,
    slots: int,
    stack_num: int,
    n_step: int,
    gamma: float = 0.9,
    seed: int = 0,
    make_frames: Callable[..., Frames] = HostFrames,
) -> Replay:
    """A replay of one-pixel frames wide enough to number them."""
    capacity, rng = num_envs * slots, np.random.default_rng(seed)
    shapes = (1, 1, 1), np.int64, (), np.int64
    return Replay(capacity, num_envs, *shapes, stack_num, n_step, gamma, rng, make_frames)


def loaded(state):
    """A replay's state as a checkpoint gives it back: pieces of frames are arrays."""
    frames = {key: value.array() if isinstance(value, Piece) else value for key, value in state["frame"].items()}
    return state | {"frame": frames}
