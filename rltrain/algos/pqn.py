"""Parallel Q-learning (Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", algorithm 2).

G_t = r_t + gamma ((1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1});    minimise (G_t - Q(s_t, a_t))^2 / 2

Nothing of DQN's machinery: many environments decorrelate the samples instead of a replay, and layer normalisation
keeps the values from running away instead of a target network (section 3).

repeat: act epsilon-greedily for num_steps in every environment
        G = lambda returns from the values that the network gave while acting
        num_epochs times over the shuffled rollout: one optimizer step for each minibatch
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain import device as devices
from rltrain import distributions, networks, optimizers
from rltrain.agent_panel import show_agent
from rltrain.algos.pqn_config import PQNConfig
from rltrain.collector import Collector
from rltrain.compilation import compiled
from rltrain.config import RunConfig
from rltrain.evaluate import Agent
from rltrain.evaluate import play_episodes as evaluate  # noqa: F401  (how this algorithm is evaluated)
from rltrain.math import losses, schedules
from rltrain.math.returns import lambda_returns
from rltrain.memory.rollout import Rollout
from rltrain.micro_batches import MicroBatches
from rltrain.run import Run
from rltrain.trained import Trained


class PQN:
    """The one network, its optimizer, and how much it explores."""

    def __init__(
        self, run_config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        config: PQNConfig = run_config.algo
        self.config = config
        self.micro_batches = MicroBatches(run_config)
        self.num_actions = int(action_space.n)
        self.distribution = distributions.of(action_space)
        self.device = devices.resolve_device(run_config.device)
        pixels = len(frame_space.shape or ()) == 3
        dtype = devices.resolve_precision(run_config.precision, self.device, pixels)

        def make() -> networks.QNetwork:
            torso = networks.Torso(
                frame_space, run_config.env.stack_num, run_config.network, dtype, False, config.layer_norm
            )
            return networks.QNetwork(torso, self.num_actions, dueling=False)

        self.network: networks.QNetwork = networks.build(seed, make, self.device)
        self.compiled = compiled(self.network) if run_config.compile else None
        devices.set_up_processor(self.network.torso.large_layers)
        devices.set_up_tensor_cores(run_config.precision, self.device)
        self.trained = Trained(self.network)
        self.optimizer = torch.optim.RAdam(self.trained.tensors, lr=config.learning_rate)
        self.epsilon = config.epsilon_end
        self.num_updates = 0

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions [B] int64; not greedy means epsilon-greedy with the last epsilon of the schedule."""
        epsilon = 0.0 if greedy else self.config.epsilon_end
        return self.for_env(self._epsilon_greedy(devices.to_device(obs, self.device), epsilon, generator)[0])

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Epsilon-greedy actions [B] int64, and max_a Q(s, a) [B], twice: there is no distribution to tell of."""
        action, value = self._epsilon_greedy(obs, self.epsilon, generator)
        return action, value, value

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Zeros [B]: nothing reads them."""
        return torch.zeros_like(outputs)

    def value(self, obs: np.ndarray) -> Tensor:
        """max_a Q(s, a), [B]."""
        with torch.inference_mode():
            return self.network(devices.to_device(obs, self.device)).amax(dim=-1)

    def for_env(self, action: Tensor) -> np.ndarray:
        """Actions as the environments take them."""
        return action.cpu().numpy()

    def update(self, rollout: Rollout, returns: Tensor, index: Tensor) -> dict[str, Any]:
        """One optimizer step on the minibatch at `index` [N] of the flat rollout; returns metrics."""
        metrics = self.micro_batches.accumulate_gradients(
            self.optimizer, len(index), lambda rows: self._loss(rollout, returns, index[rows])
        )
        metrics["train/grad_norm"] = optimizers.clip_gradients(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        self.num_updates += 1
        return metrics | {"train/n_updates": self.num_updates}

    def _loss(self, rollout: Rollout, returns: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The loss of the steps at `index` and its metrics: means over them."""
        obs = rollout.obs_at(index)
        q = self.network(obs) if self.compiled is None else self.compiled(obs)
        loss, td_error = losses.td_loss(q, rollout.flat("action")[index], returns.flatten()[index])
        return loss, {
            "train/loss": loss.detach(),
            "train/q_mean": q.detach().mean(),
            "train/td_error": td_error.abs().mean(),
        }

    def anneal(self, step: int, total_steps: int) -> None:
        """Set epsilon and the learning rate for the next rollout."""
        config = self.config
        exploration_steps = config.exploration_fraction * total_steps
        self.epsilon = schedules.linear(step, config.epsilon_start, config.epsilon_end, exploration_steps)
        optimizers.anneal(self.optimizer, config, step, total_steps)

    def state_dict(self) -> dict[str, Any]:
        """Everything that an update changes."""
        return {
            "network": self.network.state_dict(),
            "optimizer": optimizers.state_dict(self.optimizer, self.trained),
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        optimizers.load_state_dict(self.optimizer, self.trained, state["optimizer"])
        self.num_updates = int(state["num_updates"])

    def _epsilon_greedy(self, obs: Tensor, epsilon: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Actions [B] int64, one coin for each environment, and max_a Q(s, a) [B]."""
        with torch.inference_mode():
            value, greedy_action = self.network(obs).max(dim=-1)
        random_action = devices.to_device(generator.integers(self.num_actions, size=len(obs)), self.device)
        explores = devices.to_device(generator.random(len(obs)) < epsilon, self.device)
        return torch.where(explores, random_action, greedy_action), value


make_agent = PQN


def train(run_config: RunConfig, run: Run) -> None:
    """The loop: collect, compute returns, learn, until total_steps are done."""
    config: PQNConfig = run_config.algo
    pool = run.make_pool()
    try:
        agent = PQN(run_config, pool.frame_space, pool.action_space, run.seed_of("network"))
        show_agent(run, pool.frame_space, pool.action_space, agent.network, agent.device)
        collector = Collector(agent, pool, run, run.generator("exploration"), run.env_seed(), config)
        run.restore(agent, environments=collector.stepper)
        rollout = collector.make_rollout(config.num_steps)
        shuffle = run.generator("minibatches")
        while not run.finished:
            agent.anneal(run.step, run_config.total_steps)
            collector.collect(rollout)
            with run.phase("learn"):
                returns = lambda_returns(
                    rollout.reward, rollout.discount, rollout.trace, rollout.next_value, config.q_lambda
                )
                for _ in range(config.num_epochs):
                    for index in rollout.minibatches(config.batch_size, shuffle):
                        metrics = agent.update(rollout, returns, index)
            run.record(metrics)
            run.record(
                {
                    "rollout/exploration_rate": agent.epsilon,
                    "train/learning_rate": agent.optimizer.param_groups[0]["lr"],
                }
            )
            run.after_step(config.num_steps * pool.num_envs, agent, environments=collector.stepper)
        run.conclude(agent, environments=collector.stepper)
    finally:
        pool.close()


def _check(agent: PQN) -> Agent:  # the type checker sees here that PQN is what evaluation and checkpoints take
    return agent
