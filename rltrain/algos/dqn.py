"""Deep Q-learning (Mnih et al. 2015) with double, dueling, prioritized and n-step variants.

y = r + gamma (1 - terminated) max_a Q(s', a; target);    minimise Huber(y - Q(s, a; online)), or its square / 2
double:      the online network chooses a in y, the target network judges it (van Hasselt et al. 2016, eq. 4)
dueling:     Q = V + A - mean A, in the network's head (Wang et al. 2016, eq. 9)
prioritized: transitions are drawn in proportion to |td error|^alpha (Schaul et al. 2016)
n_step:      r becomes sum gamma^k r_k over n steps, gamma becomes gamma^n (Sutton & Barto 2018, eq. 7.1)

repeat: act epsilon-greedily in every environment; store the transitions
        every few steps: sample a batch, take one optimizer step, tell the replay the td errors
        every few updates: copy the online network into the target network
"""

import functools
import math
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import cuda_graphs, networks, optimizers
from rltrain import device as devices
from rltrain.agent_panel import show_agent
from rltrain.algos.dqn_config import DQNConfig
from rltrain.compilation import compiled
from rltrain.config import RunConfig
from rltrain.envs.stepper import Stepper
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses, schedules
from rltrain.math.rewards import learned_reward
from rltrain.memory.batch import Batch
from rltrain.memory.device_frames import DeviceFrames
from rltrain.memory.frames import HostFrames
from rltrain.memory.prioritized import PrioritizedReplay
from rltrain.memory.replay import Replay
from rltrain.micro_batches import MicroBatches
from rltrain.run import Run
from rltrain.trained import Trained


