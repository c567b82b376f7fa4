"""PQN, the parallelised Q-network (Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", algorithm 2).

G_t = r_t + gamma ((1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1})
minimise  (G_t - Q(s_t, a_t))^2 / 2

PQN has no replay buffer and no target network. Many environments decorrelate the samples, and layer normalisation
keeps the values from diverging (section 3).

repeat: act epsilon-greedily for num_steps in every environment; store max_a Q(s_t, a)
        compute G_t from the stored values
        for num_epochs: shuffle the rollout; take one optimizer step on each minibatch
"""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.algos.parts.collector import Collector
from rltrain.algos.parts.minibatches import epochs
from rltrain.algos.parts.q_network import make_q_network
from rltrain.buffers.rollout import ReturnBatch
from rltrain.config.algorithms import PQNConfig
from rltrain.config.run import RunConfig
from rltrain.math.losses import td_loss
from rltrain.math.returns import lambda_returns
from rltrain.math.schedules import linear
from rltrain.nn import distributions, weights
from rltrain.nn.device import to_device
from rltrain.nn.learner import Learner, Loss
from rltrain.run.run import Run


class PQN:
    """The PQN agent: one Q-network, its learner and the current epsilon."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.config: PQNConfig = config.algo
        self.num_actions = int(action_space.n)
        self.distribution = distributions.of(action_space)
        self.network = make_q_network(config, frame_space, self.num_actions, seed, layer_norm=self.config.layer_norm)
        self.learner = Learner(config, self.network, "radam")  # as in the paper's code
        self.device = self.learner.device
        self.epsilon = self.config.epsilon_end

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return actions [B] int64 for observations [B, *obs_shape]: greedy, or epsilon-greedy with `epsilon_end`."""
        epsilon = 0.0 if greedy else self.config.epsilon_end
        return self.for_env(self.epsilon_greedy(to_device(obs, self.device), epsilon, generator)[0])

    def act(self, obs: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return (action, outputs, value) for the collector: action [B] int64, value max_a Q(s, a) [B].

        PQN has no policy outputs, so `outputs` is the value again.
        """
        action, value = self.epsilon_greedy(obs, self.epsilon, generator)
        return action, value, value

    def epsilon_greedy(self, obs: Tensor, epsilon: float, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return epsilon-greedy actions [B] int64 and max_a Q(s, a) [B]; each environment explores by itself."""
        with torch.inference_mode():
            value, greedy_action = self.network(obs).max(dim=-1)
        random_action = to_device(generator.integers(self.num_actions, size=len(obs)), self.device)
        explores = to_device(generator.random(len(obs)) < epsilon, self.device)
        return torch.where(explores, random_action, greedy_action), value

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return zeros [B]: the collector stores them, but PQN does not use log-probabilities."""
        return torch.zeros_like(outputs)

    def value(self, obs: np.ndarray) -> Tensor:
        """Return max_a Q(s, a), [B]."""
        with torch.inference_mode():
            return self.network(to_device(obs, self.device)).amax(dim=-1)

    def for_env(self, action: Tensor) -> np.ndarray:
        """Return the actions as the environments take them: [B] int64 in NumPy."""
        return action.cpu().numpy()

    def loss(self, batch: ReturnBatch) -> Loss:
        """Return the mean of (G - Q(s, a))^2 / 2."""
        q = self.network(batch.obs)
        loss, td_error = td_loss(q, batch.action, batch.returns)
        q = q.detach()
        return Loss(loss, lambda: {"train/q_mean": q.mean(), "train/td_error": td_error.abs().mean()})

    def state_dict(self) -> dict:
        """Return the network, the optimizer's state and the number of updates."""
        return {"network": self.network.state_dict(), **self.learner.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state that `state_dict` returned."""
        weights.load(self.network, state["network"])
        self.learner.load_state_dict(state)


make_agent = PQN


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: PQNConfig = config.algo
    agent = PQN(config, *run.spaces, run.seed_of("network"))
    agent.learner.join(run.group, run.share.weight)
    collector = Collector(agent, run.pool, run, run.row_generator("exploration"), run.env_seed(), c)
    minibatch_generator = run.generator("minibatches")
    exploration_steps = c.exploration_fraction * config.total_steps
    run.begin(agent, environments=collector)
    while not run.finished:
        agent.learner.anneal_learning_rate(run.step)
        agent.epsilon = linear(run.step, c.epsilon_start, c.epsilon_end, exploration_steps)
        rollout = collector.collect()
        with run.phase("learn"):
            # next_value: max_a Q of the true next state, computed while acting
            returns = lambda_returns(rollout.reward, rollout.discount, rollout.trace, rollout.next_value, c.q_lambda)
            for index in epochs(rollout, c, minibatch_generator, run.group, run.share):
                batch = ReturnBatch(rollout.obs_at(index), rollout.flat("action")[index], returns.flatten()[index])
                agent.learner.step(agent.loss, batch)
        run.record({"rollout/exploration_rate": agent.epsilon})
        run.record(agent.learner.metrics)
        run.after_step(c.num_steps * c.num_envs)
