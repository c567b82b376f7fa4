"""Settings of `sarsa.py`, apart from it so that composing a configuration imports no numba."""

from dataclasses import dataclass

from rltrain.tabular_config import TabularConfig


@dataclass
class SarsaConfig(TabularConfig):
    """Settings of SARSA."""

    name: str = "sarsa"
