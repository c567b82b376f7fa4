"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, section 4 and algorithm S3).

minimise  -log pi(a|s) A + w_v (V(s) - R)^2 / 2 - w_e H[pi],    A = R - V(s)
R = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n})              (gae_lambda below 1 mixes shorter ones in)

repeat: act for num_steps in every environment with the current policy
        one optimizer step on the whole rollout, which is then thrown away
"""

from typing import Any

import gymnasium
from torch import Tensor

from rltrain import cuda_graphs, optimizers
from rltrain.actor import Actor
from rltrain.agent_panel import show_agent
from rltrain.algos.a2c_config import A2CConfig
from rltrain.collector import Collector
from rltrain.config import RunConfig
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses
from rltrain.math.returns import gae
from rltrain.memory.rollout import Rollout
from rltrain.micro_batches import MicroBatches
from rltrain.policy_agent import PolicyAgent
from rltrain.run import Run


class A2C(PolicyAgent):
    """The actor-critic network and its optimizer."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        config: A2CConfig = run_config.algo
        self.config = config
        self.micro_batches = MicroBatches(run_config)
        actor = Actor(run_config, frame_space, action_space, seed)
        super().__init__(actor, config.optimizer, config.learning_rate, config.optimizer_eps)
        self.learn = cuda_graphs.graphed(self._learn, run_config, actor.device, self.trained.tensors)

    def update(self, rollout: Rollout) -> dict[str, Any]:
        """One optimizer step on a rollout; returns metrics."""
        metrics = self.learn(rollout=rollout)
        self.num_updates += 1
        return metrics | {"train/n_updates": self.num_updates}

    def _learn(self, rollout: Rollout) -> dict[str, Tensor]:
        """What can be recorded of `update`: all but the count."""
        advantage = gae(
            rollout.reward,
            rollout.discount,
            rollout.trace,
            rollout.value,
            rollout.next_value,
            self.config.gae_lambda,
        ).flatten()
        returns = advantage + rollout.flat("value")
        if self.config.normalize_advantage:
            advantage = losses.normalize(advantage)
        metrics = self.micro_batches.accumulate_gradients(
            self.optimizer, len(returns), lambda rows: self._loss(rollout, advantage, returns, rows)
        )
        metrics["train/grad_norm"] = optimizers.clip_gradients(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        metrics["train/explained_variance"] = losses.explained_variance(rollout.flat("value"), returns)
        return metrics

    def _loss(self, rollout: Rollout, advantage: Tensor, returns: Tensor, rows: slice) -> tuple[Tensor, dict[str, Any]]:
        """The loss of some rows of the flat rollout and its metrics: means over them."""
        config = self.config
        log_prob, entropy, value = self.actor.evaluate(rollout.flat("obs")[rows], rollout.flat("action")[rows])
        policy_loss = losses.policy_gradient_loss(log_prob, advantage[rows]).mean()
        value_loss = losses.value_loss(value, returns[rows]).mean()
        entropy_mean = entropy.mean()
        loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy_mean
        return loss, {
            "train/loss": loss.detach(),
            "train/policy_gradient_loss": policy_loss.detach(),
            "train/value_loss": value_loss.detach(),
            "train/entropy_loss": -entropy_mean.detach(),
        }


make_agent = A2C


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: collect, learn once, until total_steps are done."""
    config: A2CConfig = run_config.algo
    pool = run.make_pool()
    try:
        agent = A2C(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        show_agent(run, pool.frame_space, pool.action_space, agent.actor.network, agent.actor.device)
        collector = Collector(agent.actor, pool, run, run.generator("actions"), run.env_seed(), config)
        run.restore(agent, environments=collector.stepper)
        rollout = collector.make_rollout(config.num_steps)
        while not run.finished:
            learning_rate = optimizers.anneal(agent.optimizer, config, run.step, run_config.total_steps)
            collector.collect(rollout)
            with run.phase("learn"):
                metrics = agent.update(rollout)
                optimizers.check_finite(agent.trained)
            run.record(metrics)
            run.record({"train/learning_rate": learning_rate})
            run.after_step(config.num_steps * pool.num_envs, agent, environments=collector.stepper)
        run.conclude(agent, environments=collector.stepper)
    finally:
        pool.close()


def _check(agent: A2C) -> Agent:  # the type checker sees here that A2C is what evaluation and checkpoints take
    return agent
