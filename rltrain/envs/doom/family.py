"""The family of Doom scenarios."""

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.scenario import make_pool, missing_limit, scenarios, settle, spaces
from rltrain.envs.viewer import Viewer

__all__ = ["action_names", "make_pool", "make_viewer", "missing_limit", "scenarios", "settle", "spaces"]


def action_names(config: DoomConfig) -> list[str]:
    """Return the buttons of each action. Raises what `make_pool` raises."""
    from rltrain.envs.doom import viewer

    return viewer.action_names(config)


def make_viewer(config: DoomConfig) -> Viewer:
    """Start one game that renders in colour. Raises what `make_pool` raises."""
    from rltrain.envs.doom import viewer

    return viewer.make_viewer(config)
