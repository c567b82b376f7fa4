"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, section 4 and algorithm S3).

minimise  -log pi(a|s) A + w_v (V(s) - R)^2 / 2 - w_e H[pi],    A = R - V(s)
R = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n})              (gae_lambda below 1 mixes shorter ones in)

repeat: act for num_steps in every environment with the current policy
        one optimizer step on the whole rollout, which is then thrown away
"""

import gymnasium

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.algos.parts.collector import Collector
from rltrain.buffers.rollout import Minibatch
from rltrain.config.algorithms import A2CConfig
from rltrain.config.run import RunConfig
from rltrain.math.losses import explained_variance, normalize, policy_gradient_loss, value_loss
from rltrain.math.returns import gae
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


class A2C(PolicyAgent):
    """The actor-critic network and its optimizer."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: A2CConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed)
        super().__init__(config, actor, self.config.optimizer, self.config.optimizer_eps)

    def loss(self, batch: Minibatch) -> Loss:
        """The policy gradient, the value's error and the entropy (algorithm S3)."""
        log_prob, entropy, value = self.actor.evaluate(batch.obs, batch.action)
        policy_loss = policy_gradient_loss(log_prob, batch.advantage).mean()
        values_loss = value_loss(value, batch.returns).mean()
        entropy_mean = entropy.mean()
        loss = policy_loss + self.config.value_weight * values_loss - self.config.entropy_weight * entropy_mean
        policy_loss, values_loss, entropy_mean = policy_loss.detach(), values_loss.detach(), entropy_mean.detach()
        return Loss(
            loss,
            lambda: {
                "train/policy_gradient_loss": policy_loss,
                "train/value_loss": values_loss,
                "train/entropy_loss": -entropy_mean,
            },
        )


make_agent = A2C


def train(config: RunConfig, run: Run) -> None:
    """Collect, learn once, until total_steps are done."""
    c: A2CConfig = config.algo
    agent = A2C(config, *run.spaces, run.seed_of("network"))
    collector = Collector(agent.actor, run.pool, run, run.generator("actions"), run.env_seed(), c)
    run.begin(agent, environments=collector)
    while not run.finished:
        agent.learner.anneal(run.step)
        rollout = collector.collect()
        with run.phase("learn"):
            advantage = gae(
                rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, c.gae_lambda
            )
            returns = advantage + rollout.value
            batch = rollout.whole(normalize(advantage) if c.normalize_advantage else advantage, returns)
            agent.learner.step(agent.loss, batch)
        run.record({"train/explained_variance": explained_variance(batch.value, batch.returns)})
        run.record(agent.learner.metrics)
        run.after_step(c.num_steps * c.num_envs)
