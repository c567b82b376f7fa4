"""REINFORCE, the Monte Carlo policy gradient (Williams 1992; Sutton & Barto 2018, sections 13.3 and 13.4).

G_t = r_t + gamma r_{t+1} + gamma^2 r_{t+2} + ...
minimise  -log pi(a_t|s_t) G_t - w_e H[pi(s_t)]                                              (eq. 13.8)
or with `baseline`
minimise  -log pi(a_t|s_t) (G_t - b(s_t)) - w_e H[pi(s_t)] + w_v (b(s_t) - G_t)^2 / 2        (eq. 13.11)

Equations 13.8 and 13.11 have the first term only. By default G_t - b (or G_t) is shifted and scaled to mean 0 and
deviation 1 over the batch. For eq. 13.8 as in the book: baseline=false normalize_advantage=false.

repeat: play whole episodes with the current policy until they have batch_size steps
        compute G_t; take one optimizer step on all steps of these episodes

A time limit cuts off the rewards that would have followed. With a baseline, b(s) of the last state estimates their
return. Without one, G_t ends at the limit, so the agent maximises the return within the limit.

The book's algorithm has a factor gamma^t in each update. It is left out here, as in most implementations.
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
from rltrain.envs.stepper import check_finite, check_finite_obs
from rltrain.math.losses import explained_variance, normalize, policy_gradient_loss, value_loss
from rltrain.math.returns import discounted_returns
from rltrain.math.rewards import learned_reward
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


@dataclass(frozen=True)
class Batch(ReturnBatch):
    """All N steps of some whole episodes."""

    advantage: Tensor
    """G - b, or G without a baseline; normalised with `normalize_advantage`, [N], float32."""

    def rows(self, rows: slice) -> "Batch":
        """Return some of the steps, as views."""
        return Batch(self.obs[rows], self.action[rows], self.returns[rows], self.advantage[rows])


class Reinforce(PolicyAgent):
    """The REINFORCE agent: a policy network, with a value head if there is a baseline, and its learner."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: ReinforceConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed, critic=self.config.baseline)
        super().__init__(config, actor, self.config.optimizer, self.config.optimizer_eps)

    def update(self, episodes: ReturnBatch) -> dict[str, Tensor]:
        """Take one optimizer step on all steps of whole episodes. Return the metrics of the baseline, if any."""
        advantage, metrics = episodes.returns, {}
        if self.config.baseline:
            # [1]: the value head, b(s).
            baseline = self.learner.infer(lambda batch: self.network(batch.obs)[1], episodes)
            advantage = advantage - baseline
            metrics["train/explained_variance"] = explained_variance(baseline, episodes.returns)
        if self.config.normalize_advantage:
            advantage = normalize(advantage)
        self.learner.step(self.loss, Batch(episodes.obs, episodes.action, episodes.returns, advantage))
        return metrics

    def loss(self, batch: Batch) -> Loss:
        """Return the mean of -log pi (G - b) - w_e H, plus w_v (b - G)^2 / 2 if there is a baseline."""
        c = self.config
        log_prob, entropy, value = self.actor.evaluate(batch.obs, batch.action)
        policy_loss = policy_gradient_loss(log_prob, batch.advantage).mean()
        mean_entropy = entropy.mean()
        loss = policy_loss - c.entropy_weight * mean_entropy
        metrics = {"train/policy_gradient_loss": policy_loss.detach(), "train/entropy_loss": -mean_entropy.detach()}
        if c.baseline:
            baseline_loss = value_loss(value, batch.returns).mean()
            loss = loss + c.value_weight * baseline_loss
            metrics["train/value_loss"] = baseline_loss.detach()
        return Loss(loss, lambda: metrics)


make_agent = Reinforce


def play_batch(
    actor: Actor, run: Run, config: ReinforceConfig, generator: np.random.Generator, seed: int
) -> ReturnBatch | None:
    """Play whole episodes from new starts, at least `batch_size` steps in total, and return their steps with G_t.

    Each environment plays until it has done its share of the steps and its episode has ended. It is then stepped along
    with the others, but these extra steps are not in the batch. (A batch of the first episodes that end would prefer
    short episodes.) Return None if the run was asked to stop, because the rest may take minutes.
    """
    pool = run.pool
    stack = FrameStack(pool.num_envs, pool.frame_space, pool.stack_num)
    frame = pool.reset(seed)
    check_finite_obs(frame)
    obs = stack.reset(frame)
    steps_per_env = -(-config.batch_size // pool.num_envs)
    num_taken, active = np.zeros(pool.num_envs, np.int64), np.ones(pool.num_envs, bool)
    observations, actions, rewards, discounts, traces, next_values, in_batch = [], [], [], [], [], [], []
    while active.any():
        if run.stopping:
            return None
        action, _, _ = actor.act(torch.from_numpy(obs).to(actor.device), generator)
        with run.phase("env"):
            timestep = pool.step(actor.for_env(action))
            check_finite(timestep)
        observations.append(obs[active])
        actions.append(action[torch.from_numpy(active).to(actor.device)])
        in_batch.append(active.copy())
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
        active &= ~(timestep.first & (num_taken >= steps_per_env))
    reward_TB, discount_TB, trace_TB, next_value_TB = (
        torch.from_numpy(np.stack(rows).astype(np.float32)) for rows in (rewards, discounts, traces, next_values)
    )
    returns = discounted_returns(reward_TB, discount_TB, trace_TB, next_value_TB)
    return ReturnBatch(
        torch.from_numpy(np.concatenate(observations)).to(actor.device),
        torch.cat(actions),
        returns[torch.from_numpy(np.stack(in_batch))].to(actor.device),
    )


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: ReinforceConfig = config.algo
    agent = Reinforce(config, *run.spaces, run.seed_of("network"))
    actions, starts = run.generator("actions"), run.generator("starts")
    run.begin(agent)
    while not run.finished:
        agent.learner.anneal_learning_rate(run.step)
        step_before, rewind = run.step, run.mark()
        episodes = play_batch(agent.actor, run, c, actions, int(starts.integers(2**31)))
        if episodes is None:  # the run stops; a resumed run plays these episodes again
            rewind()
            run.stop_if_asked()
            continue
        with run.phase("learn"):
            run.record(agent.update(episodes))
        run.record(agent.learner.metrics)
        run.after_step(run.step - step_before)
