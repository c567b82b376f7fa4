"""PPO and DQN on CartPole as single-file scripts, for speed comparisons.

    python benchmarks/plain.py WARM_UP STEPS ppo|dqn

They stand in for CleanRL's scripts (github.com/vwxyzjn/cleanrl, ppo.py and dqn.py), which are not a package. They use
CleanRL's settings, torch modules and gymnasium's vector environment. tests/benchmarks/test_speed.py compares rltrain
with them.
"""

import itertools
import sys
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from torch import nn

Step = Callable[[int], None]
"""Called with the number of agent steps wherever a loop may pause."""


def layers(*sizes: int, activation: type[nn.Module]) -> nn.Sequential:
    """Return linear layers with an activation between them."""
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*parts[:-1])


def ppo(total_steps: int, told: Step) -> None:
    """Train PPO: 4 environments x 128 steps, 4 epochs of 4 minibatches, clipped values."""
    num_envs, num_steps, num_epochs, batch_size = 4, 128, 4, 128
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))] * num_envs
    )
    actor, critic = (layers(4, 64, 64, size, activation=nn.Tanh) for size in (2, 1))
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2.5e-4, eps=1e-5)
    shape = (num_steps, num_envs)
    obs_TB, action_TB = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.int64)
    log_prob_TB, reward_TB, done_TB, value_TB = (torch.zeros(shape) for _ in range(4))
    obs, done = torch.tensor(envs.reset(seed=0)[0]), torch.zeros(num_envs)
    for step in range(0, total_steps, num_steps * num_envs):
        optimizer.param_groups[0]["lr"] = 2.5e-4 * (1 - step / total_steps)
        for t in range(num_steps):
            obs_TB[t], done_TB[t] = obs, done
            with torch.no_grad():
                policy = torch.distributions.Categorical(logits=actor(obs))
                action = policy.sample()
                value_TB[t], log_prob_TB[t], action_TB[t] = critic(obs).flatten(), policy.log_prob(action), action
            next_obs, reward, terminated, truncated, _ = envs.step(action.numpy())
            obs, done = torch.tensor(next_obs), torch.tensor(terminated | truncated, dtype=torch.float32)
            reward_TB[t] = torch.tensor(reward)
        with torch.no_grad():
            next_value, running = critic(obs).flatten(), torch.zeros(num_envs)
            advantage_TB = torch.zeros(shape)
            for t in reversed(range(num_steps)):
                goes_on = 1 - (done if t == num_steps - 1 else done_TB[t + 1])
                after = next_value if t == num_steps - 1 else value_TB[t + 1]
                delta = reward_TB[t] + 0.99 * after * goes_on - value_TB[t]
                advantage_TB[t] = running = delta + 0.99 * 0.95 * goes_on * running
            return_TB = advantage_TB + value_TB
        flat = [field.flatten(0, 1) for field in (obs_TB, action_TB, log_prob_TB, advantage_TB, return_TB, value_TB)]
        for _ in range(num_epochs):
            for index in torch.randperm(num_steps * num_envs).split(batch_size):
                b_obs, b_action, b_log_prob, b_advantage, b_return, b_value = (field[index] for field in flat)
                policy = torch.distributions.Categorical(logits=actor(b_obs))
                value = critic(b_obs).flatten()
                log_ratio = policy.log_prob(b_action) - b_log_prob
                ratio = log_ratio.exp()
                with torch.no_grad():
                    ((ratio - 1) - log_ratio).mean()
                    ((ratio - 1).abs() > 0.2).float().mean().item()
                b_advantage = (b_advantage - b_advantage.mean()) / (b_advantage.std() + 1e-8)
                policy_loss = torch.max(-b_advantage * ratio, -b_advantage * ratio.clamp(0.8, 1.2)).mean()
                kept = b_value + (value - b_value).clamp(-0.2, 0.2)
                value_loss = 0.5 * torch.max((value - b_return) ** 2, (kept - b_return) ** 2).mean()
                loss = policy_loss - 0.01 * policy.entropy().mean() + 0.5 * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
        told(step + num_steps * num_envs)
    envs.close()


def dqn(total_steps: int, told: Step) -> None:
    """Train DQN: one environment, one update with 128 transitions every 10 steps, a replay buffer of 10,000."""
    random, starts, size = np.random.default_rng(0), 1000, 10_000
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))]
    )
    online, target = (layers(4, 120, 84, 2, activation=nn.ReLU) for _ in range(2))
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=2.5e-4)
    obs_N, next_obs_N = np.zeros((size, 4), np.float32), np.zeros((size, 4), np.float32)
    action_N, reward_N, terminated_N = np.zeros(size, np.int64), np.zeros(size, np.float32), np.zeros(size, np.float32)
    obs, _ = envs.reset(seed=0)
    for step in range(total_steps):
        epsilon = max(1 - 0.95 * step / (0.5 * total_steps), 0.05)
        if random.random() < epsilon:
            action = random.integers(2, size=1)
        else:
            action = online(torch.tensor(obs)).argmax(dim=1).numpy()
        next_obs, reward, terminated, _, _ = envs.step(action)
        at = step % size
        obs_N[at], next_obs_N[at], action_N[at] = obs[0], next_obs[0], action[0]
        reward_N[at], terminated_N[at] = reward[0], terminated[0]
        obs = next_obs
        if step > starts and step % 10 == 0:
            index = random.integers(min(step, size), size=128)
            with torch.no_grad():
                best = target(torch.tensor(next_obs_N[index])).max(dim=1).values
                goal = torch.tensor(reward_N[index]) + 0.99 * best * (1 - torch.tensor(terminated_N[index]))
            q = online(torch.tensor(obs_N[index])).gather(1, torch.tensor(action_N[index])[:, None]).squeeze()
            loss = nn.functional.mse_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 500 == 0:
            target.load_state_dict(online.state_dict())
        told(step + 1)
    envs.close()


if __name__ == "__main__":
    from gate import Gate

    {"ppo": ppo, "dqn": dqn}[sys.argv[3]](10_000_000, Gate(int(sys.argv[1]), int(sys.argv[2])))
