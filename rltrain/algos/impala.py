"""IMPALA, an importance-weighted actor-learner architecture (Espeholt et al. 2018).

rho_t = min(rho_clip, pi(a_t|s_t) / mu(a_t|s_t)),    c_t = lambda min(c_clip, pi(a_t|s_t) / mu(a_t|s_t))
v_t = V(s_t) + rho_t (r_t + gamma V(s_{t+1}) - V(s_t)) + gamma c_t (v_{t+1} - V(s_{t+1}))               (eq. 1)
A_t = rho_t (r_t + gamma v_{t+1} - V(s_t))                                                       (section 4.2)
minimise  -log pi(a_t|s_t) A_t + w_v (V(s_t) - v_t)^2 / 2 - w_e H[pi(s_t)]

mu is the policy that acted, pi and V are those that learn. Players act while the learner learns, so mu is some updates
older than pi. V-trace, the first two lines, corrects for that. With mu = pi it is the n-step return of A2C.

players, repeat: take the newest weights; act for num_steps in every environment; send the chunk
learner, repeat: take chunks with num_envs trajectories; compute v and A; take one optimizer step on all of them;
                 publish the weights

The fleet (parts/players.py) decides where players run. In one process they act by turns with the learner, with the
weights of policy_lag updates ago. With runtime=ray they are actors of a Ray cluster.
"""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.algos.parts.fleets import make_fleet
from rltrain.algos.parts.players import make_actor
from rltrain.buffers.chunk import Chunk, Trajectories, joined, stacks, successors
from rltrain.config.algorithms import IMPALAConfig
from rltrain.config.run import RunConfig
from rltrain.math.losses import approx_kl, explained_variance, policy_gradient_loss, value_loss
from rltrain.math.returns import vtrace
from rltrain.math.rewards import learned_reward
from rltrain.nn import weights as network_weights
from rltrain.nn.device import to_device
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


class IMPALA(PolicyAgent):
    """The IMPALA agent: an actor-critic network and its learner."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: IMPALAConfig = config.algo
        actor = Actor(config, frame_space, action_space, seed)
        super().__init__(config, actor, self.config.optimizer, self.config.optimizer_eps)

    def trajectories(self, chunk: Chunk) -> Trajectories:
        """Return a chunk on the learner's device: stacked, with learned rewards and the values of truncated ends."""
        c, device = self.config, self.learner.device

        def sent(array: np.ndarray) -> Tensor:
            return to_device(array, device)

        obs = stacks(sent(chunk.frame), sent(chunk.first))
        cut_value = torch.zeros(chunk.reward.shape, device=device)
        if len(chunk.last_frame):
            cut = sent(chunk.truncated)
            cut_value[cut] = self.actor.value(successors(obs[:-1][cut], sent(chunk.last_frame)))
        reward = learned_reward(chunk.reward, c.reward_scale, c.reward_clip)
        discount = np.where(chunk.terminated, np.float32(0), np.float32(c.gamma))
        trace = (~(chunk.terminated | chunk.truncated)).astype(np.float32)
        return Trajectories(
            obs, sent(chunk.action), sent(chunk.log_prob), sent(reward), sent(discount), sent(trace), cut_value
        )

    def loss(self, batch: Trajectories) -> Loss:
        """Return the mean of -log pi A + w_v (V - v)^2 / 2 - w_e H. The paper sums over the steps."""
        c, shape = self.config, batch.reward.shape
        outputs, values = self.network(batch.obs.flatten(0, 1))
        num_acted = batch.reward.numel()
        log_prob, entropy = self.actor.distribution.log_prob_entropy(outputs[:num_acted], batch.action.flatten(0, 1))
        behaviour, value = batch.log_prob.flatten(), values[:num_acted]
        ratio = (log_prob.detach() - behaviour).exp()
        next_value = values.detach().view(-1, shape[1])[1:] * batch.trace + batch.cut_value
        target, advantage = vtrace(
            batch.reward,
            batch.discount,
            batch.trace,
            value.detach().view(shape),
            next_value,
            ratio.view(shape),
            c.rho_clip,
            c.c_clip,
            c.vtrace_lambda,
        )
        target = target.flatten()
        actor_loss = policy_gradient_loss(log_prob, advantage.flatten()).mean()
        critic_loss = value_loss(value, target).mean()
        mean_entropy = entropy.mean()
        loss = actor_loss + c.value_weight * critic_loss - c.entropy_weight * mean_entropy
        actor_loss, critic_loss, mean_entropy = actor_loss.detach(), critic_loss.detach(), mean_entropy.detach()
        log_prob, value = log_prob.detach(), value.detach()
        return Loss(
            loss,
            lambda: {
                "train/policy_gradient_loss": actor_loss,
                "train/value_loss": critic_loss,
                "train/entropy_loss": -mean_entropy,
                "train/explained_variance": explained_variance(value, target),
                "train/approx_kl": approx_kl(log_prob, behaviour),
                # By 10 % or more: with the usual limit of 1, half of all ratios are a little above it.
                "train/clip_fraction": (ratio > 1.1 * c.rho_clip).float().mean(),
            },
        )


make_agent = IMPALA


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: IMPALAConfig = config.algo
    agent = IMPALA(config, *run.spaces, run.seed_of("network"))
    fleet = make_fleet(config, run, make_actor, c.num_steps, c.policy_lag)
    run.begin(agent, **fleet.parts)
    if not fleet.has_weights:
        fleet.publish(network_weights.read(agent.network), agent.learner.num_updates)
    while not run.finished:
        run.stop_if_asked()
        chunks = fleet.chunks()
        if not chunks:
            continue
        chunk = joined(chunks)
        agent.learner.anneal_learning_rate(run.step)
        for episodes in chunk.episodes:
            run.advance(chunk.num_envs, episodes)
        run.spend("env", chunk.env_s)
        run.record({"train/policy_lag": agent.learner.num_updates - chunk.version, **fleet.metrics})
        with run.phase("learn"):
            agent.learner.step(agent.loss, agent.trajectories(chunk))
            fleet.publish(network_weights.read(agent.network), agent.learner.num_updates)
        run.record(agent.learner.metrics)
        run.after_step(chunk.num_steps * chunk.num_envs)
