"""Collect rollouts: step environments with the current policy and store the steps."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rltrain.buffers.rollout import Rollout
from rltrain.envs.pool import Episode, Pool
from rltrain.envs.stepper import Stepper
from rltrain.math.rewards import learned_reward
from rltrain.nn import networks
from rltrain.nn.device import to_device
from rltrain.nn.distributions import Distribution


class Policy(Protocol):
    """What the collector needs of an agent: `Actor` (PPO, A2C, A3C) or `PQN`."""

    distribution: Distribution
    device: torch.device

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions [B, *action_shape], the policy outputs [B, ...] they came from, and the values [B]."""
        ...

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the log-probabilities of actions under these policy outputs, [B]."""
        ...

    def value(self, obs: np.ndarray) -> Tensor:
        """Return the values of observations [B, *obs_shape], [B]."""
        ...

    def for_env(self, action: Tensor) -> np.ndarray:
        """Return the actions as the environments take them."""
        ...


class Steps(Protocol):
    """The counter of steps and time: a `Run`, or the `Link` of an A3C worker."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Measure the time spent in the phase `env` or `learn`."""
        ...

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and finished episodes."""
        ...


class RolloutSettings(Protocol):
    """The settings of a rollout and of reward scaling."""

    num_steps: int
    gamma: float
    reward_scale: float
    reward_clip: float | None


class Collector:
    """Collect one rollout after another. Each rollout continues the episodes of the last one."""

    def __init__(
        self,
        actor: Policy,
        pool: Pool,
        steps: Steps,
        generator: np.random.Generator,
        env_seed: int,
        config: RolloutSettings,
    ) -> None:
        self.actor, self.pool, self.steps, self.generator, self.config = actor, pool, steps, generator, config
        self.stepper = Stepper(pool, env_seed)
        frame_space, distribution = pool.frame_space, actor.distribution
        assert frame_space.dtype is not None
        self._rollout = Rollout(
            config.num_steps,
            pool.num_envs,
            networks.obs_shape(frame_space, pool.stack_num),
            torch.from_numpy(np.zeros(0, frame_space.dtype)).dtype,
            distribution.action_shape,
            distribution.action_dtype,
            actor.device,
        )

    def collect(self) -> Rollout:
        """Return the next rollout, which overwrites the last one.

        Row t holds the observation, action and reward of step t, and the value of its true successor.
        """
        rollout, config = self._rollout, self.config
        shape = (rollout.num_steps, rollout.num_envs)
        # NumPy arrays, copied to torch once: writing a row of a tensor takes ten times as long.
        reward, terminated, truncated = np.empty(shape, np.float32), np.empty(shape, bool), np.empty(shape, bool)
        outputs: list[Tensor] = []
        values: list[Tensor] = []
        truncated_values: list[Tensor] = []
        for t in range(rollout.num_steps):
            action, output, value = self.actor.act(rollout.put_obs(t, self.stepper.obs), self.generator)
            rollout.action[t] = action
            outputs.append(output)
            values.append(value)
            with self.steps.phase("env"):
                timestep, next_obs = self.stepper.step(self.actor.for_env(action))
            reward[t], terminated[t], truncated[t] = timestep.reward, timestep.terminated, timestep.truncated
            if next_obs is not None:  # the next row belongs to another episode, so it has no value of this successor
                truncated_values.append(self.actor.value(next_obs[timestep.truncated]))
            self.steps.advance(self.pool.num_envs, timestep.episodes)
        values.append(self.actor.value(self.stepper.obs))

        def copy_to(field: Tensor, rows: np.ndarray) -> None:
            field.copy_(to_device(rows.astype(np.float32, copy=False), field.device))  # MPS has no float64

        copy_to(rollout.reward, learned_reward(reward, config.reward_scale, config.reward_clip))
        copy_to(rollout.discount, np.where(terminated, 0.0, config.gamma))
        copy_to(rollout.trace, ~(terminated | truncated))
        rollout.log_prob.copy_(self.actor.log_prob(torch.cat(outputs), rollout.flat("action")).view(shape))
        value = torch.stack(values)
        rollout.value.copy_(value[:-1])
        rollout.next_value.copy_(value[1:]).mul_(rollout.trace)
        if truncated_values:
            rollout.next_value[to_device(truncated, value.device)] = torch.cat(truncated_values)
        return rollout

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environments; empty if they cannot save it."""
        return self.stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.stepper.load_state_dict(state)
