"""Players in the actors of a Ray cluster, and what they send. Ray is imported for a run alone.

Each actor is asked for `chunks_in_flight` chunks in advance, with the newest weights of that moment. Its chunks are
learned from in the order in which it played them. A lost actor is replaced; the learner goes on with the others'.
"""

import contextlib
import dataclasses
import functools
import math
import os
import signal
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from rltrain import errors
from rltrain.algos.parts.players import MakePolicy, Player
from rltrain.buffers.chunk import Chunk
from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RayConfig
from rltrain.config.user_code import describe
from rltrain.envs import patience, registry
from rltrain.envs.seeding import env_seed
from rltrain.envs.spaces import check_made_for
from rltrain.envs.workers.process import Failure
from rltrain.errors import EnvironmentFailure, OutOfMemory, ProcessLost, RltrainError
from rltrain.run.checkpoint import Stateful
from rltrain.runtime import ray_cluster
from rltrain.runtime.share import Share
from rltrain.system import global_random, notices, process, signals

_WAIT_S = 0.5
"""The longest wait for a chunk, in seconds, before the caller looks for signals."""
_CLOSE_S = 3.0
"""Seconds that the actors get to end their environments."""
_RATE_S = 5.0
"""Seconds over which bytes are counted for `runtime/bytes_per_s`."""
_START_S = 30.0
"""Seconds without any chunk after which a warning says what the actors wait for."""


class Host:
    """A player in a process of Ray. It is made by the first call, so that its errors come back as an answer."""

    def __init__(self, make: Callable[[], Player]) -> None:
        # Ctrl-C and a scheduler's signals reach the whole process group. The learner decides when its actors end.
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, signals.no_answer)
        patience.leave_alarm()
        self._make = make
        self._player: Player | None = None

    def play(self, weights: np.ndarray, version: int) -> Chunk | Failure:
        """Return the player's next chunk, or its error as plain data."""
        try:
            if self._player is None:
                self._player = self._make()
            return self._player.play(weights.copy(), version)  # what Ray gives can only be read
        except Exception as error:
            return _failure(error)

    def close(self) -> None:
        """End the environments."""
        if self._player is not None:
            self._player.close()


def _make_player(
    make_policy: bytes,
    saved: dict[str, Any],
    num_steps: int,
    share: Share,
    seeds: tuple[int, int],
    surroundings: tuple[str, list[str], list[str], dict[str, bytes]],
    made_for: list[str] | None,
) -> Player:
    """Make the player of an actor, in its process.

    make_policy: pickled, because its module may be a plugin's. saved: settings as `dataclasses.asdict` gives them,
    because their classes may be, too. share: the environments of this player. seeds: of the
    constructors and of the first episodes. surroundings: the learner's working
    directory, search path, plugins and `plugin_modules.SOURCES`. made_for: as of `RayFleet`.
    """
    working_directory, search_path, plugins, sources = surroundings
    process.prepare()
    with contextlib.suppress(OSError):  # another machine may not have it
        os.chdir(working_directory)
    for folder in search_path:
        plugin_modules.look_in(folder)
    plugin_modules.run_as_in_trainer(sources, plugins)
    # Players act for few environments at once, which a CPU does as fast as a GPU.
    on_cpu = {"device": "cpu", "precision": "auto", "compile": False, "cuda_graphs": "auto"}
    config = saved_config.from_dict(saved | on_cpu)
    import ray

    from rltrain.fast.accelerate import set_up

    set_up(config)
    constructor_seed, seed = seeds
    global_random.seed(constructor_seed + share.first)
    pool = registry.make_pool(config.env, share.count, share.first)
    check_made_for(pool, made_for)
    make: MakePolicy = ray.cloudpickle.loads(make_policy)
    policy = make(config, pool.frame_space, pool.action_space, share)
    return Player(policy, pool, num_steps, np.random.default_rng([seed, share.first]), seed, share.first)


def _failure(error: Exception) -> Failure:
    words = plugin_modules.explain(error) or plugin_modules.unclear(error)
    if words is None:
        words = RltrainError(describe(error), "a bug in rltrain", "please report the lines in error.log")
    elif isinstance(words, OutOfMemory):
        where, fix = "num_envs, runtime.actors", "use fewer environments, or fewer actors on a machine"
        words = OutOfMemory(f"in an actor: {words.what}", where, fix)
    return Failure(words.exit_code, words.what, words.where, words.fix, traceback.format_exc(), final=True)


@dataclasses.dataclass
class _Task:
    """A chunk that an actor was asked for."""

    reference: Any
    published: int
    """How often weights had been published when those that it was asked with were."""


