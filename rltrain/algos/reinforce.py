"""REINFORCE, the Monte Carlo policy gradient (Williams 1992; Sutton & Barto 2018, sections 13.3 and 13.4).

minimise  -log pi(a_t|s_t) (G_t - b(s_t)),    G_t = r_t + gamma r_{t+1} + gamma^2 r_{t+2} + ...
b is 0, or with `baseline` a learned value: minimise (b(s_t) - G_t)^2 / 2 beside it

repeat: play whole episodes with the current policy until a batch is full
        one optimizer step on every step of them

An episode cut by a time limit would have earned more. With a baseline, its value stands in for the rest. Without one,
nothing can estimate the rest, and the return ends at the limit: the agent then maximises the return within the limit.
The factor gamma^t of the gradient's derivation is left out, as everywhere in practice.
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.buffers.rollout import ReturnBatch
from rltrain.config.algorithms import ReinforceConfig
from rltrain.config.run import RunConfig
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.stepper import check_finite
from rltrain.math.losses import explained_variance, normalize, policy_gradient_loss, value_loss
from rltrain.math.returns import discounted_returns
from rltrain.math.rewards import learned_reward
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


@dataclass(frozen=True)
class Batch(ReturnBatch):
    """Every step of some whole episodes, N of them."""

    advantage: Tensor
    """G - b, or G without a baseline, [N], float32."""

    def rows(self, rows: slice) -> "Batch":
        """Return some of the steps, as views."""
        return Batch(self.obs[rows], self.action[rows], self.returns[rows], self.advantage[rows])


class Reinforce(PolicyAgent):
    """The policy, its baseline if there is one, and the optimizer."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: ReinforceConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed, critic=self.config.baseline)
        super().__init__(config, actor, self.config.optimizer, self.config.optimizer_eps)

    def update(self, episodes: ReturnBatch) -> dict[str, Tensor]:
        """Take one optimizer step on whole episodes; returns the metrics of the baseline."""
        advantage, metrics = episodes.returns, {}
        if self.config.baseline:
            baseline = self.learner.infer(lambda batch: self.network(batch.obs)[1], episodes)
            advantage = advantage - baseline
            metrics["train/explained_variance"] = explained_variance(baseline, episodes.returns)
        if self.config.normalize_advantage:
            advantage = normalize(advantage)
        self.learner.step(self.loss, Batch(episodes.obs, episodes.action, episodes.returns, advantage))
        return metrics

    def loss(self, batch: Batch) -> Loss:
        """The policy gradient, the baseline's error and the entropy."""
        c = self.config
        log_prob, entropy, value = self.actor.evaluate(batch.obs, batch.action)
        policy_loss = policy_gradient_loss(log_prob, batch.advantage).mean()
        entropy_mean = entropy.mean()
        loss = policy_loss - c.entropy_weight * entropy_mean
        metrics = {"train/policy_gradient_loss": policy_loss.detach(), "train/entropy_loss": -entropy_mean.detach()}
        if c.baseline:
            baseline_loss = value_loss(value, batch.returns).mean()
            loss = loss + c.value_weight * baseline_loss
            metrics["train/value_loss"] = baseline_loss.detach()
        return Loss(loss, lambda: metrics)


make_agent = Reinforce


def play_batch(
    actor: Actor, run: Run, config: ReinforceConfig, generator: np.random.Generator, seed: int
) -> ReturnBatch | None:
    """Play whole episodes from a fresh start in every environment: `batch_size` steps of them, or a few more.

    Every environment plays episodes until it has done its share of the steps. One that is done before the others is
    stepped along with them, and what it does then is not learned from: taking the episodes that happen to end first
    would prefer short ones. Returns None where the run was asked to stop: the rest may take minutes.
    """
    pool = run.pool
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
    return ReturnBatch(
        torch.from_numpy(np.concatenate(seen)).to(actor.device),
        torch.cat(done),
        returns[torch.from_numpy(np.stack(counted))].to(actor.device),
    )


def train(config: RunConfig, run: Run) -> None:
    """Play whole episodes, learn once, until total_steps are done."""
    c: ReinforceConfig = config.algo
    agent = Reinforce(config, *run.spaces, run.seed_of("network"))
    actions, starts = run.generator("actions"), run.generator("starts")
    run.begin(agent)
    while not run.finished:
        agent.learner.anneal(run.step)
        before, go_back = run.step, run.mark()
        episodes = play_batch(agent.actor, run, c, actions, int(starts.integers(2**31)))
        if episodes is None:  # a resumed run plays them again
            go_back()
            run.stop_if_asked()
            continue
        with run.phase("learn"):
            run.record(agent.update(episodes))
        run.record(agent.learner.metrics)
        run.after_step(run.step - before)
