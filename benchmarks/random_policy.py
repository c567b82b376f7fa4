"""Measure the returns of the uniformly random policy, which every trained agent has to beat.

    python benchmarks/random_policy.py doom_basic doom_take_cover
    python benchmarks/random_policy.py doom_basic --episodes 200 --set env.frame_skip=1

The arguments are options of the `env` group. Episodes are played as in evaluations: raw rewards, and a fixed number of
episodes for each environment. The interval is the 95% interval of the mean, by the normal distribution.
"""

import argparse
import time

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rltrain.app import hydra_app
from rltrain.envs import registry
from rltrain.run.evaluation import play_episodes


class RandomAgent:
    """An agent that samples actions uniformly."""

    def __init__(self, action_space) -> None:
        self.action_space = action_space

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return random actions, [B] int64, or [B, A] float32 within the bounds."""
        if hasattr(self.action_space, "n"):
            return generator.integers(self.action_space.n, size=len(obs))
        low, high = self.action_space.low, self.action_space.high
        return generator.uniform(low, high, (len(obs), *low.shape)).astype(np.float32)


def main() -> None:
    """Print one line of a Markdown table for each environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("env", nargs="+")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="further keys, as on rltrain's command line")
    args = parser.parse_args()
    hydra_app.register_schemas()
    print("| env | mean return (95% interval) | standard deviation | mean length, steps | episodes | time, s |")
    print("|---|---|---|---|---|---|")
    for env in args.env:
        with initialize_config_dir(str(hydra_app.CONFIGS), version_base="1.3"):
            composed = compose("config", ["algo=ppo", f"env={env}", *args.set])
        config = OmegaConf.to_object(composed)
        agent = RandomAgent(registry.spaces(config.env)[1])
        start_s = time.perf_counter()
        played = play_episodes(config, agent, args.episodes, args.seed, greedy=False)
        returns = np.array(played["returns"])
        margin = 1.96 * returns.std(ddof=1) / len(returns) ** 0.5
        mean, length = returns.mean(), played["mean_ep_length"]
        interval = f"{mean - margin:.2f} to {mean + margin:.2f}"
        print(
            f"| {env} | {mean:.2f} ({interval}) | {returns.std(ddof=1):.2f} | {length:.1f} | {len(returns)}"
            f" | {time.perf_counter() - start_s:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
