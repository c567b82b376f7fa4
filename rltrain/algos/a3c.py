"""Asynchronous advantage actor-critic (Mnih et al. 2016, algorithm S3).

Every worker, a process with one thread, its own environments and its own copy of the network:

repeat: copy the shared parameters
        act for num_steps in its environments; A and R as in A2C
        gradient of  -log pi(a|s) A + w_v (V(s) - R)^2 / 2 - w_e H[pi]  on its copy
        step the shared optimizer with it: parameters and optimizer statistics belong to all workers

By the time a gradient is applied, others may have moved the parameters: that is the method. A step of the optimizer is
short and taken under a lock, so no update is lost or torn (the paper does without). Acting and gradients, which take
the time, run side by side. After each update a worker waits for a word of the trainer, which counts the steps: so the
trainer's evaluations and checkpoints see no half-made update, and it notices at once when a worker is gone.
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
from rltrain.math.losses import explained_variance, normalize, policy_gradient_loss, value_loss
from rltrain.math.returns import gae
from rltrain.math.schedules import linear_or_constant
from rltrain.nn.learner import Loss
from rltrain.run.run import Run


class A3C(PolicyAgent):
    """An actor-critic network and its optimizer: the trainer's, which is shared, or a worker's copy."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        self.config: A3CConfig = config.algo
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


make_agent = A3C


class Start(NamedTuple):
    """What a worker begins with."""

    env_seed: int
    generator: np.random.Generator


def work(config: RunConfig, shared: Shared, trainer: Link, start: Start) -> None:
    """A worker's life: collect, learn on a copy, step the shared parameters, until the trainer hangs up."""
    c: A3CConfig = config.algo
    pool = registry.make_pool(config.env, c.num_envs // c.num_workers)
    try:
        agent = A3C(config, pool.frame_space, pool.action_space, seed=0)
        shared.attach(agent.learner.optimizer)
        collector = Collector(agent.actor, pool, trainer, start.generator, start.env_seed, c)
        while True:
            agent.learner.set_learning_rate(trainer.next_learning_rate())
            shared.copy_to(agent.learner.trained)
            rollout = collector.collect()
            with trainer.phase("learn"):
                advantage = gae(
                    rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, c.gae_lambda
                )
                returns = advantage + rollout.value
                batch = rollout.whole(normalize(advantage) if c.normalize_advantage else advantage, returns)
                agent.learner.compute_gradients(agent.loss, batch)
                shared.step(agent.learner)
            explained = explained_variance(batch.value, batch.returns)
            trainer.report(agent.learner.metrics() | {"train/explained_variance": explained})
    finally:
        pool.close()


def train(config: RunConfig, run: Run) -> None:
    """The trainer: count what the workers did, and let them go on until total_steps are done."""
    c: A3CConfig = config.algo
    agent = A3C(config, *registry.spaces(config.env), run.seed_of("network"))
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
            if run.stopping:  # although no worker may have reported: a rollout can take long
                with workers.paused():
                    run.stop_if_asked()


def make_start(run: Run, index: int) -> Start:
    """Seeds of a worker; the first one draws the numbers that A2C would."""
    which = "".join(f"-{number}" for number in (index, run.step) if number)
    env_seed = run.seed_of(f"environments{which}") if index else run.env_seed()
    return Start(env_seed, run.generator(f"actions{which}"))


def learning_rate(c: A3CConfig, run: Run) -> float:
    """The step size of the next rollout, by the steps that are done."""
    return linear_or_constant(run.step, c.learning_rate, c.learning_rate_end, run.config.total_steps)
