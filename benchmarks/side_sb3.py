"""Stable-Baselines3's side of a paired benchmark, with the settings of its RL Zoo. Runs in its own virtual environment.

    side_sb3.py WARM_UP STEPS WORK

RL Zoo's files: github.com/DLR-RM/rl-baselines3-zoo, hyperparams/{ppo,dqn,a2c}.yml.
"""

import sys

import ale_py
import gymnasium as gym
from gate import Gate
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecFrameStack

gym.register_envs(ale_py)


class Paused(BaseCallback):
    """Calls the gate before each rollout, after the updates from the last one."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def _on_rollout_start(self) -> None:
        self.gate(self.num_timesteps)

    def _on_step(self) -> bool:
        return True


def pong(num_envs: int) -> VecFrameStack:
    """Make Pong with frame skip 4, no sticky actions, up to 30 no-ops, fire at reset and clipped rewards."""
    return VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=num_envs, seed=0), 4)


def cartpole(num_envs: int):
    """Make CartPole environments that are stepped one after another in this process, as in RL Zoo."""
    return make_vec_env("CartPole-v1", n_envs=num_envs, seed=0)


WORKS = {
    "ppo_pong": lambda: PPO(
        "CnnPolicy", pong(8), n_steps=128, n_epochs=4, batch_size=256, learning_rate=2.5e-4, clip_range=0.1,
        ent_coef=0.01, vf_coef=0.5, device="cpu",
    ),
    "dqn_pong": lambda: DQN(
        "CnnPolicy", pong(1), buffer_size=20_000, learning_rate=1e-4, batch_size=32, learning_starts=1000,
        target_update_interval=1000, train_freq=4, gradient_steps=1, exploration_fraction=0.1,
        exploration_final_eps=0.01, device="cpu",
    ),
    "a2c_pong": lambda: A2C(
        "CnnPolicy", pong(16), ent_coef=0.01, vf_coef=0.25, device="cpu",
        policy_kwargs={"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
    ),
    "ppo_cartpole": lambda: PPO(
        "MlpPolicy", cartpole(8), n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
        learning_rate=lambda left: left * 1e-3, clip_range=lambda left: left * 0.2, device="cpu",
    ),
    "dqn_cartpole": lambda: DQN(
        "MlpPolicy", cartpole(1), learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1000,
        gamma=0.99, target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=0.16,
        exploration_final_eps=0.04, policy_kwargs={"net_arch": [256, 256]}, device="cpu",
    ),
}  # fmt: skip

if __name__ == "__main__":
    gate = Gate(int(sys.argv[1]), int(sys.argv[2]))
    WORKS[sys.argv[3]]().learn(10_000_000, callback=Paused(gate))
