"""Proximal policy optimization with a clipped surrogate (Schulman et al. 2017, algorithm 1).

ratio = pi(a|s) / pi_old(a|s)
minimise  -min(ratio A, clip(ratio, 1 - c, 1 + c) A) + w_v (V - R)^2 / 2 - w_e H[pi]        (eq. 7 and 9)

repeat: act for num_steps in every environment with the current policy
        A = generalised advantage estimates; R = A + V
        num_epochs times over the shuffled rollout: one optimizer step for each minibatch
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import device as devices
from rltrain import networks, optimizers
from rltrain.agent_panel import show_agent
from rltrain.algos.ppo_config import PPOConfig
from rltrain.config import RunConfig
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Pool
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses, policies, schedules
from rltrain.math.returns import gae
from rltrain.math.rewards import learned_reward
from rltrain.memory.rollout import Rollout
from rltrain.run import Run, make_pool


class PPO:
    """The actor-critic network and its optimizer."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        config: PPOConfig = run_config.algo
        self.config = config
        self.action_space = action_space
        self.continuous = isinstance(action_space, gymnasium.spaces.Box)
        self.device = devices.resolve_device(run_config.device)
        pixels = len(frame_space.shape or ()) == 3
        dtype = devices.resolve_precision(run_config.precision, self.device, pixels)

        def make_torso() -> networks.Torso:
            return networks.Torso(frame_space, run_config.env.stack_num, run_config.network, dtype, init=True)

        self.network = networks.build(seed, lambda: networks.ActorCritic(make_torso, action_space), self.device)
        devices.set_threads(self.network.torso.large_layers)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, eps=config.adam_eps, fused=True
        )
        self.clip_range = config.clip_range
        self.num_updates = 0

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions for the environment: the likeliest, or sampled."""
        with torch.inference_mode():
            outputs, _ = self.network(torch.from_numpy(obs).to(self.device))
            action = self._likeliest(outputs) if greedy else self._sample(outputs, generator)
        return self.bounded(action.cpu().numpy())

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled actions [B] or [B, A], their log-probabilities [B] and the values [B]."""
        with torch.inference_mode():
            outputs, value = self.network(obs)
            action = self._sample(outputs, generator)
            log_prob, _ = self._log_prob_entropy(outputs, action)
        return action, log_prob, value

    def value(self, obs: np.ndarray) -> Tensor:
        """Values [B]."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(obs).to(self.device))[1]

    def bounded(self, action: np.ndarray) -> np.ndarray:
        """Continuous actions inside the environment's bounds; the policy learns from what it sampled."""
        if isinstance(self.action_space, gymnasium.spaces.Box):
            shape = (len(action), *self.action_space.shape)
            return np.clip(action.reshape(shape), self.action_space.low, self.action_space.high)
        return action

    def update(self, rollout: Rollout, advantage: Tensor, returns: Tensor, index: Tensor) -> dict[str, Any]:
        """One optimizer step on the minibatch at `index` [N] of the flat rollout; returns metrics."""
        config = self.config
        old_log_prob, value_target = rollout.flat("log_prob")[index], returns.flatten()[index]
        batch_advantage = advantage.flatten()[index]
        if config.normalize_advantage:
            batch_advantage = losses.normalize(batch_advantage)
        outputs, value = self.network(rollout.flat("obs").index_select(0, index))
        log_prob, entropy = self._log_prob_entropy(outputs, rollout.flat("action")[index])
        policy_loss = losses.clipped_surrogate(log_prob, old_log_prob, batch_advantage, self.clip_range).mean()
        value_loss = losses.value_loss(value, value_target).mean()
        entropy_mean = entropy.mean()
        loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy_mean
        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.num_updates += 1
        return {
            "train/loss": loss.detach(),
            "train/policy_gradient_loss": policy_loss.detach(),
            "train/value_loss": value_loss.detach(),
            "train/entropy_loss": -entropy_mean.detach(),
            "train/approx_kl": losses.approx_kl(log_prob.detach(), old_log_prob),
            "train/clip_fraction": losses.clip_fraction(log_prob.detach(), old_log_prob, self.clip_range),
            "train/grad_norm": grad_norm,
            "train/n_updates": self.num_updates,
        }

    def anneal(self, step: int, total_steps: int) -> None:
        """Set the learning rate and the clip range for the next rollout."""
        config = self.config
        rate, clip = config.learning_rate, config.clip_range
        if config.learning_rate_end is not None:
            rate = schedules.linear(step, rate, config.learning_rate_end, total_steps)
        if config.clip_range_end is not None:
            clip = schedules.linear(step, clip, config.clip_range_end, total_steps)
        self.clip_range = clip
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Everything that an update changes."""
        return {
            "network": self.network.state_dict(),
            "optimizer": optimizers.state_dict(self.optimizer),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        optimizers.load_state_dict(self.optimizer, state["optimizer"])
        self.num_updates = int(state["num_updates"])

    def _likeliest(self, outputs: Tensor) -> Tensor:
        return outputs if self.continuous else outputs.argmax(dim=-1)

    def _sample(self, outputs: Tensor, generator: np.random.Generator) -> Tensor:
        """From one stream of numpy numbers on every device: normal noise, or the Gumbel-max trick."""
        if self.continuous:
            noise = generator.standard_normal(outputs.shape, dtype=np.float32)
            return outputs + self.network.log_std.exp() * torch.from_numpy(noise).to(outputs.device)
        gumbel = generator.gumbel(size=outputs.shape).astype(np.float32)
        return (outputs + torch.from_numpy(gumbel).to(outputs.device)).argmax(dim=-1)

    def _log_prob_entropy(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        if self.continuous:
            return policies.gaussian_log_prob_entropy(outputs, self.network.log_std, action)
        return policies.categorical_log_prob_entropy(outputs, action)


make_agent = PPO


class Collector:
    """Steps the environments with the current policy, from where the last rollout ended."""

    def __init__(self, agent: PPO, pool: Pool, run: Run) -> None:
        self.agent, self.pool, self.run = agent, pool, run
        self.stack = FrameStack(pool.num_envs, pool.frame_space, pool.stack_num)
        self.generator = run.generator("actions")
        self.obs = self.stack.reset(pool.reset(run.env_seed()))

    def collect(self, rollout: Rollout, config: PPOConfig) -> None:
        """Fill a rollout: row t is what was seen, done and got, and the value of the true successor."""
        rollout.next_value.zero_()
        for t in range(rollout.num_steps):
            rollout.obs[t] = torch.from_numpy(self.obs)
            action, rollout.log_prob[t], rollout.value[t] = self.agent.act(rollout.obs[t], self.generator)
            rollout.action[t] = action
            with self.run.phase("env"):
                timestep = self.pool.step(self.agent.bounded(action.cpu().numpy()))
            terminated, truncated = timestep.terminated, timestep.truncated
            reward = learned_reward(timestep.reward, config.reward_scale, config.reward_clip)
            rollout.reward[t] = torch.from_numpy(reward)
            rollout.discount[t] = torch.from_numpy(np.where(terminated, 0.0, config.gamma).astype(np.float32))
            rollout.trace[t] = torch.from_numpy((~(terminated | truncated)).astype(np.float32))
            if truncated.any():  # what comes next is another episode: ask the network about the true successor
                rows = torch.from_numpy(np.flatnonzero(truncated)).to(rollout.reward.device)
                rollout.next_value[t, rows] = self.agent.value(self.stack.peek(timestep.next_obs)[truncated])
            self.obs = self.stack.push(timestep.obs, timestep.first)
            self.run.advance(self.pool.num_envs, timestep.episodes)
        following_value = torch.cat([rollout.value[1:], self.agent.value(self.obs)[None]])
        torch.where(rollout.trace > 0, following_value, rollout.next_value, out=rollout.next_value)


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: collect, estimate advantages, learn, until total_steps are done."""
    config: PPOConfig = run_config.algo
    pool = make_pool(run_config)
    try:
        agent = PPO(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        run.restore(agent)
        rollout = make_rollout(config, pool, agent.device)
        show_agent(run.folder, run_config, pool, agent.network, agent.device, None)
        collector = Collector(agent, pool, run)
        shuffle = run.generator("minibatches")
        steps_per_rollout = config.num_steps * pool.num_envs
        while not run.finished:
            agent.anneal(run.step, run_config.total_steps)
            collector.collect(rollout, config)
            with run.phase("learn"):
                advantage = gae(
                    rollout.reward,
                    rollout.discount,
                    rollout.trace,
                    rollout.value,
                    rollout.next_value,
                    config.gae_lambda,
                )
                returns = advantage + rollout.value
                for _ in range(config.num_epochs):
                    for index in rollout.minibatches(config.batch_size, shuffle):
                        metrics = agent.update(rollout, advantage, returns, index)
            run.record(metrics)
            run.record(
                {
                    "train/explained_variance": losses.explained_variance(rollout.flat("value"), returns.flatten()),
                    "train/learning_rate": agent.optimizer.param_groups[0]["lr"],
                }
            )
            run.after_step(steps_per_rollout, agent)
    finally:
        pool.close()
    run.conclude(agent)


def make_rollout(config: PPOConfig, pool: Pool, device: torch.device) -> Rollout:
    """Storage for one rollout, pixels as uint8."""
    frame_space, action_space = pool.frame_space, pool.action_space
    continuous = isinstance(action_space, gymnasium.spaces.Box)
    assert frame_space.dtype is not None
    return Rollout(
        config.num_steps,
        pool.num_envs,
        networks.obs_shape(frame_space, pool.stack_num),
        torch.from_numpy(np.zeros(0, frame_space.dtype)).dtype,
        (int(np.prod(action_space.shape or ())),) if continuous else (),
        torch.float32 if continuous else torch.int64,
        device,
    )


def _check(agent: PPO) -> Agent:  # the type checker sees here that PPO is what evaluation and checkpoints take
    return agent
