"""A guard against becoming slow: ours and a plain loop in one process, as a ratio of processor time.

The clock would tell more about the machine's other work than about ours. Blocks alternate, so that what slows the
machine for a second slows both; the bounds leave room for what is left of the noise (docs/performance.md).
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rltrain.algos import ppo
from rltrain.algos.dqn import DQN
from rltrain.app.resolve import resolve
from rltrain.buffers.batch import Batch
from rltrain.config.algorithms import DQNConfig, PPOConfig
from rltrain.config.environments import AtariConfig, GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.fast.accelerate import accelerate
from rltrain.run import folder as run_folder
from rltrain.run.run import Run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import plain

PAIRS = 5


@pytest.fixture(autouse=True)
def as_in_a_run():
    """The accelerated twins, as in every run; one thread, as the time of threads that wait for each other is no
    work."""
    before = torch.get_num_threads()
    accelerate(True)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    accelerate(False)


def ratio(ours, reference) -> float:
    """Median over pairs of blocks of the reference's processor time over ours."""
    ours(), reference()
    pairs = []
    for pair in range(PAIRS):
        seconds = {}
        for side in (ours, reference) if pair % 2 == 0 else (reference, ours):
            start_s = time.process_time()
            side()
            seconds[side] = time.process_time() - start_s
        pairs.append(seconds[reference] / seconds[ours])
    return statistics.median(pairs)


def test_ppo_on_cartpole_is_quicker_than_a_page_of_plain_code(tmp_path):
    """The whole loop: acting, environments, learning, logs. Catches what creeps into every step or update."""
    algo = PPOConfig(num_envs=4, num_steps=128, num_epochs=4, batch_size=128, clip_value_range=0.2)
    env = GymConfig("cartpole", id="CartPole-v1")
    config = resolve(RunConfig(algo, env, total_steps=1024, device="cpu", eval_every_steps=0, progress=False))
    numbers = iter(range(100))

    def ours():
        folder = run_folder.create(config, tmp_path / str(next(numbers)))
        run = Run(config, folder, None)
        ppo.train(config, run)
        run.close()
        run.logger.close()

    measured = ratio(ours, lambda: plain.ppo(1024, lambda step: None))
    assert measured > 1.1, measured


def test_learning_from_pixels_is_quicker_than_plain_modules():
    """One update of DQN in fp32. Catches a lost memory layout, or a network that is computed once too often."""
    network_config, env = NetworkConfig("nature_cnn"), AtariConfig("pong", game="pong")
    config = resolve(RunConfig(DQNConfig(), env, network_config, device="cpu", precision="fp32"))
    agent = DQN(config, spaces.Box(0, 255, (1, 84, 84), np.uint8), spaces.Discrete(6), 0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 4, 84, 84), dtype=np.uint8)
    ones, action = np.ones(32, np.float32), np.zeros(32, np.int64)
    batch = Batch(pixels[0], action, ones, ones, pixels[1], ones, action)

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6),
        )  # fmt: skip

    online, target = network(), network()
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4)

    def reference():
        for _ in range(4):
            with torch.no_grad():
                goal = 1 + 0.99 * target(torch.from_numpy(pixels[1]) / 255.0).max(dim=1).values
            q = online(torch.from_numpy(pixels[0]) / 255.0)[:, 0]
            optimizer.zero_grad()
            nn.functional.smooth_l1_loss(q, goal).backward()
            nn.utils.clip_grad_norm_(online.parameters(), 10)
            optimizer.step()

    def ours():
        for _ in range(4):
            agent.update(batch)

    measured = ratio(ours, reference)
    assert measured > 1.1, measured
