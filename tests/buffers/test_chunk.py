"""Observations made again from the single frames of a chunk, against those that a policy sees while it acts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.buffers.chunk import Chunk, joined, older_frames, stacks, successors
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Episode


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


def random_chunk(num_envs, num_steps=7, stack_num=3, seed=0):
    """A chunk of pictures whose steps end at random; lives are lost in between."""
    rng = np.random.default_rng(seed)

    def frames(*sizes):
        return rng.integers(1, 256, (*sizes, 1, 2, 2), np.uint8)

    kind = np.where(rng.random((num_steps, num_envs)) < 0.4, rng.integers(1, 4, (num_steps, num_envs)), 0)
    first = np.concatenate([rng.random((1, num_envs)) < 0.5, kind >= 2])
    return Chunk(
        version=5,
        first_env=0,
        frame=frames(stack_num + num_steps, num_envs),
        first=first,
        action=rng.integers(0, 4, (num_steps, num_envs)),
        log_prob=rng.random((num_steps, num_envs), np.float32),
        reward=rng.random((num_steps, num_envs), np.float32),
        terminated=(kind == 1) | (kind == 2),
        truncated=kind == 3,
        last_frame=frames(int((kind == 3).sum())),
        episodes=[
            [Episode(env, 1.0, step, step) for env in np.flatnonzero(kind[step] >= 2)] for step in range(num_steps)
        ],
        env_s=1.5,
    )


def part(chunk, envs, first_env, version):
    """The chunk of a player with some of the environments."""
    sides = ("frame", "first", "action", "log_prob", "reward", "terminated", "truncated")
    inside = np.isin(np.nonzero(chunk.truncated)[1], np.arange(chunk.num_envs)[envs])
    episodes = [[each for each in step if each.env_index in range(chunk.num_envs)[envs]] for step in chunk.episodes]
    cut = {name: getattr(chunk, name)[:, envs] for name in sides}
    return replace(
        chunk,
        **cut,
        last_frame=chunk.last_frame[inside],
        episodes=episodes,
        first_env=first_env,
        version=version,
        env_s=0.5,
    )


def test_joined_chunks_are_the_chunk_of_one_player():
    """Bug: successors of truncated steps player by player, and not in the order of their places."""
    whole = random_chunk(6)
    parts = [part(whole, slice(first, end), first, 9 - first) for first, end in ((0, 1), (1, 4), (4, 6))]
    found = joined(parts)
    assert len(whole.last_frame) > 4
    for name, value in vars(whole).items():
        if isinstance(value, np.ndarray):
            assert getattr(found, name).tobytes() == value.tobytes(), name
    assert (found.version, found.first_env, found.env_s) == (5, 0, 1.5) and found.episodes == whole.episodes
    assert joined(parts[:1]) is parts[0]


def test_the_transitions_of_a_chunk_are_the_steps_that_were_made():
    """Bugs: the older frames of a stack taken for steps; the first frame after a time limit as the successor."""
    chunk = random_chunk(3)
    ends = iter(chunk.last_frame)
    steps = list(chunk.transitions())
    assert len(steps) == 7
    for t, step in enumerate(steps):
        assert (step.frame == chunk.frame[2 + t]).all() and (step.first == chunk.first[t]).all()
        assert (step.next_first == chunk.first[t + 1]).all() and (step.action == chunk.action[t]).all()
        for env in range(3):
            expected = next(ends) if chunk.truncated[t, env] else chunk.frame[3 + t, env]
            assert (step.next_frame[env] == expected).all()
