"""The family of Atari games."""

from rltrain.config.environments import AtariConfig
from rltrain.envs.atari.pool import AtariPool, spaces
from rltrain.envs.pool import Pool
from rltrain.envs.viewer import Viewer

__all__ = ["action_names", "make_pool", "make_viewer", "spaces"]


def make_pool(config: AtariConfig, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` games, seeded as numbers `first_index` and up.

    Raises ConfigError (unknown game) or EnvironmentFailure (no ROM).
    """
    return AtariPool(config, num_envs, first_index)


def action_names(config: AtariConfig) -> list[str]:
    """Return ALE's names of the game's actions. Raises what `make_pool` raises."""
    from rltrain.envs.atari import viewer

    return viewer.action_names(config)


def make_viewer(config: AtariConfig) -> Viewer:
    """Start one game that renders in colour. Raises what `make_pool` raises."""
    from rltrain.envs.atari.viewer import AtariViewer

    return AtariViewer(config)
