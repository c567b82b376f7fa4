"""One block of Stable-Baselines3 on Pong; runs in the peer's own environment and prints agent steps/s as JSON."""

import json
import sys
import time

import ale_py
import gymnasium as gym
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

gym.register_envs(ale_py)


class Clock(BaseCallback):
    """Starts once the first learning is over, so that start-up does not count."""

    def __init__(self, start_step: int) -> None:
        super().__init__()
        self.start_step, self.start_s, self.first_step = start_step, 0.0, 0

    def _on_step(self) -> bool:
        if not self.start_s and self.num_timesteps >= self.start_step:
            self.start_s, self.first_step = time.perf_counter(), self.num_timesteps
            self.start_cpu_s = time.process_time()
        return True


def main() -> None:
    """algo, warm-up steps, measured steps."""
    algo, warm_up, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=8 if algo == "ppo" else 1, seed=0), 4)
    if algo == "ppo":
        model = PPO(
            "CnnPolicy", env, n_steps=128, n_epochs=4, batch_size=256, learning_rate=2.5e-4, clip_range=0.1,
            ent_coef=0.01, device="cpu",
        )  # fmt: skip
    else:
        model = DQN(
            "CnnPolicy", env, buffer_size=20_000, learning_rate=1e-4, batch_size=32, learning_starts=warm_up // 2,
            target_update_interval=1000, train_freq=4, gradient_steps=1, optimize_memory_usage=False, device="cpu",
        )  # fmt: skip
    clock = Clock(warm_up)
    model.learn(warm_up + steps, callback=clock)
    seconds = time.perf_counter() - clock.start_s
    cpu_s = time.process_time() - clock.start_cpu_s
    measured = model.num_timesteps - clock.first_step
    print(json.dumps({"steps_per_s": measured / seconds, "cpu_ms_per_step": 1e3 * cpu_s / measured}))


if __name__ == "__main__":
    main()
