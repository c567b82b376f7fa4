"""What a policy sees while it acts, against what a replay gives back of the same steps to learn from."""

import numpy as np
import pytest
from gymnasium import spaces

from rltrain.buffers.batch import Transition
from rltrain.buffers.replay import Replay
from rltrain.envs.pool import TimeStep
from rltrain.envs.stepper import Stepper


class Numbers:
    """A pool whose every frame is a number of its own; games end at random, and lives are lost in between."""

    def __init__(self, num_envs: int, stack_num: int) -> None:
        self.num_envs, self.stack_num = num_envs, stack_num
        self.frame_space = spaces.Box(0, 10**6, (1, 1, 1), np.int64)
        self.random, self.num_frames = np.random.default_rng(0), 0

    def reset(self, seed):
        return self._frames()

    def step(self, action):
        kind = np.where(self.random.random(self.num_envs) < 0.3, self.random.integers(1, 4, self.num_envs), 0)
        next_obs, begun = self._frames(), self._frames()
        first = kind >= 2
        obs = np.where(first[:, None, None, None], begun, next_obs)
        return TimeStep(obs, next_obs, np.zeros(self.num_envs, np.float32), (kind == 1) | (kind == 2), kind == 3, first)

    def _frames(self):
        self.num_frames += self.num_envs
        return self.num_frames - np.arange(self.num_envs).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("stack_num", [1, 4])
def test_what_is_learned_from_is_what_the_policy_saw(stack_num):
    """Bugs: stacks that restart at a lost life in one of the two; the true successor's stack begun anew."""
    pool, num_steps = Numbers(3, stack_num), 200
    envs = Stepper(pool, 0)
    replay = Replay(3 * 500, 3, (1, 1, 1), np.int64, (), np.int64, stack_num, 1, 0.9, np.random.default_rng(0))
    saw, successors, lives = [], {}, 0
    for number in range(num_steps):
        saw.append(envs.obs)
        frame, first = envs.frame, envs.first
        step, next_obs = envs.step(np.zeros(3, np.int64))
        assert (next_obs is None) == (not step.truncated.any())
        for i in range(3):
            if not step.first[i]:
                successors[i, number] = envs.obs[i]
            elif step.truncated[i]:
                successors[i, number] = next_obs[i]
        lives += int((step.terminated & ~step.first).sum())
        action = np.full(3, number)
        replay.add(
            Transition(frame, action, step.reward, step.terminated, step.truncated, step.next_obs, first, step.first)
        )
    slots = np.flatnonzero(replay.valid)
    batch = replay.gather(slots, np.ones(len(slots), np.float32))
    assert len(slots) == 3 * num_steps
    for i, number, obs, next_obs in zip(slots // 500, batch.action, batch.obs, batch.next_obs, strict=True):
        assert (obs == saw[number][i]).all()
        if (i, number) in successors:
            assert (next_obs == successors[i, number]).all()
    assert lives > 20, "the control: lives were lost in the middle of games"
