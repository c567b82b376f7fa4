"""Stacks for acting, against a naive history."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rltrain.envs.frame_stack import FrameStack


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=25), st.booleans())
def test_stack_equals_the_last_frames_of_the_episode(stack_num, firsts, pixels):
    """Bugs: frames of the old episode kept, in the wrong order, or padded with the first frame."""
    shape = (2, 3, 3) if pixels else (2,)
    dtype = np.uint8 if pixels else np.float32
    space = spaces.Box(0, 255, shape, dtype)
    stack = FrameStack(2, space, stack_num)
    frames = [
        np.full((2, *shape), 1 + t, dtype) + np.array([0, 100], dtype).reshape(2, *[1] * len(shape))
        for t in range(len(firsts) + 1)
    ]
    histories = [[], []]
    for t, (frame, first) in enumerate(zip(frames, [(True, True), *firsts], strict=True)):
        peeked = stack.peek(frame)
        obs = stack.reset(frame) if t == 0 else stack.push(frame, np.array(first))
        for i in range(2):
            histories[i] = [frame[i]] if first[i] else [*histories[i], frame[i]]
            last = histories[i][-stack_num:]
            expected = np.concatenate([np.zeros(shape, dtype)] * (stack_num - len(last)) + last)
            assert obs.dtype == dtype and (obs[i] == expected).all()
            if not first[i]:
                assert (peeked[i] == expected).all()
        obs[...] = 7  # the caller's own: must not reach the next stack


def test_peek_remembers_nothing():
    """Bug: the true successor at an end shifted into the stack, beside the first frame that follows."""
    stack = FrameStack(1, spaces.Box(0, 255, (1, 2, 2), np.uint8), 3)
    frames = np.arange(1, 4, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    stack.reset(frames[0])
    assert stack.peek(frames[2])[0, :, 0, 0].tolist() == [0, 1, 3]
    assert stack.push(frames[1], np.array([False]))[0, :, 0, 0].tolist() == [0, 1, 2]


def test_discrete_observations():
    """Bug: states of a table turned into floats, or stacked like pictures."""
    stack = FrameStack(3, spaces.Discrete(5), 1)
    obs = stack.reset(np.array([1, 2, 3]))
    assert obs.dtype == np.int64 and obs.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="discrete"):
        FrameStack(3, spaces.Discrete(5), 4)
