"""Settings of the processes of a run or a sweep: where it computes, never what. Checkpoints fit every runtime."""

import dataclasses
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from rltrain.config.validate import at_least
from rltrain.errors import ConfigError


@dataclass
class LocalConfig:
    """One process."""

    name: str = "local"


@dataclass
class TorchrunConfig:
    """Several processes that learn together, connected by torch.distributed."""

    name: str = "torchrun"
    processes: int | None = None
    """Processes on this machine; null: one for each GPU, or 1 without a GPU. num_envs and batch_size stay those of the
    whole run."""
    nodes: int = 1
    """Machines. Start the same command on each of them."""
    rendezvous: str | None = None
    """HOST:PORT where the machines meet, a free port of one of them; needed for more than one machine."""
    max_restarts: int = 0
    """How often all processes start again from the last checkpoint after one was lost."""
    silence_s: float = 30.0
    """Seconds after which a process that gives no sign of life counts as lost: the run ends with exit code 9."""
    check_every_updates: int = 1000
    """Optimizer steps between checks that all processes have the same parameters; 0: never."""

    def __post_init__(self) -> None:
        at_least("runtime.processes", self.processes, 1)
        at_least("runtime.nodes", self.nodes, 1)
        at_least("runtime.max_restarts", self.max_restarts, 0)
        at_least("runtime.silence_s", self.silence_s, 3)
        at_least("runtime.check_every_updates", self.check_every_updates, 0)
        if self.rendezvous is not None and not _is_address(self.rendezvous):
            raise ConfigError(f"'{self.rendezvous}' is not HOST:PORT", "runtime.rendezvous", "write e.g. node1:29500")
        if self.nodes > 1 and self.rendezvous is None:
            fix = "name a free port of one machine, e.g. runtime.rendezvous=node1:29500"
            raise ConfigError("several machines need a place to meet", "runtime.rendezvous", fix)


@dataclass
class RayConfig:
    """Actors that play, in processes of a Ray cluster, and one learner."""

    name: str = "ray"
    address: str = "local"
    """local: start Ray on this machine, and end it with the run; auto: join the cluster that this machine belongs to;
    HOST:PORT: join that cluster."""
    actors: int = 2
    """Processes that play. num_envs stays that of the whole run; each actor has an equal part."""
    cpus_per_actor: float = 1.0
    """Cores that Ray reserves for an actor."""
    chunks_in_flight: int = 2
    """Chunks that each actor is asked for in advance, so that it plays while the learner learns."""
    max_lag: int | None = None
    """IMPALA drops chunks that were played with weights of more than so many updates ago; null: four times the chunks
    that all actors are asked for. DQN drops none."""
    publish_every_s: float = 0.0
    """Seconds between two versions of the weights that are sent to the actors; 0: every update's."""
    max_restarts: int = 10
    """How often lost actors are replaced, over all actors, before the run ends with exit code 4."""

    def __post_init__(self) -> None:
        for key in ("actors", "chunks_in_flight", "max_lag"):
            at_least(f"runtime.{key}", getattr(self, key), 1)
        at_least("runtime.cpus_per_actor", self.cpus_per_actor, 0.01)
        _check_whole_above_one("runtime.cpus_per_actor", self.cpus_per_actor)
        at_least("runtime.publish_every_s", self.publish_every_s, 0)
        at_least("runtime.max_restarts", self.max_restarts, 0)
        _check_address("runtime.address", self.address)


@dataclass
class RayLauncherConfig:
    """The jobs of a sweep on a Ray cluster (`hydra/launcher=rltrain_ray`)."""

    address: str = "local"
    """local: start Ray on this machine, and end it with the sweep; auto: join the cluster that this machine belongs to;
    HOST:PORT: join that cluster."""
    cpus_per_job: float = 1.0
    """Cores that Ray reserves for a job."""
    gpus_per_job: float = 0.0
    """GPUs that Ray reserves for a job. A job without any sees none."""
    max_restarts: int = 3
    """How often a job is tried again whose node or actor was lost, before it counts as failed."""

    def __post_init__(self) -> None:
        at_least("hydra.launcher.cpus_per_job", self.cpus_per_job, 0.01)
        at_least("hydra.launcher.gpus_per_job", self.gpus_per_job, 0)
        _check_whole_above_one("hydra.launcher.cpus_per_job", self.cpus_per_job)
        _check_whole_above_one("hydra.launcher.gpus_per_job", self.gpus_per_job)
        at_least("hydra.launcher.max_restarts", self.max_restarts, 0)
        _check_address("hydra.launcher.address", self.address)

    def words(self) -> list[str]:
        """Return what a command line says to get these settings."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        typed = [f"hydra.launcher.{key}={value}" for key, (value, default) in values.items() if value != default]
        return ["hydra/launcher=rltrain_ray", *typed]


def _check_whole_above_one(key: str, number: float) -> None:
    """Raise ConfigError for 1.5 cores, which Ray does not reserve."""
    if number > 1 and number % 1:
        raise ConfigError(f"{number} is neither a part of one nor a whole number", key, "give e.g. 0.5 or 2")


def _check_address(key: str, address: str) -> None:
    if address not in ("local", "auto") and not _is_address(address):
        fix = "use local, auto, or HOST:PORT, e.g. node1:6379"
        raise ConfigError(f"'{address}' is no address of a Ray cluster", key, fix)


def _is_address(text: str) -> bool:
    """Return True for HOST:PORT. A port has 16 bits, and 0 is none."""
    found = re.fullmatch(r"[^/]+:([0-9]{1,5})", text)
    return found is not None and 0 < int(found[1]) < 2**16


def meeting_places(runtime: Any) -> dict[str, str]:
    """Return the addresses at which a runtime joins processes that it did not start, by key."""
    places = {f"runtime.{name}": getattr(runtime, name, None) for name in ("address", "rendezvous")}
    return {key: place for key, place in places.items() if place not in (None, "local", "auto")}


def refuse_places(runtime: Any, named: Container[str]) -> None:
    """Raise ConfigError if a saved runtime would join processes at an address that the command line does not name.

    A run folder may come from somebody else, and processes that learn together run what the others send them.
    named: what the command line gives, as `key=value`.
    """
    for key, place in meeting_places(runtime).items():
        if f"{key}={place}" not in named:
            fix = f"if you trust what runs there, add {key}={place}; or use runtime=local"
            raise ConfigError(f"the run's configuration would join other processes at '{place}'", key, fix)


RUNTIMES: dict[str, type] = {"local": LocalConfig, "torchrun": TorchrunConfig, "ray": RayConfig}
"""The settings class of each runtime."""
