"""REINFORCE, the Monte Carlo policy gradient (Williams 1992; Sutton & Barto 2018, sections 13.3 and 13.4).

minimise  -log pi(a_t|s_t) (G_t - b(s_t)),    G_t = r_t + gamma r_{t+1} + gamma^2 r_{t+2} + ...
b is 0, or with `baseline` a learned value: minimise (b(s_t) - G_t)^2 / 2 beside it

repeat: play whole episodes with the current policy until a batch is full
        one optimizer step on every step of them

An episode cut by a time limit would have earned more. With a baseline, its value stands in for what was cut off;
without one there is nothing to estimate it from, and the return ends at the limit: what is then maximised is the
return within the limit. The factor gamma^t of the gradient's derivation is left out, as everywhere in practice.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import optimizers
from rltrain.actor import Actor
from rltrain.agent_panel import show_agent
from rltrain.algos.reinforce_config import ReinforceConfig
from rltrain.config import RunConfig
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Pool
from rltrain.envs.stepper import check_finite
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses
from rltrain.math.returns import discounted_returns
from rltrain.math.rewards import learned_reward
from rltrain.micro_batches import MicroBatches
from rltrain.policy_agent import PolicyAgent
from rltrain.run import Run


class Batch(NamedTuple):
    """Every step of some whole episodes, N of them."""

    obs: Tensor
    """[N, *obs_shape], the environment's own dtype."""
    action: Tensor
    """[N, *action_shape]."""
    returns: Tensor
    """G, [N], float32."""


class Reinforce(PolicyAgent):
    """The policy, its baseline if there is one, and the optimizer."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        config: ReinforceConfig = run_config.algo
        self.config = config
        self.micro_batches = MicroBatches(run_config)
        actor = Actor(run_config, frame_space, action_space, seed, critic=config.baseline)
        super().__init__(actor, config.optimizer, config.learning_rate, config.optimizer_eps)

    def update(self, batch: Batch) -> dict[str, Any]:
        """One optimizer step; returns metrics."""
        num_samples, advantage = len(batch.returns), batch.returns
        if self.config.baseline:
            value = self.micro_batches.infer(num_samples, lambda rows: self.actor.network(batch.obs[rows])[1])
            advantage = advantage - value
        if self.config.normalize_advantage:
            advantage = losses.normalize(advantage)
        metrics = self.micro_batches.accumulate_gradients(
            self.optimizer, num_samples, lambda rows: self._loss(batch, advantage, rows)
        )
        metrics["train/grad_norm"] = optimizers.clip_gradients(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.num_updates += 1
        if self.config.baseline:
            metrics["train/explained_variance"] = losses.explained_variance(value, batch.returns)
        return metrics | {"train/n_updates": self.num_updates}

    def _loss(self, batch: Batch, advantage: Tensor, rows: slice) -> tuple[Tensor, dict[str, Any]]:
        """The loss of some rows of the batch and its metrics: means over them."""
        config = self.config
        log_prob, entropy, value = self.actor.evaluate(batch.obs[rows], batch.action[rows])
        policy_loss = losses.policy_gradient_loss(log_prob, advantage[rows]).mean()
        entropy_mean = entropy.mean()
        loss = policy_loss - config.entropy_weight * entropy_mean
        metrics = {
            "train/policy_gradient_loss": policy_loss.detach(),
            "train/entropy_loss": -entropy_mean.detach(),
        }
        if config.baseline:
            value_loss = losses.value_loss(value, batch.returns[rows]).mean()
            loss = loss + config.value_weight * value_loss
            metrics["train/value_loss"] = value_loss.detach()
        return loss, metrics | {"train/loss": loss.detach()}


make_agent = Reinforce


def play_batch(
    actor: Actor, pool: Pool, run: Run, config: ReinforceConfig, generator: np.random.Generator, seed: int
) -> Batch | None:
    """Whole episodes from a fresh start in every environment, `batch_size` steps of them or a few more.

    Every environment plays episodes until it has done its share of the steps. One that is done before the others is
    stepped along with them, and what it does then is not learned from: taking the episodes that happen to end first
    would prefer short ones. None where the run was asked to stop: the rest may take minutes.
    """
    stack = FrameStack(pool.num_envs, pool.frame_space, pool.stack_num)
    obs = stack.reset(pool.reset(seed))
    share = -(-config.batch_size // pool.num_envs)
    num_taken, active = np.zeros(pool.num_envs, np.int64), np.ones(pool.num_envs, bool)
    seen, done, rewards, discounts, traces, next_values, counted = [], [], [], [], [], [], []
    while active.any():
        if run.stopping:
            return None
        action, _, _ = actor.act(torch.from_numpy(obs).to(actor.device), generator)
        with run.phase("env"):
            timestep = pool.step(actor.for_env(action))
            check_finite(timestep)
        seen.append(obs[active])
        done.append(action[torch.from_numpy(active).to(actor.device)])
        counted.append(active.copy())
        rewards.append(learned_reward(timestep.reward, config.reward_scale, config.reward_clip))
        discounts.append(np.where(timestep.terminated, 0.0, config.gamma))
        traces.append(~(timestep.terminated | timestep.truncated))
        next_value = np.zeros(pool.num_envs)
        if config.baseline and timestep.truncated.any():
            next_value = actor.value(stack.peek(timestep.next_obs)).cpu().numpy()
        next_values.append(next_value)
        obs = stack.push(timestep.obs, timestep.first)
        run.advance(pool.num_envs, timestep.episodes)
        num_taken += active
        active &= ~(timestep.first & (num_taken >= share))
    returns = discounted_returns(
        *(torch.from_numpy(np.stack(rows).astype(np.float32)) for rows in (rewards, discounts, traces, next_values))
    )
    return Batch(
        torch.from_numpy(np.concatenate(seen)).to(actor.device),
        torch.cat(done),
        returns[torch.from_numpy(np.stack(counted))].to(actor.device),
    )


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: play whole episodes, learn once, until total_steps are done."""
    config: ReinforceConfig = run_config.algo
    pool = run.make_pool()
    try:
        agent = Reinforce(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        run.restore(agent)
        show_agent(run, pool.frame_space, pool.action_space, agent.actor.network, agent.actor.device)
        actions, starts = run.generator("actions"), run.generator("starts")
        while not run.finished:
            learning_rate = optimizers.anneal(agent.optimizer, config, run.step, run_config.total_steps)
            before, go_back = run.step, run.mark()
            batch = play_batch(agent.actor, pool, run, config, actions, int(starts.integers(2**31)))
            if batch is None:  # a resumed run plays it again
                go_back()
                run.stop_if_asked(agent)
                continue
            with run.phase("learn"):
                metrics = agent.update(batch)
                optimizers.check_finite(agent.trained)
            run.record(metrics)
            run.record({"train/learning_rate": learning_rate})
            run.after_step(run.step - before, agent)
    finally:
        pool.close()
    run.conclude(agent)


def _check(agent: Reinforce) -> Agent:  # the type checker sees here that Reinforce is what evaluation takes
    return agent
