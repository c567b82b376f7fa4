"""Settings of `monte_carlo.py`, apart from it so that composing a configuration imports no numba."""

from dataclasses import dataclass

from rltrain.tabular_config import TabularConfig


@dataclass
class MonteCarloConfig(TabularConfig):
    """Settings of Monte Carlo control."""

    name: str = "monte_carlo"
    first_visit: bool = True
    """Learn from the first visit of a state and action in an episode alone; false: from every visit."""
