"""Steps environments with the current policy and fills rollouts, for every algorithm that learns from rollouts."""

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
    """Who acts: an actor with its critic, or values that are acted on greedily."""

    distribution: Distribution
    device: torch.device

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [B, *action_shape], the network's outputs [B, ...] behind them and the values of the states [B]."""
        ...

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Log-probabilities [B] of actions, given the outputs behind them."""
        ...

    def value(self, obs: np.ndarray) -> Tensor:
        """Values of states [B]."""
        ...

    def for_env(self, action: Tensor) -> np.ndarray:
        """Actions as the environments take them."""
        ...


class Steps(Protocol):
    """Who counts the steps: the run, or one worker of an asynchronous one."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count the time of `env` or `learn`."""
        ...

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and finished episodes."""
        ...


class RolloutSettings(Protocol):
    """The settings of a rollout, and of the rewards that the agent learns from."""

    num_steps: int
    gamma: float
    reward_scale: float
    reward_clip: float | None


class Collector:
    """Fills one rollout after another; each goes on from where the last one ended."""

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
        """Return the next rollout, in the memory of the last one.

        Row t holds what was seen, done and got, and the value of the true successor.
        """
        rollout, config = self._rollout, self.config
        shape = (rollout.num_steps, rollout.num_envs)
        # Rows of numbers are written by NumPy and handed to torch once: a tensor's row costs ten times as much.
        reward, terminated, truncated = np.empty(shape, np.float32), np.empty(shape, bool), np.empty(shape, bool)
        outputs: list[Tensor] = []
        values: list[Tensor] = []
        cut_values: list[Tensor] = []
        for t in range(rollout.num_steps):
            action, output, value = self.actor.act(rollout.put_obs(t, self.stepper.obs), self.generator)
            rollout.action[t] = action
            outputs.append(output)
            values.append(value)
            with self.steps.phase("env"):
                timestep, next_obs = self.stepper.step(self.actor.for_env(action))
            reward[t], terminated[t], truncated[t] = timestep.reward, timestep.terminated, timestep.truncated
            if next_obs is not None:  # what comes next is another episode: ask the network about the true successor
                cut_values.append(self.actor.value(next_obs[timestep.truncated]))
            self.steps.advance(self.pool.num_envs, timestep.episodes)
        values.append(self.actor.value(self.stepper.obs))

        def give(field: Tensor, rows: np.ndarray) -> None:
            field.copy_(to_device(rows.astype(np.float32, copy=False), field.device))  # MPS has no float64

        give(rollout.reward, learned_reward(reward, config.reward_scale, config.reward_clip))
        give(rollout.discount, np.where(terminated, 0.0, config.gamma))
        give(rollout.trace, ~(terminated | truncated))
        rollout.log_prob.copy_(self.actor.log_prob(torch.cat(outputs), rollout.flat("action")).view(shape))
        value = torch.stack(values)
        rollout.value.copy_(value[:-1])
        rollout.next_value.copy_(value[1:]).mul_(rollout.trace)
        if cut_values:
            rollout.next_value[to_device(truncated, value.device)] = torch.cat(cut_values)
        return rollout

    def state_dict(self) -> dict[str, Any]:
        """Where the environments stand; empty where they cannot tell."""
        return self.stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.stepper.load_state_dict(state)
