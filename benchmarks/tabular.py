"""Compare Q-learning on Taxi with the plain gymnasium loop of tutorials, paired in one process.

    python benchmarks/tabular.py

The order of the blocks is ours, plain, plain, ours, ... A block of ours is a whole run: the compiled loop, logs,
episodes.csv, evaluations and checkpoints, but not the compilation. Both sides use the same update rule, learning rate,
discount and epsilon. Prints steps per second of wall time and of CPU time, and the median ratio with a bootstrap
interval.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np

from rltrain.app.resolve import resolve
from rltrain.app.train import train
from rltrain.config.algorithms import QLearningConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig

STEPS = {"ours": 1_000_000, "plain": 50_000}
"""Agent steps of a block, enough for an exact time."""
LEARNING_RATE, GAMMA, EPSILON = 0.7, 0.99, 0.1


def ours(num_steps: int) -> None:
    """Train a whole run as a user starts it, in a temporary folder."""
    algo = QLearningConfig(learning_rate=LEARNING_RATE, gamma=GAMMA, epsilon_start=EPSILON, epsilon_end=EPSILON)
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(algo, GymConfig("taxi", id="Taxi-v4"), total_steps=num_steps, run_dir=folder, progress=False)
        train(resolve(config))


def plain(num_steps: int) -> None:
    """Train with the loop of the tutorials: one environment, one NumPy table."""
    env, generator = gymnasium.make("Taxi-v4"), np.random.default_rng(0)
    q = np.zeros((env.observation_space.n, env.action_space.n))
    state, _ = env.reset(seed=0)
    for _ in range(num_steps):
        action = generator.integers(6) if generator.random() < EPSILON else int(q[state].argmax())
        next_state, reward, terminated, truncated, _ = env.step(action)
        target = reward + GAMMA * (not terminated) * q[next_state].max()
        q[state, action] += LEARNING_RATE * (target - q[state, action])
        state = env.reset()[0] if terminated or truncated else next_state


def rate(side: Callable[[int], None], num_steps: int) -> tuple[float, float]:
    """Return steps per second of wall time and of CPU time."""
    clock_s, processor_s = time.perf_counter(), time.process_time()
    side(num_steps)
    return num_steps / (time.perf_counter() - clock_s), num_steps / (time.process_time() - processor_s)


def interval(ratio: np.ndarray) -> list[float]:
    """Return the 95% bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(ratio, (10_000, len(ratio)))
    return [round(float(bound), 1) for bound in np.percentile(np.median(draws, axis=1), [2.5, 97.5])]


def main() -> None:
    """Run the blocks, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    ours(1000)
    rates: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for block in range(options.pairs):
        for name in ("ours", "plain") if block % 2 == 0 else ("plain", "ours"):
            rates[name].append(rate({"ours": ours, "plain": plain}[name], STEPS[name]))
    result: dict[str, object] = {"pairs": options.pairs}
    for column, timer in enumerate(("clock", "processor")):
        side = {name: np.array(values)[:, column] for name, values in rates.items()}
        ratio = side["ours"] / side["plain"]
        result[timer] = {
            **{f"{name}_steps_per_s": round(float(np.median(values))) for name, values in side.items()},
            "ratio": round(float(np.median(ratio)), 1),
            "interval_95": interval(ratio),
        }
    (Path(__file__).resolve().parent / "results" / "taxi_q_learning.json").write_text(
        json.dumps(result, indent=1) + "\n"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
