"""Asynchronous advantage actor-critic (Mnih et al. 2016, section 4 and algorithm S3).

R_t = r_t + gamma r_{t+1} + ... + gamma^n V(s_{t+n}),    A_t = R_t - V(s_t)
minimise  -log pi(a_t|s_t) A_t + w_v (V(s_t) - R_t)^2 / 2 - w_e H[pi(s_t)]

n = the steps left in the rollout; num_steps is the paper's t_max. If the episode ends earlier, the sum ends there.

Each worker is a process with one thread, its own environments and its own copy of the network.

repeat: copy the shared parameters to the worker's network
        act for num_steps in the worker's environments; compute A_t and R_t as in A2C
        compute the gradient of the loss on the worker's network
        take one step of the shared optimizer with this gradient

All workers share the parameters and the optimizer's statistics. Other workers may update the parameters between the
copy and the step; this is the method. Acting and gradients run in parallel. The copy and the optimizer step hold a
lock, and so does the trainer while it evaluates and saves. So no update is lost. (The paper uses no lock.)

After each update a worker reports to the trainer and waits for its answer. The trainer counts the steps, evaluates and
saves checkpoints.
"""

from typing import NamedTuple

import gymnasium
import numpy as np

from rltrain.algos.parts.actor import Actor, PolicyAgent
from rltrain.algos.parts.async_workers import Link, Shared, Workers
from rltrain.algos.parts.collector import Collector
from rltrain.buffers.rollout import Minibatch
from rltrain.config.algorithms import A3CConfig
from rltrain.config.run import RunConfig
from rltrain.envs import registry
from rltrain.envs.spaces import check_made_for
from rltrain.math.losses import explained_variance, normalize, policy_gradient_loss, value_loss
from rltrain.math.returns import gae
from rltrain.math.schedules import linear_or_constant
from rltrain.nn.learner import Loss
from rltrain.run.run import Run
from rltrain.system import global_random


class A3C(PolicyAgent):
    """The A3C agent: an actor-critic network and its learner. The trainer has one, and each worker has a copy."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: A3CConfig = config.algo
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


make_agent = A3C


class Start(NamedTuple):
    """The random numbers of one worker, and the spaces that its environments must have."""

    env_seed: int
    """The seed of the worker's environments."""
    constructor_seed: int
    """The seed of what their constructors draw."""
    generator: np.random.Generator
    """Samples the worker's actions."""
    made_for: list[str]
    """The spaces of the trainer's agent, of `in_words`."""


def work(config: RunConfig, shared: Shared, trainer: Link, start: Start) -> None:
    """Run one worker until the trainer closes the connection: collect, compute gradients, step the shared optimizer."""
    c: A3CConfig = config.algo
    global_random.seed(start.constructor_seed)
    pool = registry.make_pool(config.env, c.num_envs // c.num_workers)
    try:
        check_made_for(pool, start.made_for)
        agent = A3C(config, pool.frame_space, pool.action_space, seed=0)  # copy_to overwrites these weights
        shared.attach(agent.learner.optimizer)
        collector = Collector(agent.actor, pool, trainer, start.generator, start.env_seed, c)
        while True:
            agent.learner.set_learning_rate(trainer.wait_for_learning_rate())
            shared.copy_to(agent.learner.trained)
            rollout = collector.collect()
            with trainer.phase("learn"):
                advantage = gae(
                    rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, c.gae_lambda
                )
                returns = advantage + rollout.value
                batch = rollout.whole(normalize(advantage) if c.normalize_advantage else advantage, returns)
                agent.learner.compute_gradients(agent.loss, batch)
                shared.step(agent.learner)  # others may have stepped since copy_to: the asynchrony
            explained = explained_variance(batch.value, batch.returns)
            trainer.report(agent.learner.metrics() | {"train/explained_variance": explained})
    finally:
        pool.close()


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`: start the workers, count their steps, and let each play its next rollout."""
    c: A3CConfig = config.algo
    agent = A3C(config, *run.known_spaces, run.seed_of("network"))
    agent.learner.refuse_buffers("algo", "use algo=a2c")
    run.begin(agent)
    shared = Shared(agent.network, agent.learner)
    with Workers(work, config, shared, [make_start(run, index) for index in range(c.num_workers)]) as workers:
        for index in range(c.num_workers if not run.finished else 0):
            workers.go_on(index, learning_rate(c, run))
        while workers.playing:
            for index, report in workers.reports():
                agent.learner.num_updates += 1
                for num_steps, episodes in report.steps:
                    run.advance(num_steps, episodes)
                for name, seconds in report.phase_s.items():
                    run.spend(name, seconds / c.num_workers)
                agent.learner.set_learning_rate(report.metrics["train/learning_rate"])
                run.record(report.metrics | {"train/n_updates": agent.learner.num_updates})
                with workers.paused():
                    run.after_step(sum(num_steps for num_steps, _ in report.steps))
                if not run.finished:
                    workers.go_on(index, learning_rate(c, run))
            if run.stopping:  # do not wait for the next report: a rollout can take long
                with workers.paused():
                    run.stop_if_asked()


def make_start(run: Run, index: int) -> Start:
    """Return the seed and the generator of worker `index`. Worker 0 has the same random numbers as A2C."""
    resumed = f"-{run.step}" if run.step else ""  # a resumed run has new random numbers
    if index == 0:
        generator = run.generator(f"actions{resumed}")
        return Start(run.env_seed(), run.constructor_seed(), generator, run.spaces_in_words)
    env_seed, generator = run.seed_of(f"environments-{index}{resumed}"), run.generator(f"actions-{index}{resumed}")
    return Start(env_seed, run.seed_of(f"environments-{index}"), generator, run.spaces_in_words)


def learning_rate(c: A3CConfig, run: Run) -> float:
    """Return the learning rate of the next update, which depends on the current step."""
    return linear_or_constant(run.step, c.learning_rate, c.learning_rate_end, run.config.total_steps)
