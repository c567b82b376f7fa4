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

import gymnasium
import numpy as np
import torch

from rltrain.algos.parts.q_network import make_q_network
from rltrain.algos.parts.replay import make_replay
from rltrain.buffers.batch import Batch, Transition
from rltrain.config.algorithms import DQNConfig
from rltrain.config.run import RunConfig
from rltrain.envs.stepper import Stepper
from rltrain.math.losses import double_q_learning_target, q_learning_target, td_loss
from rltrain.math.rewards import learned_reward
from rltrain.math.schedules import linear
from rltrain.nn.device import to_device
from rltrain.nn.learner import Learner, Loss
from rltrain.nn.recording import recorded
from rltrain.run.run import Run


class DQN:
    """The online and the target network, and the learner that steps the online one."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.config: DQNConfig = config.algo
        self.num_actions = int(action_space.n)
        dueling = self.config.dueling
        self.online = self.network = make_q_network(config, frame_space, self.num_actions, seed, dueling)
        self.target = make_q_network(config, frame_space, self.num_actions, seed, dueling, learns=False)
        self.learner = Learner(config, self.online, "adam", self.config.adam_eps)
        self.device = self.learner.device
        self.huber_delta = {"huber": 1.0, "squared": None}[self.config.loss]
        self._values = recorded(self.online, config, self.device)

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
            q = self._values(obs=to_device(obs, self.device)).cpu().numpy()
        return np.where(explores, random_action, q.argmax(axis=-1))

    def update(self, batch: Batch) -> torch.Tensor:
        """Take one optimizer step on a batch, and copy the target network when it is due; returns td errors [N]."""
        td_error = self.learner.step(self.loss, batch)
        assert td_error is not None
        if self.learner.num_updates % self.config.target_period_updates == 0:
            self.target.load_state_dict(self.online.state_dict())
        return td_error

    def loss(self, batch: Batch) -> Loss:
        """The distance of Q(s, a; online) from y, weighted where transitions were drawn by priority."""
        q = self.online(batch.obs)
        with torch.no_grad():
            next_q = self.target(batch.next_obs)
            if self.config.double:
                next_online_q = self.online(batch.next_obs)
                target = double_q_learning_target(batch.reward, batch.discount, next_online_q, next_q)
            else:
                target = q_learning_target(batch.reward, batch.discount, next_q)
        loss, td_error = td_loss(q, batch.action, target, batch.weight, self.huber_delta)
        q = q.detach()
        return Loss(loss, lambda: {"train/q_mean": q.mean(), "train/td_error": td_error.abs().mean()}, td_error)

    def state_dict(self) -> dict:
        """Everything that an update changes."""
        return {"online": self.online.state_dict(), "target": self.target.state_dict(), **self.learner.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self.learner.load_state_dict(state)


make_agent = DQN


def train(config: RunConfig, run: Run) -> None:
    """Act, store, learn, until total_steps are done."""
    c: DQNConfig = config.algo
    agent = DQN(config, *run.spaces, run.seed_of("network"))
    replay = make_replay(c, run.pool, run.generator("replay"), agent.device)
    exploration = run.generator("exploration")
    envs = Stepper(run.pool, run.env_seed())
    if run.begin(agent, replay=replay, environments=envs) and envs.first.all():
        replay.end_episodes()  # the environments could not go on from where they stood: they begin new episodes
    exploration_steps = c.exploration_fraction * config.total_steps
    while not run.finished:
        epsilon = linear(run.step, c.epsilon_start, c.epsilon_end, exploration_steps)
        if run.step < c.learning_starts:
            epsilon = 1.0
        frame, first = envs.frame, envs.first
        action = agent.act(envs.obs, epsilon, exploration)
        with run.phase("env"):
            timestep, _ = envs.step(action)
        reward = learned_reward(timestep.reward, c.reward_scale, c.reward_clip)
        terminated, truncated = timestep.terminated, timestep.truncated
        replay.add(Transition(frame, action, reward, terminated, truncated, timestep.next_obs, first, timestep.first))
        run.advance(c.num_envs, timestep.episodes)

        rounds = run.step // c.train_every_steps - (run.step - c.num_envs) // c.train_every_steps
        if rounds and run.step >= c.learning_starts and replay.size >= c.batch_size:
            agent.learner.anneal(run.step)
            replay.beta = linear(run.step, c.priority_beta_start, 1.0, config.total_steps)
            with run.phase("learn"):
                for batch in replay.batches(rounds * c.updates_per_round, c.batch_size):
                    td_error = agent.update(batch)
                    replay.update_priorities(batch.index, td_error)
            run.record(agent.learner.metrics)
        run.record({"rollout/exploration_rate": epsilon})
        run.after_step(c.num_envs)
