"""The family of Doom scenarios."""

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.scenario import make_pool, missing_limit, scenarios, spaces
from rltrain.envs.viewer import Viewer

__all__ = ["make_pool", "make_viewer", "missing_limit", "scenarios", "spaces"]


def make_viewer(config: DoomConfig) -> Viewer:
    """Start one game that renders in colour. Raises what `make_pool` raises."""
    from rltrain.envs.doom import viewer

    return viewer.make_viewer(config)
