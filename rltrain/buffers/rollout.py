"""A fixed-length rollout of on-policy experience, kept in preallocated tensors. Legend: T time, B environments."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rltrain.nn.device import to_device
from rltrain.nn.layout import channels_last


@dataclass(frozen=True)
class Minibatch:
    """Steps of a rollout and what their actions turned out to be worth, N of them."""

    obs: Tensor
    """[N, *obs_shape], the environment's own dtype."""
    action: Tensor
    """[N, *action_shape]."""
    log_prob: Tensor
    """Of the action, under the policy that took it, [N], float32."""
    value: Tensor
    """Of the state, by the network that took the action, [N], float32."""
    advantage: Tensor
    """[N], float32."""
    returns: Tensor
    """What the value should have been, [N], float32."""

    def __len__(self) -> int:
        return len(self.returns)

    def rows(self, rows: slice) -> "Minibatch":
        """Return some of the steps, as views."""
        return Minibatch(**{name: field[rows] for name, field in vars(self).items()})


@dataclass(frozen=True)
class ReturnBatch:
    """Steps and their returns, N of them."""

    obs: Tensor
    """[N, *obs_shape], the environment's own dtype."""
    action: Tensor
    """[N, *action_shape]."""
    returns: Tensor
    """[N], float32."""

    def __len__(self) -> int:
        return len(self.returns)

    def rows(self, rows: slice) -> "ReturnBatch":
        """Return some of the steps, as views."""
        return ReturnBatch(self.obs[rows], self.action[rows], self.returns[rows])


class Rollout:
    """`num_steps` steps of `num_envs` environments; the loop writes row t of each field.

    `discount` and `trace` are the two masks of `rltrain.math.returns`; `next_value` is the value of the true successor.
    """

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: torch.dtype,
        action_shape: tuple[int, ...],
        action_dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_steps, self.num_envs = num_steps, num_envs
        leading = (num_steps, num_envs)
        # Pixels lie as convolutions read them, channels last: the layout is changed once, not by every epoch.
        order = [1, 2, 0] if len(obs_shape) == 3 else list(range(len(obs_shape)))
        stored_shape = [obs_shape[axis] for axis in order]
        self._stored_obs = torch.zeros((num_steps * num_envs, *stored_shape), dtype=obs_dtype, device=device)
        self._to_obs = [0, *(1 + order.index(axis) for axis in range(len(obs_shape)))]
        self.obs = self._stored_obs.permute(self._to_obs).unflatten(0, leading)
        """What the policy saw, [T, B, *obs_shape], the environment's own dtype: pixels stay uint8."""
        self.action = torch.zeros((*leading, *action_shape), dtype=action_dtype, device=device)
        """[T, B, *action_shape]."""
        self.log_prob = torch.zeros(leading, device=device)
        """Of the action, under the policy that took it, [T, B], float32."""
        self.value = torch.zeros(leading, device=device)
        """[T, B], float32."""
        self.reward = torch.zeros(leading, device=device)
        """[T, B], float32."""
        self.discount = torch.zeros(leading, device=device)
        """gamma * (1 - terminated), [T, B], float32."""
        self.trace = torch.zeros(leading, device=device)
        """1 - (terminated | truncated), [T, B], float32."""
        self.next_value = torch.zeros(leading, device=device)
        """Value of the true successor, [T, B], float32."""

    def flat(self, name: str) -> Tensor:
        """The field `name` as [T * B, ...], a view: what the indices of `shuffled` index."""
        field: Tensor = getattr(self, name)
        return field.flatten(0, 1)

    def put_obs(self, t: int, obs: np.ndarray) -> Tensor:
        """Write row t of the observations, [B, *obs_shape]; returns it as the policy sees it."""
        seen = to_device(obs, self.obs.device)
        if obs.ndim == 4 and obs.dtype == np.uint8:
            seen = channels_last(seen)
        self.obs[t] = seen
        return self.obs[t]

    def obs_at(self, index: Tensor) -> Tensor:
        """Observations of the flat rollout at `index` [N] int64, [N, *obs_shape]: a copy that lies as the rollout."""
        return self._stored_obs.index_select(0, index).permute(self._to_obs)

    def shuffled(self, batch_size: int, generator: np.random.Generator) -> Iterator[Tensor]:
        """Yield one epoch: every index in 0..T*B-1 once, int64, `batch_size` at a time; the last may be shorter."""
        index = generator.permutation(self.num_steps * self.num_envs)
        yield from to_device(index, self.obs.device).split(batch_size)

    def minibatch(self, index: Tensor, advantage: Tensor, returns: Tensor) -> Minibatch:
        """Return the steps at `index` [N] of the flat rollout. advantage, returns: of every step, [T, B]."""
        return Minibatch(
            self.obs_at(index),
            self.flat("action")[index],
            self.flat("log_prob")[index],
            self.flat("value")[index],
            advantage.flatten()[index],
            returns.flatten()[index],
        )

    def whole(self, advantage: Tensor, returns: Tensor) -> Minibatch:
        """Return all steps, as views. advantage, returns: of every step, [T, B]."""
        return Minibatch(
            self.flat("obs"),
            self.flat("action"),
            self.flat("log_prob"),
            self.flat("value"),
            advantage.flatten(),
            returns.flatten(),
        )
