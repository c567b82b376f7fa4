"""The family of console games."""

from rltrain.config.environments import RetroConfig
from rltrain.envs.pool import Pool
from rltrain.envs.retro.pool import RetroPool, spaces
from rltrain.envs.viewer import Viewer

__all__ = ["action_names", "make_pool", "make_viewer", "spaces"]


def make_pool(config: RetroConfig, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` emulators, numbered from `first_index`. Raises what `spaces` raises."""
    return RetroPool(config, num_envs, first_index)


def action_names(config: RetroConfig) -> list[str]:
    """Return the buttons of each action in `env.actions`."""
    return config.actions


def make_viewer(config: RetroConfig) -> Viewer:
    """Start one game that renders in colour. Raises what `spaces` raises."""
    from rltrain.envs.retro import viewer

    return viewer.make_viewer(config)