class _Actor:
    """An actor, as the learner sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.handle: Any = None
        self.tasks: deque[_Task] = deque()
        """In the order in which they are played."""
        self.restarts = 0
        self.works = False
        """True if it has sent a chunk since it was started."""


class RayFleet:
    """Players in the actors of a Ray cluster. They are not saved: in a resumed run they begin new episodes."""

    def __init__(
        self,
        config: RunConfig,
        make_policy: MakePolicy,
        num_steps: int,
        seed: int,
        constructor_seed: int,
        stopping: Callable[[], bool],
        drops: bool,
        made_for: list[str] | None,
    ) -> None:
        """Start or join Ray, and start the actors, without waiting for them.

        num_steps: the length of a chunk. seed, constructor_seed: of the environments. stopping: true if a signal has
        asked the run to stop. drops: join the chunks of `num_envs` environments and drop old ones; false: return every
        chunk by itself. made_for: the spaces of the learner's agent, as of `check_made_for`.
        Raises ConfigError, EnvironmentFailure.
        """
        runtime: RayConfig = config.runtime
        self._runtime, self._stopping, self._seed, self._make_policy = runtime, stopping, seed, make_policy
        self._made_for, self._constructor_seed = made_for, constructor_seed
        self._config, self._num_steps = config, num_steps
        in_flight = runtime.actors * runtime.chunks_in_flight
        self._max_lag = math.inf if not drops else runtime.max_lag or 4 * in_flight
        self._at_once = runtime.actors if drops else 1
        self.parts: dict[str, Stateful] = {}
        num_cpus = math.ceil(runtime.actors * runtime.cpus_per_actor)
        self._leave = ray_cluster.connect(runtime.address, num_cpus, "runtime.address")
        import ray

        self._ray = ray
        # An environment may take its actions from a set. Only Ray itself can give its processes the learner's hashes.
        hashes = (
            {"env_vars": {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "random")}}
            if runtime.address != "local"
            else None
        )
        # Spread over the nodes: the loss of one then costs few actors.
        self._remote = ray.remote(
            num_cpus=runtime.cpus_per_actor, max_restarts=0, scheduling_strategy="SPREAD", runtime_env=hashes
        )(Host)
        self._actors = [_Actor(number) for number in range(runtime.actors)]
        self._queue: deque[tuple[Chunk, int, int]] = deque()
        """Chunks that have arrived, each with the `published` of its task and the number of its actor."""
        self._newest: tuple[np.ndarray, int] | None = None
        self._published = 0
        self._sent: tuple[Any, int, int] | None = None
        """What the actors play with: the weights in Ray's store, their version, and how many were published before."""
        self._sent_s = -math.inf
        self._num_dropped = self._num_bytes = self._last_lag = 0
        self._bytes_per_s = 0.0
        self._window_s = self._started_s = time.monotonic()
        self._waited_s = 0.0
        self._is_warned = False
        for actor in self._actors:
            self._start(actor)

    @property
    def has_weights(self) -> bool:
        """False until weights are published."""
        return self._newest is not None

    @property
    def metrics(self) -> dict[str, float]:
        """The state of the actors by tag."""
        now_s = time.monotonic()
        if now_s - self._window_s > _RATE_S:
            self._bytes_per_s = self._num_bytes / (now_s - self._window_s)
            self._num_bytes, self._window_s = 0, now_s
        return {
            "runtime/lag_versions": self._last_lag,
            "runtime/chunks_dropped": self._num_dropped,
            "runtime/queue_length": len(self._queue),
            "runtime/bytes_per_s": self._bytes_per_s,
            "runtime/actors": sum(actor.works for actor in self._actors),
            "runtime/restarts": sum(actor.restarts for actor in self._actors),
        }

    def publish(self, weights: np.ndarray, version: int) -> None:
        """Give the actors new weights. They are sent with the next chunk that an actor is asked for."""
        self._newest = (weights, version)
        self._published += 1

    def chunks(self) -> list[Chunk]:
        """Return chunks to learn from, or none if too few arrive within a moment.

        `env_s` of a chunk is the time that the learner has waited for it. Raises the error of a player,
        EnvironmentFailure if more actors were lost than may be replaced, and ProcessLost if Ray itself is.
        """
        start_s = time.monotonic()
        try:
            while True:
                self._ask()
                self._receive(wait_s=0)
                self._drop_old()
                left_s = start_s + _WAIT_S - time.monotonic()
                if len(self._queue) >= self._at_once:
                    break
                if left_s <= 0 or self._stopping():
                    self._warn_if_none_starts()
                    return []
                self._receive(left_s)
        except self._ray.exceptions.RayError as error:
            if self._stopping():  # the signal may have reached Ray, too
                return []
            fix = "go on from the last checkpoint with `rltrain resume`"
            raise ProcessLost(f"Ray is lost: {ray_cluster.first_line(error)}", "runtime.address", fix) from error
        finally:
            self._waited_s += time.monotonic() - start_s
        taken = [self._queue.popleft() for _ in range(self._at_once)]
        self._last_lag = max(self._published - published for _, published, _ in taken)
        found = [dataclasses.replace(chunk, env_s=0.0) for chunk, _, _ in taken]
        found[0] = dataclasses.replace(found[0], env_s=self._waited_s)
        self._waited_s = 0.0
        return found

    def close(self) -> None:
        """End the actors with their environments, and Ray if it was started for this run."""
        ray = self._ray
        with contextlib.suppress(ray.exceptions.RayError):
            for task in (task for actor in self._actors for task in actor.tasks):
                ray.cancel(task.reference)
            ends = [actor.handle.close.remote() for actor in self._actors]
            ray.wait(ends, num_returns=len(ends), timeout=_CLOSE_S)
            for actor in self._actors:
                ray.kill(actor.handle)
        self._leave()

    def _start(self, actor: _Actor) -> None:
        """Start an actor, or another in its place. It begins new episodes."""
        share = Share.of(actor.number, self._runtime.actors, self._config.algo.num_envs)
        seed = env_seed(env_seed(self._seed, share.first), actor.restarts) if actor.restarts else self._seed
        search_path = [folder for folder in sys.path if folder]
        surroundings = (os.getcwd(), search_path, list(plugin_modules.LOADED), dict(plugin_modules.SOURCES))
        settings = dataclasses.asdict(self._config)
        make_policy = self._ray.cloudpickle.dumps(self._make_policy)
        seeds = (self._constructor_seed, seed)
        given = (make_policy, settings, self._num_steps, share, seeds, surroundings, self._made_for)
        make = functools.partial(_make_player, *given)
        actor.handle = self._remote.remote(make)
        actor.works = False

    def _ask(self) -> None:
        """Ask every actor for as many chunks as it should have in flight.

        Its chunks in the queue count, too, so that a fast actor does not fill the memory. They do not count if the
        queue has too little for an update: then other actors are slow or lost.
        """
        assert self._newest is not None, "no weights are published"
        is_short = len(self._queue) < self._at_once
        waiting = Counter(number for _, _, number in self._queue)
        for actor in self._actors:
            while len(actor.tasks) + (0 if is_short else waiting[actor.number]) < self._runtime.chunks_in_flight:
                is_due = time.monotonic() - self._sent_s >= self._runtime.publish_every_s
                if self._sent is None or (self._sent[2] != self._published and is_due):
                    weights, version = self._newest
                    self._sent = (self._ray.put(weights), version, self._published)
                    self._sent_s = time.monotonic()
                reference, version, published = self._sent
                actor.tasks.append(_Task(actor.handle.play.remote(reference, version), published))

    def _receive(self, wait_s: float) -> None:
        """Take the chunks that have arrived. Waits up to wait_s for the first one."""
        oldest = {actor.tasks[0].reference: actor for actor in self._actors if actor.tasks}
        if not oldest:
            return
        done, _ = self._ray.wait(list(oldest), num_returns=1 if wait_s else len(oldest), timeout=wait_s)
        for reference in done:
            actor = oldest[reference]
            published = actor.tasks.popleft().published
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                what = f"actor {actor.number} cannot play: {ray_cluster.first_line(error)}"
                fix = "install the same versions of rltrain, its packages and your own modules on all machines"
                raise EnvironmentFailure(what, "runtime.address", fix) from error
            except self._ray.exceptions.RayError as error:
                self._replace(actor, error)
                continue
            if isinstance(answer, Failure):
                failed = errors.by_exit_code(answer.exit_code)(answer.what, answer.where, answer.fix)
                failed.add_note(f"in actor {actor.number}:\n{answer.trace}")
                raise failed
            actor.works = True
            chunk = _copied(answer)
            self._num_bytes += sum(part.nbytes for part in vars(chunk).values() if isinstance(part, np.ndarray))
            self._queue.append((chunk, published, actor.number))

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Start another actor in place of a lost one. Raises EnvironmentFailure if too many were replaced already."""
        if self._stopping():  # the signal may have reached the actors, too
            return
        what = f"actor {actor.number} is lost: {ray_cluster.first_line(error)}"
        num_restarts = sum(each.restarts for each in self._actors)
        if num_restarts >= self._runtime.max_restarts:
            what += f", and {num_restarts} actors were replaced already"
            fix = "find out what ends them, or set a higher runtime.max_restarts"
            raise EnvironmentFailure(what, "runtime.max_restarts", fix) from error
        actor.restarts += 1
        count = f"{num_restarts + 1} of {self._runtime.max_restarts}"
        notices.warn(f"{what}; it is replaced ({count})")
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor.handle)  # it may only be out of reach
        actor.tasks.clear()
        self._start(actor)

    def _drop_old(self) -> None:
        """Drop the chunks that were played with too old weights."""
        kept = [each for each in self._queue if self._published - each[1] <= self._max_lag]
        self._num_dropped += len(self._queue) - len(kept)
        self._queue = deque(kept)

    def _warn_if_none_starts(self) -> None:
        if self._is_warned or time.monotonic() - self._started_s < _START_S:
            return
        self._is_warned = True
        if not any(actor.works for actor in self._actors):
            wanted = self._runtime.actors * self._runtime.cpus_per_actor
            has = self._ray.cluster_resources().get("CPU", 0)
            what = f"no actor has played for {_START_S:.0f} s: they need {wanted:g} cores, and Ray has {has:g}"
            notices.warn(f"{what}; runtime.actors, runtime.cpus_per_actor")


def _copied(chunk: Chunk) -> Chunk:
    """Return the chunk in memory of its own: what Ray gives can only be read, and fills its store while it is kept."""
    arrays: dict[str, Any] = {name: part.copy() for name, part in vars(chunk).items() if isinstance(part, np.ndarray)}
    return dataclasses.replace(chunk, **arrays)
