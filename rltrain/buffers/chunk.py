"""Chunks: T steps of B environments as a player sends them, and as a learner reads them.

Legend: T steps, B environments, K frames of a stack, C channels (or numbers) of a frame, N truncated steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rltrain.buffers.batch import Transition
from rltrain.envs.pool import Episode


@dataclass(frozen=True)
class Chunk:
    """T steps of B environments. Each frame is stored once: `stacks` makes the observations again."""

    version: int
    """The number of updates of the policy that acted. Of several joined chunks, the oldest."""
    first_env: int
    """The number of the first environment, over all players."""
    frame: np.ndarray
    """[K - 1 + T + 1, B, *frame_shape]: the older frames of the first stack, those of the T steps, and the newest."""
    first: np.ndarray
    """True if the frame is the first after a reset, [T + 1, B], bool, without the older frames."""
    action: np.ndarray
    """[T, B, *action_shape]."""
    log_prob: np.ndarray
    """Log-probability of the action under the policy that acted, [T, B], float32."""
    reward: np.ndarray
    """The pool's reward, neither scaled nor clipped, [T, B], float32."""
    terminated: np.ndarray
    """[T, B], bool."""
    truncated: np.ndarray
    """[T, B], bool."""
    last_frame: np.ndarray
    """The true successors of the truncated steps, in the order of their places in [T, B], [N, *frame_shape]."""
    episodes: list[list[Episode]]
    """The episodes that ended in each of the T steps."""
    env_s: float
    """Seconds that the environments took."""

    @property
    def num_steps(self) -> int:
        """T, the steps of each environment."""
        return len(self.action)

    @property
    def num_envs(self) -> int:
        """B, the environments."""
        return self.action.shape[1]

    def transitions(self) -> Iterator[Transition]:
        """Yield the steps in order.

        A chunk does not hold the last frame of an episode that terminated. Its place is taken by the first frame of the
        next episode, which changes nothing: the value of what follows a terminated step counts 0.
        """
        frame = self.frame[len(self.frame) - len(self.first) :]
        next_frame = frame[1:].copy()
        next_frame[self.truncated] = self.last_frame
        steps = zip(
            frame,
            self.action,
            self.reward,
            self.terminated,
            self.truncated,
            next_frame,
            self.first,
            self.first[1:],
            strict=False,  # frame and first have one row more than there are steps
        )
        return map(Transition._make, steps)


def joined(chunks: list[Chunk]) -> Chunk:
    """Join chunks of equally many steps, side by side, into the chunk of one player with all of their environments."""
    if len(chunks) == 1:
        return chunks[0]
    sides = ("frame", "first", "action", "log_prob", "reward", "terminated", "truncated")
    # The rows of last_frame are in the order of their places in [T, B], over all chunks.
    owner = np.repeat(np.arange(len(chunks)), [chunk.num_envs for chunk in chunks])
    _, env = np.nonzero(np.concatenate([chunk.truncated for chunk in chunks], axis=1))
    one_by_one = np.concatenate([chunk.last_frame for chunk in chunks])
    last_frame = np.empty_like(one_by_one)
    last_frame[np.argsort(owner[env], kind="stable")] = one_by_one
    parts = zip(*(chunk.episodes for chunk in chunks), strict=True)
    return Chunk(
        version=min(chunk.version for chunk in chunks),
        first_env=chunks[0].first_env,
        last_frame=last_frame,
        episodes=[[each for part in step for each in part] for step in parts],
        env_s=sum(chunk.env_s for chunk in chunks),
        **{name: np.concatenate([getattr(chunk, name) for chunk in chunks], axis=1) for name in sides},
    )


def older_frames(obs: np.ndarray, stack_num: int) -> list[np.ndarray]:
    """Return the frames of stacked observations but for the newest, oldest first, each [B, *frame_shape].

    obs: [B, K * C, ...], or [B] for discrete states, which are not stacked.
    """
    return np.split(obs, stack_num, axis=1)[:-1] if stack_num > 1 else []


def stacks(frame: Tensor, first: Tensor) -> Tensor:
    """Return the observations that were acted on, and the last one, [T + 1, B, K * C, ...], oldest frame first.

    Frames before an episode's first are 0. frame, first: those of a chunk. Discrete states are not stacked, [T + 1, B].
    """
    num_rows = len(first)
    stack_num = len(frame) - num_rows + 1
    if stack_num == 1:
        return frame
    obs = torch.cat([frame[slot : slot + num_rows] for slot in range(stack_num)], dim=2)
    slots = obs.unflatten(2, (stack_num, -1))
    began = torch.zeros_like(first)  # in one of the last `age` rows
    for age in range(1, stack_num):
        began[age - 1 :] |= first[: max(0, num_rows - age + 1)]
        older = slots[:, :, -1 - age]
        older.masked_fill_(began.view(*began.shape, *[1] * (older.dim() - 2)), 0)
    return obs


def successors(obs: Tensor, frame: Tensor) -> Tensor:
    """Return observations with the newest frame added and the oldest dropped, [N, K * C, ...].

    obs: [N, K * C, ...]. frame: [N, C, ...]. Discrete states are not stacked, both [N].
    """
    return frame if obs.shape == frame.shape else torch.cat([obs[:, frame.shape[1] :], frame], dim=1)


@dataclass(frozen=True)
class Trajectories:
    """T steps of B environments on the learner's device. A sample is the trajectory of one environment."""

    obs: Tensor
    """[T + 1, B, *obs_shape], the environment's own dtype. The last row was not acted on yet."""
    action: Tensor
    """[T, B, *action_shape]."""
    log_prob: Tensor
    """Log-probability of the action under the policy that acted, [T, B], float32."""
    reward: Tensor
    """Scaled and clipped, [T, B], float32."""
    discount: Tensor
    """gamma * (1 - terminated), [T, B], float32."""
    trace: Tensor
    """1 - (terminated | truncated), [T, B], float32."""
    cut_value: Tensor
    """Value of the true successors of truncated steps, elsewhere 0, [T, B], float32."""

    def __len__(self) -> int:
        return self.action.shape[1]

    def rows(self, rows: slice) -> "Trajectories":
        """Return some of the environments, as views."""
        return Trajectories(**{field.name: getattr(self, field.name)[:, rows] for field in fields(self)})
