"""A fixed-length rollout in preallocated tensors. Legend: T time, B environments, N steps of a minibatch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rltrain.nn.device import to_device
from rltrain.nn.layout import channels_last
from rltrain.runtime.share import Share


@dataclass(frozen=True)
class Minibatch:
    """N steps of a rollout, with advantages and returns."""

    obs: Tensor
    """[N, *obs_shape], the environment's own dtype."""
    action: Tensor
    """[N, *action_shape]."""
    log_prob: Tensor
    """Log-probability of the action under the policy that took it, [N], float32."""
    value: Tensor
    """Value of the state, by the network that took the action, [N], float32."""
    advantage: Tensor
    """[N], float32."""
    returns: Tensor
    """Targets of the value, [N], float32."""

    def __len__(self) -> int:
        return len(self.returns)

    def rows(self, rows: slice) -> "Minibatch":
        """Return a slice of the steps, as views."""
        return Minibatch(**{name: field[rows] for name, field in vars(self).items()})


@dataclass(frozen=True)
class ReturnBatch:
    """N steps with their returns."""

    obs: Tensor
    """[N, *obs_shape], the environment's own dtype."""
    action: Tensor
    """[N, *action_shape]."""
    returns: Tensor
    """[N], float32."""

    def __len__(self) -> int:
        return len(self.returns)

    def rows(self, rows: slice) -> "ReturnBatch":
        """Return a slice of the steps, as views."""
        return ReturnBatch(self.obs[rows], self.action[rows], self.returns[rows])


class Rollout:
    """`num_steps` steps of `num_envs` environments. `Collector.collect` fills it.

    `discount` and `trace` are the two masks of `rltrain.math.returns`.
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
        # Pixels are stored channels last, as convolutions read them, so that no epoch has to convert them again.
        order = [1, 2, 0] if len(obs_shape) == 3 else list(range(len(obs_shape)))
        stored_shape = [obs_shape[axis] for axis in order]
        self._stored_obs = torch.zeros((num_steps * num_envs, *stored_shape), dtype=obs_dtype, device=device)
        self._to_obs = [0, *(1 + order.index(axis) for axis in range(len(obs_shape)))]
        self.obs = self._stored_obs.permute(self._to_obs).unflatten(0, leading)
        """Observations, [T, B, *obs_shape], the environment's own dtype; pixels are uint8."""
        self.action = torch.zeros((*leading, *action_shape), dtype=action_dtype, device=device)
        """[T, B, *action_shape]."""
        self.log_prob = torch.zeros(leading, device=device)
        """Log-probability of the action under the policy that took it, [T, B], float32."""
        self.value = torch.zeros(leading, device=device)
        """Value of the observation, [T, B], float32."""
        self.reward = torch.zeros(leading, device=device)
        """Scaled and clipped rewards, [T, B], float32."""
        self.discount = torch.zeros(leading, device=device)
        """gamma * (1 - terminated), [T, B], float32."""
        self.trace = torch.zeros(leading, device=device)
        """1 - (terminated | truncated), [T, B], float32."""
        self.next_value = torch.zeros(leading, device=device)
        """Value of the true successor (not of the observation after a reset), [T, B], float32."""

    def flat(self, name: str) -> Tensor:
        """Return the field `name` as a view [T * B, ...]. The indices of `shuffled` refer to it."""
        field: Tensor = getattr(self, name)
        return field.flatten(0, 1)

    def put_obs(self, t: int, obs: np.ndarray) -> Tensor:
        """Write row t of the observations, [B, *obs_shape]. Return the row as a tensor on the device."""
        row = to_device(obs, self.obs.device)
        if obs.ndim == 4 and obs.dtype == np.uint8:
            row = channels_last(row)
        self.obs[t] = row
        return self.obs[t]

    def obs_at(self, index: Tensor) -> Tensor:
        """Return the flat rollout's observations at `index` [N] int64, [N, *obs_shape]: a copy in its memory layout."""
        return self._stored_obs.index_select(0, index).permute(self._to_obs)

    def shuffled(self, batch_size: int, generator: np.random.Generator) -> Iterator[Tensor]:
        """Yield each index in 0..T*B-1 once, shuffled, int64, in tensors of `batch_size`. The last may be shorter."""
        index = generator.permutation(self.num_steps * self.num_envs)
        yield from to_device(index, self.obs.device).split(batch_size)

    def shuffled_by_environment(
        self, batch_size: int, generator: np.random.Generator, share: Share
    ) -> Iterator[Tensor]:
        """Yield each index in 0..T*B-1 once, shuffled, int64, in tensors of this process' rows of a minibatch.

        The rollout has the environments of `share`. A minibatch has batch_size / total rows of each environment, at
        times of its own. Every process draws for all environments, so the minibatches do not depend on the number of
        processes. batch_size must be a multiple of the number of environments.
        """
        each = batch_size // share.total
        assert each * share.total == batch_size, "batch_size is no multiple of the number of environments"
        times = np.tile(np.arange(self.num_steps), (share.total, 1))
        generator.permuted(times, axis=1, out=times)
        index = times[share.rows].T * self.num_envs + np.arange(self.num_envs)
        yield from to_device(np.ascontiguousarray(index).reshape(-1), self.obs.device).split(each * self.num_envs)

    def minibatch(self, index: Tensor, advantage: Tensor, returns: Tensor) -> Minibatch:
        """Return the steps at `index` [N] of the flat rollout. advantage, returns: of the whole rollout, [T, B]."""
        return Minibatch(
            self.obs_at(index),
            self.flat("action")[index],
            self.flat("log_prob")[index],
            self.flat("value")[index],
            advantage.flatten()[index],
            returns.flatten()[index],
        )

    def whole(self, advantage: Tensor, returns: Tensor) -> Minibatch:
        """Return all T * B steps, as views. advantage, returns: of the whole rollout, [T, B]."""
        return Minibatch(
            self.flat("obs"),
            self.flat("action"),
            self.flat("log_prob"),
            self.flat("value"),
            advantage.flatten(),
            returns.flatten(),
        )
