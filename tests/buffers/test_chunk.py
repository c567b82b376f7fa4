"""Observations made again from the single frames of a chunk, against those that a policy sees while it acts."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.buffers.chunk import older_frames, stacks, successors
from rltrain.envs.frame_stack import FrameStack


@pytest.mark.parametrize("shape", [(3, 2, 2), (5,), ()], ids=str)
@pytest.mark.parametrize("stack_num", [1, 4])
@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_stacks_are_those_that_were_acted_on(num_steps, stack_num, shape):
    """Bugs: frames of the episode before, of the chunk before left out, of the oldest last; chunks shorter than a
    stack."""
    if not shape and stack_num > 1:
        pytest.skip("discrete states are not stacked")
    rng = np.random.default_rng(0)
    space = spaces.Box(0, 255, shape, np.uint8) if shape else spaces.Discrete(256)
    stack = FrameStack(3, space, stack_num)
    newest = rng.integers(1, 256, (3, *shape)).astype(space.dtype)
    obs, first = stack.reset(newest), np.ones(3, bool)
    num_begun = 0
    for _ in range(200 // num_steps):
        frames, firsts, saw = [*older_frames(obs, stack_num), newest], [first], [obs]
        for _ in range(num_steps):
            newest, first = rng.integers(1, 256, (3, *shape)).astype(space.dtype), rng.random(3) < 0.25
            peeked = stack.peek(newest)
            made = successors(torch.from_numpy(obs), torch.from_numpy(newest))
            assert made.numpy().tobytes() == peeked.tobytes()
            obs = stack.push(newest, first)
            num_begun += int(first.sum())
            for row, value in ((frames, newest), (firsts, first), (saw, obs)):
                row.append(value)
        made = stacks(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(firsts)))
        assert made.shape == np.stack(saw).shape
        assert made.numpy().tobytes() == np.stack(saw).tobytes()
    assert num_begun > 50, "the control: episodes began within stacks"


def test_control_without_the_marks_of_episodes_stacks_are_other_ones():
    frame = torch.arange(1, 7, dtype=torch.uint8).view(6, 1, 1, 1, 1)  # 3 older ones, and 3 rows
    first = torch.tensor([[False], [True], [False]])
    assert stacks(frame, first).flatten(2).tolist() == [[[1, 2, 3, 4]], [[0, 0, 0, 5]], [[0, 0, 5, 6]]]
    assert stacks(frame, first & False).flatten(2).tolist()[1] == [[2, 3, 4, 5]]
