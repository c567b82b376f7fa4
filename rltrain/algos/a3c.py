"""Asynchronous advantage actor-critic (Mnih et al. 2016, algorithm S3).

Every worker, a process with one thread, its own environments and its own copy of the network:

repeat: copy the shared parameters
        act for num_steps in its environments; A and R as in A2C
        gradient of  -log pi(a|s) A + w_v (V(s) - R)^2 / 2 - w_e H[pi]  on its copy
        step the shared optimizer with it: parameters and optimizer statistics belong to all workers

By the time a gradient is applied, others may have moved the parameters: that is the method. A step of the optimizer is
short and taken under a lock, so no update is lost or torn (the paper does without); acting and gradients, which take
the time, run side by side. After each update a worker waits for a word of the trainer, which counts the steps: so the
trainer's evaluations and checkpoints see no half-made update, and a worker that is gone is noticed at once.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import optimizers
from rltrain.actor import Actor
from rltrain.agent_panel import show_agent
from rltrain.algos.a3c_config import A3CConfig
from rltrain.async_workers import Link, Shared, Workers
from rltrain.collector import Collector
from rltrain.config import RunConfig
from rltrain.envs import registry
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses, schedules
from rltrain.math.returns import gae
from rltrain.memory.rollout import Rollout
from rltrain.policy_agent import PolicyAgent
from rltrain.run import Run
from rltrain.trained import Trained


class A3C(PolicyAgent):
    """The shared actor-critic network and its shared optimizer."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        config: A3CConfig = run_config.algo
        actor = Actor(run_config, frame_space, action_space, seed)
        super().__init__(actor, config.optimizer, config.learning_rate, config.optimizer_eps)


make_agent = A3C


def compute_gradients(actor: Actor, trained: Trained, rollout: Rollout, config: A3CConfig) -> dict[str, Any]:
    """Leave the gradients of one rollout on what is trained of the worker's own network; returns metrics."""
    advantage = gae(
        rollout.reward, rollout.discount, rollout.trace, rollout.value, rollout.next_value, config.gae_lambda
    ).flatten()
    returns = advantage + rollout.flat("value")
    if config.normalize_advantage:
        advantage = losses.normalize(advantage)
    log_prob, entropy, value = actor.evaluate(rollout.flat("obs"), rollout.flat("action"))
    policy_loss = losses.policy_gradient_loss(log_prob, advantage).mean()
    value_loss = losses.value_loss(value, returns).mean()
    entropy_mean = entropy.mean()
    loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy_mean
    trained.forget_gradients()
    loss.backward()
    metrics: dict[str, Tensor] = {
        "train/loss": loss.detach(),
        "train/policy_gradient_loss": policy_loss.detach(),
        "train/value_loss": value_loss.detach(),
        "train/entropy_loss": -entropy_mean.detach(),
        "train/explained_variance": losses.explained_variance(rollout.flat("value"), returns),
        "train/grad_norm": optimizers.clip_gradients(trained, config.max_grad_norm),
    }
    return {tag: float(value) for tag, value in metrics.items()}


class Start(NamedTuple):
    """What a worker begins with."""

    env_seed: int
    generator: np.random.Generator


def work(run_config: RunConfig, shared: Shared, trainer: Link, start: Start) -> None:
    """A worker's life."""
    config: A3CConfig = run_config.algo
    pool = registry.make_pool(run_config.env, config.num_envs // config.num_workers)
    try:
        actor = Actor(run_config, pool.frame_space, pool.action_space, seed=0)
        torch.set_num_threads(1)
        trained = Trained(actor.network)
        optimizer = optimizers.make(config.optimizer, trained, config.learning_rate, config.optimizer_eps)
        shared.attach(optimizer)
        collector = Collector(actor, pool, trainer, start.generator, start.env_seed, config)
        rollout = collector.make_rollout(config.num_steps)
        while True:  # until the trainer hangs up
            learning_rate = trainer.next_learning_rate()
            shared.copy_to(trained)
            collector.collect(rollout)
            with trainer.phase("learn"):
                metrics = compute_gradients(actor, trained, rollout, config)
                optimizers.set_learning_rate(optimizer, learning_rate)
                shared.step(trained, optimizer)
            trainer.report(metrics | {"train/learning_rate": learning_rate})
    finally:
        pool.close()


def train(run_config: RunConfig, run: Run) -> None:
    """The trainer: counts what the workers did, and lets them go on until total_steps are done."""
    config: A3CConfig = run_config.algo
    frame_space, action_space = registry.spaces(run_config.env)
    agent = A3C(run_config, frame_space, action_space, run.seed_of("network"))
    run.restore(agent)
    show_agent(run, frame_space, action_space, agent.actor.network, agent.actor.device)
    shared = Shared(agent.actor.network, agent.trained, agent.optimizer)
    workers = Workers(work, run_config, shared, [make_start(run, index) for index in range(config.num_workers)])
    try:
        for index in range(config.num_workers if not run.finished else 0):
            workers.go_on(index, learning_rate(config, run))
        while workers.playing:
            for index, report in workers.reports():
                agent.num_updates += 1
                for num_steps, episodes in report.steps:
                    run.advance(num_steps, episodes)
                for name, seconds in report.phase_s.items():
                    run.spend(name, seconds / config.num_workers)
                optimizers.set_learning_rate(agent.optimizer, report.metrics["train/learning_rate"])
                run.record(report.metrics | {"train/n_updates": agent.num_updates})
                with workers.paused():
                    run.after_step(sum(num_steps for num_steps, _ in report.steps), agent)
                if not run.finished:
                    workers.go_on(index, learning_rate(config, run))
            if run.stopping:  # although no worker may have reported: a rollout can take long
                with workers.paused():
                    run.stop_if_asked(agent)
    finally:
        workers.close()
    run.conclude(agent)


def make_start(run: Run, index: int) -> Start:
    """Seeds of a worker; the first one draws the numbers that A2C would."""
    which = "".join(f"-{number}" for number in (index, run.step) if number)
    env_seed = run.seed_of(f"environments{which}") if index else run.env_seed()
    return Start(env_seed, run.generator(f"actions{which}"))


def learning_rate(config: A3CConfig, run: Run) -> float:
    """Of the next rollout, by the steps that are done."""
    return schedules.linear_or_constant(
        run.step, config.learning_rate, config.learning_rate_end, run.config.total_steps
    )


def _check(agent: A3C) -> Agent:  # the type checker sees here that A3C is what evaluation and checkpoints take
    return agent
