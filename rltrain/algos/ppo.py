"""Proximal policy optimization with a clipped surrogate (Schulman et al. 2017, algorithm 1).

A_t = delta_t + gamma lambda A_{t+1},    delta_t = r_t + gamma V(s_{t+1}) - V(s_t)              (eq. 11 and 12)
R = A + V_old                                                                                   (V^targ)
ratio = pi(a|s) / pi_old(a|s)
minimise  -min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) + w_v (V - R)^2 / 2 - w_e H[pi]        (eq. 7 and 9)

In the paper's letters: N is num_envs, T num_steps, K num_epochs, M batch_size, eps clip_range, c2 = w_e, and
c1 = w_v / 2, because the paper's value loss has no factor 1/2.

repeat: act for num_steps in every environment with the current policy, which becomes pi_old
        compute A and R
        for num_epochs: shuffle the rollout; take one optimizer step on each minibatch
"""

from dataclasses import replace

import gymnasium

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.algos.parts.collector import Collector
from rltrain.algos.parts.minibatches import epochs, normalized
from rltrain.algos.parts.reward_scale import RewardScale
from rltrain.buffers.rollout import Minibatch
from rltrain.config.algorithms import PPOConfig
from rltrain.config.run import RunConfig
from rltrain.math.losses import approx_kl, clip_fraction, explained_variance, ppo_loss
from rltrain.math.returns import gae
from rltrain.math.schedules import linear_or_constant
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


class PPO(PolicyAgent):
    """The PPO agent: an actor-critic network and its learner."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: PPOConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed)
        super().__init__(config, actor, "adam", self.config.adam_eps)

    def update(self, batch: Minibatch, clip_range: float, entropy_weight: float) -> None:
        """Take one optimizer step on a minibatch. Advantages are normalised over the whole minibatch."""
        if self.config.normalize_advantage:
            batch = replace(batch, advantage=normalized(batch.advantage, self.learner.group))
        self.learner.step(self.loss, batch, clip_range=clip_range, entropy_weight=entropy_weight)

    def loss(self, batch: Minibatch, clip_range: float, entropy_weight: float) -> Loss:
        """Return -(L^CLIP - c1 L^VF + c2 S): equation 9 with its sign reversed, written out in `ppo_loss`."""
        c = self.config
        new_log_prob, entropy, value = self.actor.evaluate(batch.obs, batch.action)
        loss, policy_loss, value_loss, mean_entropy = ppo_loss(
            new_log_prob,
            entropy,
            value,
            old_log_prob_B=batch.log_prob,
            old_value_B=batch.value,
            advantage_B=batch.advantage,
            return_B=batch.returns,
            clip_range=clip_range,
            clip_value_range=c.clip_value_range,
            value_weight=c.value_weight,
            entropy_weight=entropy_weight,
        )
        new_log_prob = new_log_prob.detach()
        return Loss(
            loss,
            lambda: {
                "train/policy_gradient_loss": policy_loss,
                "train/value_loss": value_loss,
                "train/entropy_loss": -mean_entropy,
                "train/approx_kl": approx_kl(new_log_prob, batch.log_prob),
                "train/clip_fraction": clip_fraction(new_log_prob, batch.log_prob, clip_range),
            },
        )


make_agent = PPO


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: PPOConfig = config.algo
    agent = PPO(config, *run.spaces, run.seed_of("network"))
    agent.learner.join(run.group, run.share.weight)
    collector = Collector(agent.actor, run.pool, run, run.row_generator("actions"), run.env_seed(), c)
    minibatch_generator = run.generator("minibatches")
    scale = RewardScale(c.num_envs, c.gamma) if c.normalize_reward else None
    run.begin(agent, environments=collector, **({"reward_scale": scale} if scale else {}))
    while not run.finished:
        agent.learner.anneal_learning_rate(run.step)
        clip_range = linear_or_constant(run.step, c.clip_range, c.clip_range_end, config.total_steps)
        entropy_weight = linear_or_constant(run.step, c.entropy_weight, c.entropy_weight_end, config.total_steps)
        rollout = collector.collect()
        with run.phase("learn"):
            if scale:
                rollout.reward.copy_(scale(rollout.reward, rollout.trace))
            advantage = gae(
                rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, c.gae_lambda
            )
            returns = advantage + rollout.value
            for index in epochs(rollout, c, minibatch_generator, run.group, run.share):
                agent.update(rollout.minibatch(index, advantage, returns), clip_range, entropy_weight)
        run.record({"train/explained_variance": explained_variance(rollout.flat("value"), returns.flatten())})
        run.record(agent.learner.metrics)
        run.after_step(c.num_steps * c.num_envs)
