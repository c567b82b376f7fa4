"""Settings of `q_learning.py`, apart from it so that composing a configuration imports no numba."""

from dataclasses import dataclass

from rltrain.tabular_config import TabularConfig


@dataclass
class QLearningConfig(TabularConfig):
    """Settings of tabular Q-learning."""

    name: str = "q_learning"
