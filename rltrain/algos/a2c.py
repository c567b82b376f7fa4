"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, section 4 and algorithm S3).

R_t = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n}),    A_t = R_t - V(s_t)
minimise  -log pi(a_t|s_t) A_t + w_v (V(s_t) - R_t)^2 / 2 - w_e H[pi(s_t)]

n = the steps left in the rollout; num_steps is the paper's t_max. If the episode ends earlier, the sum ends there.

repeat: act for num_steps in every environment with the current policy
        compute A_t and R_t; take one optimizer step on the whole rollout, then drop it

gae_lambda = 1 gives the paper's A_t. A smaller gae_lambda averages it with shorter n-step advantages (`gae`).
"""

import gymnasium

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.algos.parts.collector import Collector
from rltrain.algos.parts.minibatches import normalized
from rltrain.buffers.rollout import Minibatch
from rltrain.config.algorithms import A2CConfig
from rltrain.config.run import RunConfig
from rltrain.math.losses import explained_variance, policy_gradient_loss, value_loss
from rltrain.math.returns import gae
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


class A2C(PolicyAgent):
    """The A2C agent: an actor-critic network and its learner."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: A2CConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed)
        super().__init__(config, actor, self.config.optimizer, self.config.optimizer_eps)

    def loss(self, batch: Minibatch) -> Loss:
        """Return the mean of -log pi A + w_v (V - R)^2 / 2 - w_e H: algorithm S3 and the entropy.

        The paper sums over the steps; this is the mean. The paper's (R - V)^2 is w_v = 2.
        """
        log_prob, entropy, value = self.actor.evaluate(batch.obs, batch.action)
        actor_loss = policy_gradient_loss(log_prob, batch.advantage).mean()
        critic_loss = value_loss(value, batch.returns).mean()
        mean_entropy = entropy.mean()
        loss = actor_loss + self.config.value_weight * critic_loss - self.config.entropy_weight * mean_entropy
        actor_loss, critic_loss, mean_entropy = actor_loss.detach(), critic_loss.detach(), mean_entropy.detach()
        return Loss(
            loss,
            lambda: {
                "train/policy_gradient_loss": actor_loss,
                "train/value_loss": critic_loss,
                "train/entropy_loss": -mean_entropy,
            },
        )


make_agent = A2C


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: A2CConfig = config.algo
    agent = A2C(config, *run.spaces, run.seed_of("network"))
    agent.learner.join(run.group, run.share.weight)
    collector = Collector(agent.actor, run.pool, run, run.row_generator("actions"), run.env_seed(), c)
    run.begin(agent, environments=collector)
    while not run.finished:
        agent.learner.anneal_learning_rate(run.step)
        rollout = collector.collect()
        with run.phase("learn"):
            advantage = gae(
                rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, c.gae_lambda
            )
            returns = advantage + rollout.value
            if c.normalize_advantage:
                advantage = normalized(advantage, run.group)
            batch = rollout.whole(advantage, returns)
            agent.learner.step(agent.loss, batch)
        run.record({"train/explained_variance": explained_variance(batch.value, batch.returns)})
        run.record(agent.learner.metrics)
        run.after_step(c.num_steps * c.num_envs)
