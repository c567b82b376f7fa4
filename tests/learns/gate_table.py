"""The gates of the default test suite: which score a command has to reach.

The tests of this folder read this table with the tuned seed, benchmarks/gates.py with several seeds and under other
processors' arithmetic. Gates of tests that are marked slow stand in those tests.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


def final(folder: Path) -> float:
    """The mean return of a run's final evaluation: raw rewards, fresh environments."""
    return json.loads((folder / "result.json").read_text())["final"]["mean_reward"]


def exploring(folder: Path) -> float:
    """The mean training return of the second half of a run's episodes."""
    return float(_second_half(folder).mean())


def _second_half(folder: Path) -> np.ndarray:
    rows = csv.DictReader((folder / "episodes.csv").read_text().splitlines())
    returns = np.array([float(row["reward"]) for row in rows])
    return returns[len(returns) // 2 :]


@dataclass(frozen=True)
class Near:
    """The distance of `exploring` from an exact value, as a share of what is allowed: 5 standard errors and 0.5."""

    limit: float

    def __call__(self, folder: Path) -> float:
        returns = _second_half(folder)
        return float(abs(returns.mean() - self.limit) / (5 * returns.std() / np.sqrt(len(returns)) + 0.5))

    @property
    def __name__(self) -> str:
        return f"distance from {self.limit}"


@dataclass(frozen=True)
class Gate:
    """A command and the range in which each of its measures has to lie."""

    keys: tuple[str, ...]
    """Arguments of the command line."""
    bounds: dict[Callable[[Path], float], tuple[float, float]] = field(hash=False)
    """Lowest and highest value allowed of each measure; a measure takes the run folder."""
    exact: bool = False
    """A table: its float64 arithmetic is the same on every processor."""

    def __str__(self) -> str:
        return " ".join(self.keys)

    def measure(self, folder: Path) -> dict[str, float]:
        """Every measure of a run, by its name."""
        return {measure.__name__: measure(folder) for measure in self.bounds}

    def misses(self, values: dict[str, float]) -> list[str]:
        """What lies outside its range, in words; empty if the gate is reached."""
        ranges = {measure.__name__: between for measure, between in self.bounds.items()}
        return [
            f"{self}: {name} is {value:.6g}, allowed is {ranges[name][0]:.6g} to {ranges[name][1]:.6g}"
            for name, value in values.items()
            if not ranges[name][0] <= value <= ranges[name][1]
        ]


MOST = float("inf")

POLICIES = [
    Gate(("algo=reinforce", "env=cartpole"), {final: (475, 500)}),
    Gate(("algo=ppo", "env=cartpole"), {final: (475, 500)}),
]

TABLES = [
    Gate(("algo=q_learning", "env=taxi"), {final: (7.93 - 1e-9, 7.93 + 1e-9)}, exact=True),  # the optimum
    Gate(("algo=sarsa", "env=taxi"), {final: (7.5, MOST)}, exact=True),
    # a quarter of the tuned steps
    Gate(("algo=monte_carlo", "env=taxi", "total_steps=1e7"), {final: (7.0, MOST)}, exact=True),
    # 0.7402 is the most
    Gate(("algo=q_learning", "env=frozen_lake"), {final: (0.73, MOST)}, exact=True),
    Gate(("algo=sarsa", "env=frozen_lake"), {final: (0.72, MOST)}, exact=True),
    Gate(("algo=monte_carlo", "env=frozen_lake"), {final: (0.70, MOST)}, exact=True),
    Gate(("algo=q_learning", "env=frozen_lake_8x8"), {final: (0.86, MOST)}, exact=True),
    *(
        Gate((f"algo={algo}", f"env={env}"), {final: (most, most)}, exact=True)
        for env, most in (("frozen_lake_not_slippery", 1), ("maze", 11))
        for algo in ("q_learning", "sarsa", "monte_carlo")
    ),
    # Q-learning learns the edge, from which random steps fall; SARSA learns to keep away from it.
    Gate(
        ("algo=sarsa", "env=cliff_walking"),
        {exploring: (-23, -19), Near(-20.7): (0, 1), final: (-17, -15)},
        exact=True,
    ),
    Gate(
        ("algo=q_learning", "env=cliff_walking"),
        {exploring: (-55, -40), Near(-45.8): (0, 1), final: (-13, -13)},
        exact=True,
    ),
]

GATES = [*POLICIES, *TABLES]
