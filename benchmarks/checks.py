"""Measure what checking an environment costs a training of CartPole.

    python benchmarks/checks.py ppo|dqn contract|all [KEY=VALUE ...]

contract: only what `envs/gym/contract.py` checks; all: with the guard around the environment's code, too. One
training alternates between blocks of pool steps with the checks and without them. Prints the median of the speed with
checks as a share of that without, with its bootstrap interval of 95 %, in processor time.

rltrain's own pool of CartPole checks nothing, so this registers a subclass, which gets the pool of other environments.
"""

import contextlib
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rltrain.cli import run
from rltrain.envs.gym.pool import GymPool

BLOCKS = {"ppo": 128, "dqn": 256}
"""Pool steps in a block. With the tuned settings each has one update of PPO, or the updates of DQN's 256 steps."""
TOTAL_STEPS = {"ppo": 500_000, "dqn": 100_000}


class Checked(CartPoleEnv):
    """CartPole as somebody else's environment."""


def unchecked(contract: Any) -> Any:
    """Return what takes the results of an environment as they are."""

    def step(result: Any) -> tuple[Any, float, bool, bool]:
        obs, reward, terminated, truncated, _ = result
        return obs, float(reward), terminated, truncated

    return SimpleNamespace(step=step, reset=contract.reset)


class Alternation:
    """Takes the checks from the learner's pool in two of every four blocks, and measures all."""

    def __init__(self, what: str, block: int) -> None:
        self.what, self.block = what, block
        self.pool, self.num_steps, self.start_s = None, 0, 0.0
        self.block_s: tuple[list[float], list[float]] = ([], [])
        self.is_bare = False

    def before_step(self, pool: Any) -> None:
        """Switch at the end of a block. A pool that takes few steps is an evaluation's, which is left alone."""
        self.num_steps = self.num_steps + 1 if pool is self.pool else 1
        self.pool = pool
        if self.num_steps < 10 * self.block or self.num_steps % self.block:
            return
        now_s = time.process_time()
        if self.num_steps == 10 * self.block:
            self.checks = (pool._contracts, pool._guard, pool._interruptible)
        else:
            self.block_s[self.is_bare].append(now_s - self.start_s)
        self.is_bare = self.num_steps // self.block % 4 in (1, 2)
        pool._contracts, pool._guard, pool._interruptible = self.checks
        if self.is_bare:
            pool._contracts = [unchecked(contract) for contract in self.checks[0]]
            if self.what == "all":
                pool._guard = pool._interruptible = contextlib.nullcontext()
        self.start_s = time.process_time()


def main() -> None:
    """Train once, and print the ratio."""
    algo, what, *keys = sys.argv[1:]
    gymnasium.register("CheckedCartPole-v0", Checked, max_episode_steps=500)
    alternation, recv = Alternation(what, BLOCKS[algo]), GymPool.recv

    def measured(pool: GymPool) -> Any:
        alternation.before_step(pool)
        return recv(pool)

    GymPool.recv = measured
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"algo={algo}", "env=cartpole", f"hparams={algo}_cartpole", "env.id=CheckedCartPole-v0"]
        run_keys = [f"run_dir={folder}", "progress=false", "eval_every_steps=0", "final_eval_episodes=1"]
        if run([*settings, f"total_steps={TOTAL_STEPS[algo]}", *run_keys, *keys]):
            sys.exit(1)
    with_s, without_s = (np.array(block_s[5:]) for block_s in alternation.block_s)
    rng = np.random.default_rng(0)
    ratios = [np.median(rng.choice(without_s, len(without_s))) / np.median(rng.choice(with_s, len(with_s)))
              for _ in range(2000)]  # fmt: skip
    low, high = np.percentile(ratios, [2.5, 97.5])
    middle = np.median(without_s) / np.median(with_s)
    print(f"{algo}, {what}: {middle:.3f} ({low:.3f} to {high:.3f}) in {len(with_s)} pairs of blocks")


if __name__ == "__main__":
    main()
