"""Deep Q-learning (Mnih et al. 2015, algorithm 1) with double, dueling, prioritized and n-step variants.

y = r + gamma (1 - terminated) max_a Q(s', a; target)
minimise  Huber(y - Q(s, a; online)),  or  (y - Q(s, a; online))^2 / 2

double:      y = r + gamma (1 - terminated) Q(s', argmax_a Q(s', a; online); target)   (van Hasselt et al. 2016, eq. 4,
                                                                                        theta' = the target network)
dueling:     Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')                               (Wang et al. 2016, eq. 9)
prioritized: sample transitions in proportion to |td error|^alpha                      (Schaul et al. 2016, eq. 1)
             and weight their losses by (N P)^-beta                                    (section 3.4)
n_step:      r is the discounted sum of n rewards, gamma becomes gamma^n               (Sutton & Barto 2018, eq. 7.1)

repeat: act epsilon-greedily in every environment; store the transitions in the replay buffer
        every train_every_steps: sample a minibatch, take one optimizer step, update the priorities
        every target_period_updates: copy the online network to the target network

With runtime=ray it is Ape-X (Horgan et al. 2018): actors act (parts/ape_x.py) while the learner learns.
"""

import gymnasium
import numpy as np
import torch

from rltrain.algos.parts.ape_x import CHUNK_STEPS, ApexPolicy
from rltrain.algos.parts.fleets import make_ray_fleet
from rltrain.algos.parts.q_network import make_q_network
from rltrain.algos.parts.replay import make_replay
from rltrain.buffers.batch import Batch, Transition
from rltrain.buffers.prioritized import PrioritizedReplay
from rltrain.buffers.replay import Replay
from rltrain.config.algorithms import DQNConfig
from rltrain.config.run import RunConfig
from rltrain.envs.stepper import Stepper
from rltrain.math.losses import double_q_learning_target, q_learning_target, td_loss
from rltrain.math.rewards import learned_reward
from rltrain.math.schedules import linear
from rltrain.nn import weights as network_weights
from rltrain.nn.device import to_device
from rltrain.nn.learner import Learner, Loss
from rltrain.nn.recording import recorded
from rltrain.run.run import Run


