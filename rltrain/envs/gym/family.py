"""The family of gymnasium environments, stepped in this process or in worker processes."""

from collections.abc import Sequence

from rltrain.config.environments import GymConfig
from rltrain.envs.gym.make import counted_from, known_limit, missing_limit, settle, spaces
from rltrain.envs.pool import Pool
from rltrain.envs.viewer import Viewer

__all__ = [
    "action_names", "counted_from", "known_limit", "make_pool", "make_viewer", "missing_limit", "settle", "spaces",
]  # fmt: skip


def make_pool(config: GymConfig, num_envs: int, first_index: int = 0) -> Pool:
    """Start `num_envs` environments, seeded as numbers `first_index` and up. Raises what `make_env` raises."""
    if config.workers:
        from rltrain.envs.gym.workers import WorkerPool

        return WorkerPool(config, num_envs, first_index)
    from rltrain.envs.gym import cartpole, pool

    if cartpole.fits(config, num_envs):
        return cartpole.CartPolePool(config, num_envs, first_index)
    return pool.GymPool(config, num_envs, first_index)


def action_names(config: GymConfig) -> Sequence[str]:
    """Return the names of the environment's actions, or () if they are not known."""
    from rltrain.envs.gym import viewer

    return viewer.action_names(config)


def make_viewer(config: GymConfig) -> Viewer:
    """Start one environment that renders its own picture. Raises EnvironmentFailure if it cannot render."""
    from rltrain.envs.gym.viewer import GymViewer

    return GymViewer(config)