class DQN:
    """The online and the target network, the optimizer, and the count of updates."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        config: DQNConfig = run_config.algo
        self.config = config
        self.micro_batches = MicroBatches(run_config)
        self.num_actions = int(action_space.n)
        self.device = devices.resolve_device(run_config.device)
        pixels = len(frame_space.shape or ()) == 3
        dtype = devices.resolve_precision(run_config.precision, self.device, pixels)

        def make() -> networks.QNetwork:
            torso = networks.Torso(frame_space, run_config.env.stack_num, run_config.network, dtype, init=False)
            return networks.QNetwork(torso, self.num_actions, config.dueling)

        self.online = networks.build(seed, make, self.device)
        self.target = networks.build(seed, make, self.device)
        self.compiled = compiled(self.online) if run_config.compile else None
        devices.set_up_processor(self.online.torso.large_layers)
        devices.set_up_tensor_cores(run_config.precision, self.device)
        self.trained = Trained(self.online)
        self.optimizer = optimizers.make("adam", self.trained, config.learning_rate, config.adam_eps)
        self.huber_delta = {"huber": 1.0, "squared": None}[config.loss]
        self.num_updates = 0
        self.values = cuda_graphs.graphed(self.online, run_config, self.device)
        self.learn = cuda_graphs.graphed(self._learn, run_config, self.device, self.trained.tensors)

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions [B]; not greedy means epsilon-greedy with the last epsilon of the schedule."""
        return self.act(obs, 0.0 if greedy else self.config.epsilon_end, generator)

    def act(self, obs: np.ndarray, epsilon: float, generator: np.random.Generator) -> np.ndarray:
        """Epsilon-greedy actions [B] int64: one coin for each environment."""
        random_action = generator.integers(self.num_actions, size=len(obs))
        explores = generator.random(len(obs)) < epsilon
        if explores.all():
            return random_action
        with torch.inference_mode():
            q = self.values(obs=devices.to_device(obs, self.device)).cpu().numpy()
        return np.where(explores, random_action, q.argmax(axis=-1))

    def update(self, batch: Batch, measured: bool = True) -> tuple[Tensor, dict[str, Any]]:
        """One optimizer step on a batch; returns the td errors [N] float32 and, if `measured`, metrics."""
        td_error, metrics = self.learn(batch=batch, measured=measured)
        self.num_updates += 1
        if self.num_updates % self.config.target_period_updates == 0:
            self.target.load_state_dict(self.online.state_dict())
        return td_error, metrics | {"train/n_updates": self.num_updates}

    def _learn(self, batch: Batch, measured: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """What can be recorded of `update`: gradients, clipping, the optimizer's step."""
        td_error = torch.empty(len(batch.index), device=self.device)
        metrics = self.micro_batches.accumulate_gradients(
            self.optimizer, len(batch.index), lambda rows: self._loss(batch.rows(rows), td_error[rows], measured)
        )
        metrics["train/grad_norm"] = optimizers.clip_gradients(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        return td_error, metrics

    def _loss(self, batch: Batch, td_error_out: Tensor, measured: bool) -> tuple[Tensor, dict[str, Any]]:
        """The loss of a batch and, if `measured`, its metrics: means over it. Its td errors go to `td_error_out`."""
        obs, next_obs, action, reward, discount, weight = (
            devices.to_device(array, self.device)
            for array in (batch.obs, batch.next_obs, batch.action, batch.reward, batch.discount, batch.weight)
        )
        q = self.online(obs) if self.compiled is None else self.compiled(obs)
        with torch.no_grad():
            next_q = self.target(next_obs)
            if self.config.double:
                target = losses.double_q_learning_target(reward, discount, self.online(next_obs), next_q)
            else:
                target = losses.q_learning_target(reward, discount, next_q)
        loss, td_error = losses.td_loss(q, action, target, weight, self.huber_delta)
        td_error_out.copy_(td_error)
        if not measured:
            return loss, {}
        return loss, {
            "train/loss": loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/td_error": td_error.abs().mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that an update changes."""
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": optimizers.state_dict(self.optimizer, self.trained),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        optimizers.load_state_dict(self.optimizer, self.trained, state["optimizer"])
        self.num_updates = int(state["num_updates"])


make_agent = DQN


def make_replay(
    config: DQNConfig,
    frame_space: gymnasium.Space,
    stack_num: int,
    generator: np.random.Generator,
    device: torch.device,
) -> Replay | PrioritizedReplay:
    """Uniform or prioritized, for single frames, which lie on the device if `replay_device` and its memory allow."""
    shape, dtype = tuple(frame_space.shape or ()), frame_space.dtype
    assert dtype is not None
    num_bytes = config.replay_capacity * math.prod(shape) * dtype.itemsize
    on_device = devices.takes_replay(config.replay_device, device, num_bytes)
    replay = Replay(
        config.replay_capacity,
        config.num_envs,
        shape,
        dtype,
        (),
        np.int64,
        stack_num,
        config.n_step,
        config.gamma,
        generator,
        functools.partial(DeviceFrames, device=device) if on_device else HostFrames,
    )
    return (
        PrioritizedReplay(replay, config.priority_alpha, config.priority_beta_start) if config.prioritized else replay
    )


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: act, store, learn, until total_steps are done."""
    config: DQNConfig = run_config.algo
    pool = run.make_pool()
    try:
        agent = DQN(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        replay = make_replay(config, pool.frame_space, pool.stack_num, run.generator("replay"), agent.device)
        exploration = run.generator("exploration")
        envs = Stepper(pool, run.env_seed())
        if run.restore(agent, replay=replay, environments=envs) and envs.first.all():
            replay.end_episodes()  # these environments could not go on: they begin new episodes
        show_agent(run, pool.frame_space, pool.action_space, agent.online, agent.device, replay.nbytes)

        run.record({"memory/replay_mb": replay.nbytes / 1e6})
        exploration_steps = config.exploration_fraction * run_config.total_steps
        while not run.finished:
            epsilon = schedules.linear(run.step, config.epsilon_start, config.epsilon_end, exploration_steps)
            if run.step < config.learning_starts:
                epsilon = 1.0
            frame, first = envs.frame, envs.first
            action = agent.act(envs.obs, epsilon, exploration)
            with run.phase("env"):
                timestep, _ = envs.step(action)
            reward = learned_reward(timestep.reward, config.reward_scale, config.reward_clip)
            replay.add(
                frame,
                action,
                reward,
                timestep.terminated,
                timestep.truncated,
                timestep.next_obs,
                first,
                timestep.first,
            )
            run.advance(pool.num_envs, timestep.episodes)

            rounds = run.step // config.train_every_steps - (run.step - pool.num_envs) // config.train_every_steps
            if rounds and run.step >= config.learning_starts and replay.size >= config.batch_size:
                learning_rate = optimizers.anneal(agent.optimizer, config, run.step, run_config.total_steps)
                run.record({"train/learning_rate": learning_rate})
                num_updates = rounds * config.updates_per_round
                replay.beta = schedules.linear(run.step, config.priority_beta_start, 1.0, run_config.total_steps)
                with run.phase("learn"):
                    for number, batch in enumerate(replay.batches(num_updates, config.batch_size), 1):
                        td_error, metrics = agent.update(batch, measured=number == num_updates)
                        replay.update_priorities(batch.index, td_error)
                        run.record(metrics)
                    optimizers.check_finite(agent.trained)
            run.record({"rollout/exploration_rate": epsilon})
            run.after_step(pool.num_envs, agent, replay=replay, environments=envs)
        run.conclude(agent, replay=replay, environments=envs)
    finally:
        pool.close()


def _check(agent: DQN) -> Agent:  # the type checker sees here that DQN is what evaluation and checkpoints take
    return agent