class DQN:
    """The DQN agent: an online network, a target network and the learner of the online network."""

    def __init__(
        self, config: RunConfig, frame_space: gymnasium.Space, action_space: gymnasium.Space, seed: int
    ) -> None:
        assert isinstance(action_space, gymnasium.spaces.Discrete)
        self.config: DQNConfig = config.algo
        self.num_actions = int(action_space.n)
        dueling = self.config.dueling
        self.online = make_q_network(config, frame_space, self.num_actions, seed, dueling)
        self.network = self.online  # the network that acts, under the name that all agents use
        # The same seed: the target network starts as a copy.
        self.target = make_q_network(config, frame_space, self.num_actions, seed, dueling, learns=False)
        self.learner = Learner(config, self.online, "adam", self.config.adam_eps)
        self.device = self.learner.device
        self.huber_delta = {"huber": 1.0, "squared": None}[self.config.loss]
        self._values = recorded(self.online, config, self.device)  # self.online; on a GPU a CUDA graph

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return actions [B] int64 for observations [B, *obs_shape]: greedy, or epsilon-greedy with `epsilon_end`."""
        return self.act(obs, 0.0 if greedy else self.config.epsilon_end, generator)

    def act(self, obs: np.ndarray, epsilon: float, generator: np.random.Generator) -> np.ndarray:
        """Return epsilon-greedy actions [B] int64; each environment explores with probability epsilon by itself."""
        random_action = generator.integers(self.num_actions, size=len(obs))
        explores = generator.random(len(obs)) < epsilon
        if explores.all():
            return random_action
        with torch.inference_mode():
            q = self._values(obs=to_device(obs, self.device)).cpu().numpy()
        return np.where(explores, random_action, q.argmax(axis=-1))

    def update(self, batch: Batch) -> torch.Tensor:
        """Take one optimizer step, and update the target network when it is due. Return the td errors [N]."""
        td_error = self.learner.step(self.loss, batch)
        assert td_error is not None
        if self.learner.num_updates % self.config.target_period_updates == 0:
            self.target.load_state_dict(self.online.state_dict())
        return td_error

    def loss(self, batch: Batch) -> Loss:
        """Return the mean of weight * loss(y - Q(s, a; online)). Without prioritized replay each weight is 1."""
        q = self.online(batch.obs)
        with torch.no_grad():
            next_target_q = self.target(batch.next_obs)
            if self.config.double:
                next_online_q = self.online(batch.next_obs)
                y = double_q_learning_target(batch.reward, batch.discount, next_online_q, next_target_q)
            else:
                y = q_learning_target(batch.reward, batch.discount, next_target_q)
        loss, td_error = td_loss(q, batch.action, y, batch.weight, self.huber_delta)
        q = q.detach()
        return Loss(loss, lambda: {"train/q_mean": q.mean(), "train/td_error": td_error.abs().mean()}, td_error)

    def state_dict(self) -> dict:
        """Return both networks, the optimizer's state and the number of updates."""
        return {"online": self.online.state_dict(), "target": self.target.state_dict(), **self.learner.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state that `state_dict` returned."""
        network_weights.load(self.online, state["online"])
        network_weights.load(self.target, state["target"])
        self.learner.load_state_dict(state)


make_agent = DQN


def train(config: RunConfig, run: Run) -> None:
    """Train until `total_steps`."""
    c: DQNConfig = config.algo
    agent = DQN(config, *run.spaces, run.seed_of("network"))
    replay = make_replay(c, run.spaces, config.env.stack_num, run.generator("replay"), agent.device)
    if config.runtime.name == "ray":
        return learn_from_actors(config, run, agent, replay)
    exploration = run.generator("exploration")
    envs = Stepper(run.pool, run.env_seed())
    if run.begin(agent, replay=replay, environments=envs) and envs.first.all():
        replay.end_episodes()  # these environments cannot be restored: the resumed run starts new episodes
    exploration_steps = c.exploration_fraction * config.total_steps
    while not run.finished:
        epsilon = linear(run.step, c.epsilon_start, c.epsilon_end, exploration_steps)
        if run.step < c.learning_starts:  # random actions; the schedule has run since step 0
            epsilon = 1.0
        frame, first = envs.frame, envs.first
        action = agent.act(envs.obs, epsilon, exploration)
        with run.phase("env"):
            timestep, _ = envs.step(action)
        reward = learned_reward(timestep.reward, c.reward_scale, c.reward_clip)
        terminated, truncated = timestep.terminated, timestep.truncated
        replay.add(Transition(frame, action, reward, terminated, truncated, timestep.next_obs, first, timestep.first))
        run.advance(c.num_envs, timestep.episodes)
        learn(config, run, agent, replay, c.num_envs)
        run.record({"rollout/exploration_rate": epsilon})
        run.after_step(c.num_envs)


def learn(config: RunConfig, run: Run, agent: DQN, replay: Replay | PrioritizedReplay, num_steps: int) -> None:
    """Make the rounds of updates that the last num_steps agent steps are due."""
    c: DQNConfig = config.algo
    # The number of multiples of train_every_steps among the last num_steps agent steps.
    num_rounds = run.step // c.train_every_steps - (run.step - num_steps) // c.train_every_steps
    if num_rounds and run.step >= c.learning_starts and replay.size >= c.batch_size:
        agent.learner.anneal_learning_rate(run.step)
        replay.beta = linear(run.step, c.priority_beta_start, 1.0, config.total_steps)
        with run.phase("learn"):
            for batch in replay.batches(num_rounds * c.updates_per_round, c.batch_size):
                td_error = agent.update(batch)
                replay.update_priorities(batch.index, td_error)
        run.record(agent.learner.metrics)


def learn_from_actors(config: RunConfig, run: Run, agent: DQN, replay: Replay | PrioritizedReplay) -> None:
    """Train on what actors send, with as many updates per step as `train`: Ape-X (Horgan et al. 2018)."""
    c: DQNConfig = config.algo
    fleet = make_ray_fleet(config, run, ApexPolicy, CHUNK_STEPS, drops=False)
    if run.begin(agent, replay=replay):
        replay.end_episodes()  # the actors begin new episodes
    fleet.publish(network_weights.read(agent.online), agent.learner.num_updates)
    while not run.finished:
        run.stop_if_asked()
        for chunk in fleet.chunks():
            if chunk.first[0].all():  # perhaps from an actor in place of a lost one, whose episodes do not go on
                replay.end_episodes(range(chunk.first_env, chunk.first_env + chunk.num_envs))
            for step, episodes in zip(chunk.transitions(), chunk.episodes, strict=True):
                reward = learned_reward(step.reward, c.reward_scale, c.reward_clip)
                replay.add(step._replace(reward=reward), chunk.first_env)
                run.advance(chunk.num_envs, episodes)
            num_steps = chunk.num_steps * chunk.num_envs
            run.spend("env", chunk.env_s)
            run.record({"train/policy_lag": agent.learner.num_updates - chunk.version, **fleet.metrics})
            learn(config, run, agent, replay, num_steps)
            fleet.publish(network_weights.read(agent.online), agent.learner.num_updates)
            run.after_step(num_steps)
