"""Make the fleet of a run: one player in this process, or actors of a Ray cluster."""

from rltrain.algos.parts.players import Fleet, LocalFleet, MakePolicy, Player
from rltrain.algos.parts.ray_fleet import RayFleet
from rltrain.config.run import RunConfig
from rltrain.run.run import Run


def make_fleet(config: RunConfig, run: Run, make_policy: MakePolicy, num_steps: int, lag: int) -> Fleet:
    """Return a fleet whose chunks, joined, have num_steps steps of all environments. The run closes it.

    lag: the age of the weights of a player in this process, in updates. Those of actors are as old as they are.
    """
    if config.runtime.name == "ray":
        return make_ray_fleet(config, run, make_policy, num_steps, drops=True)
    policy = make_policy(config, *run.spaces, run.share)
    return LocalFleet(Player(policy, run.pool, num_steps, run.generator("actions"), run.env_seed()), lag)


def make_ray_fleet(config: RunConfig, run: Run, make_policy: MakePolicy, num_steps: int, drops: bool) -> RayFleet:
    """Return actors of a Ray cluster. The run closes them. drops: see `RayFleet`. Raises ConfigError."""
    seeds = (run.env_seed(), run.constructor_seed())
    fleet = RayFleet(config, make_policy, num_steps, *seeds, lambda: run.stopping, drops, run.spaces_in_words)
    run.close_with(fleet.close)
    return fleet
