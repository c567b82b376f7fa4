"""Proximal policy optimization with a clipped surrogate (Schulman et al. 2017, algorithm 1).

ratio = pi(a|s) / pi_old(a|s)
minimise  -min(ratio A, clip(ratio, 1 - c, 1 + c) A) + w_v (V - R)^2 / 2 - w_e H[pi]        (eq. 7 and 9)

repeat: act for num_steps in every environment with the current policy
        A = generalised advantage estimates; R = A + V
        num_epochs times over the shuffled rollout: one optimizer step for each minibatch
"""

import itertools
from typing import Any

import gymnasium
from torch import Tensor

from rltrain import cuda_graphs, optimizers
from rltrain.actor import Actor
from rltrain.agent_panel import show_agent
from rltrain.algos.ppo_config import PPOConfig
from rltrain.collector import Collector
from rltrain.config import RunConfig
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses, schedules
from rltrain.math.returns import gae
from rltrain.memory.rollout import Rollout
from rltrain.micro_batches import MicroBatches
from rltrain.policy_agent import PolicyAgent
from rltrain.run import Run


class PPO(PolicyAgent):
    """The actor-critic network and its optimizer."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        config: PPOConfig = run_config.algo
        self.config = config
        self.micro_batches = MicroBatches(run_config)
        actor = Actor(run_config, frame_space, action_space, seed)
        super().__init__(actor, "adam", config.learning_rate, config.adam_eps)
        self.clip_range = config.clip_range
        self.learn = cuda_graphs.graphed(self._learn, run_config, actor.device, self.trained.tensors)
        self.gae = cuda_graphs.graphed(gae, run_config, actor.device)

    def update(
        self, rollout: Rollout, advantage: Tensor, returns: Tensor, index: Tensor, measured: bool = True
    ) -> dict[str, Any]:
        """One optimizer step on the minibatch at `index` [N] of the flat rollout; returns metrics if `measured`."""
        metrics = self.learn(
            rollout=rollout,
            advantage=advantage,
            returns=returns,
            index=index,
            clip_range=self.clip_range,
            measured=measured,
        )
        self.num_updates += 1
        return metrics | {"train/n_updates": self.num_updates}

    def _learn(
        self,
        rollout: Rollout,
        advantage: Tensor,
        returns: Tensor,
        index: Tensor,
        clip_range: float | Tensor,
        measured: bool,
    ) -> dict[str, Tensor]:
        """What can be recorded of `update`: gradients, clipping, the optimizer's step."""
        batch_advantage = advantage.flatten()[index]
        if self.config.normalize_advantage:
            batch_advantage = losses.normalize(batch_advantage)
        metrics = self.micro_batches.accumulate_gradients(
            self.optimizer,
            len(index),
            lambda rows: self._loss(rollout, batch_advantage[rows], returns, index[rows], clip_range, measured),
        )
        metrics["train/grad_norm"] = optimizers.clip_gradients(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        return metrics

    def _loss(
        self,
        rollout: Rollout,
        advantage: Tensor,
        returns: Tensor,
        index: Tensor,
        clip_range: float | Tensor,
        measured: bool,
    ) -> tuple[Tensor, dict[str, Any]]:
        """The loss of the steps at `index`, whose advantages these are, and if `measured` its metrics; all means."""
        config = self.config
        old_log_prob, value_target = rollout.flat("log_prob")[index], returns.flatten()[index]
        log_prob, entropy, value = self.actor.evaluate(rollout.obs_at(index), rollout.flat("action")[index])
        loss, policy_loss, value_loss, entropy_mean = losses.ppo_loss(
            log_prob,
            entropy,
            value,
            old_log_prob,
            rollout.flat("value")[index],
            advantage,
            value_target,
            clip_range,
            config.clip_value_range,
            config.value_weight,
            config.entropy_weight,
        )
        if not measured:
            return loss, {}
        return loss, {
            "train/loss": loss.detach(),
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": -entropy_mean,
            "train/approx_kl": losses.approx_kl(log_prob.detach(), old_log_prob),
            "train/clip_fraction": losses.clip_fraction(log_prob.detach(), old_log_prob, clip_range),
        }

    def anneal(self, step: int, total_steps: int) -> None:
        """Set the learning rate and the clip range for the next rollout."""
        config = self.config
        self.clip_range = schedules.linear_or_constant(step, config.clip_range, config.clip_range_end, total_steps)
        optimizers.anneal(self.optimizer, config, step, total_steps)


make_agent = PPO


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: collect, estimate advantages, learn, until total_steps are done."""
    config: PPOConfig = run_config.algo
    pool = run.make_pool()
    try:
        agent = PPO(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        show_agent(run, pool.frame_space, pool.action_space, agent.actor.network, agent.actor.device)
        collector = Collector(agent.actor, pool, run, run.generator("actions"), run.env_seed(), config)
        run.restore(agent, environments=collector.stepper)
        rollout = collector.make_rollout(config.num_steps)
        shuffle = run.generator("minibatches")
        steps_per_rollout = config.num_steps * pool.num_envs
        while not run.finished:
            agent.anneal(run.step, run_config.total_steps)
            collector.collect(rollout)
            with run.phase("learn"):
                advantage = agent.gae(
                    reward_TB=rollout.reward,
                    discount_TB=rollout.discount,
                    trace_TB=rollout.trace,
                    value_TB=rollout.value,
                    next_value_TB=rollout.next_value,
                    gae_lambda=config.gae_lambda,
                )
                returns = advantage + rollout.value
                epochs = (rollout.minibatches(config.batch_size, shuffle) for _ in range(config.num_epochs))
                *others, last = itertools.chain.from_iterable(epochs)
                for index in others:
                    agent.update(rollout, advantage, returns, index, measured=False)
                metrics = agent.update(rollout, advantage, returns, last)  # the only ones that a log could show
                optimizers.check_finite(agent.trained)
            run.record(metrics)
            run.record(
                {
                    "train/explained_variance": losses.explained_variance(rollout.flat("value"), returns.flatten()),
                    "train/learning_rate": agent.optimizer.param_groups[0]["lr"],
                }
            )
            run.after_step(steps_per_rollout, agent, environments=collector.stepper)
        run.conclude(agent, environments=collector.stepper)
    finally:
        pool.close()


def _check(agent: PPO) -> Agent:  # the type checker sees here that PPO is what evaluation and checkpoints take
    return agent
