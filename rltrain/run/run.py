"""A run: its folder, environments and random numbers, and its logs, evaluations, checkpoints and end.

An algorithm makes its agent and calls `begin` with all parts that a checkpoint must save. During training it calls
`advance` after its environments stepped, and `after_step` after each round of training. `after_step` logs, evaluates,
saves and stops as the settings say.

In a group of processes each process has a Run. All of them count the same; rank 0 alone evaluates and writes.
"""

import dataclasses
import functools
import operator
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

import gymnasium
import numpy as np

from rltrain.config import saved as saved_config
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.envs import patience, registry
from rltrain.envs.pool import AnotherGame, Episode, Pool
from rltrain.envs.spaces import in_words
from rltrain.envs.stepper import merged, part_of
from rltrain.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentFailure,
    Ignored,
    NonFiniteError,
    RltrainError,
    Stopped,
    disk_errors,
    fitting,
)
from rltrain.run import checked, checkpoint, checkpoint_files, own_code, panel
from rltrain.run import folder as run_folder
from rltrain.run.checkpoint import Stateful
from rltrain.run.clock import Clock
from rltrain.run.evaluation import Agent, Evaluations, Interrupted, play_episodes
from rltrain.run.logger import Logger, Progress, Silent
from rltrain.run.logger import check as check_logs
from rltrain.run.statistics import Statistics, progress_facts
from rltrain.run.streams import Streams
from rltrain.runtime.group import Alone, Group
from rltrain.runtime.share import RowGenerator, Share
from rltrain.system import atomic, global_random, inside, notices, process, signals
from rltrain.system.ram import peak_rss_mb

_NO_HPARAMS = ("tuned_by", "chosen")
"""Keys of the configuration that are no settings."""

Restored = tuple[int, dict[str, Any]] | None
"""Step and state of a checkpoint; None for a new run."""

STATUS_EVERY_S = 30.0
"""Seconds after which status.json is written again if no line of metrics was due."""


class Run:
    """One run, apart from its algorithm."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        restored: Restored,
        evaluate: Callable[..., dict[str, Any]] | None = None,
        varies: Mapping[str, str] | None = None,
        group: Group | None = None,
    ) -> None:
        """restored: step and state of the checkpoint to resume from. evaluate: function that evaluates the agent;
        None: `play_episodes`.

        varies: what varies in the run's sweep by key, for TensorBoard; None: it is no job of a sweep. group: the
        processes of the run; None: this one alone. Raises DiskError if the logs cannot be opened, UnfitCheckpoint if
        the state does not fit.
        """
        self.config = config
        self._is_of_plugin = checked.is_of_plugin(config)
        self.folder = folder
        self._in_sweep = varies is not None
        self.group: Group = group or Alone()
        """The processes of the run."""
        self.share = Share.of(self.group.rank, self.group.size, config.algo.num_envs)
        """The environments of this process."""
        self._shown = run_folder.from_here(folder)  # now, because an environment may change the working directory
        self.step = 0
        """Agent steps so far, over all environments."""
        self._restored = restored[1] if restored else None
        if restored:
            self.step = restored[0]
        self._saved_step = self.step if restored else None
        """Step of the complete checkpoint that the run resumed from or saved last."""
        with fitting(folder):
            saved = self._restored["run"] if self._restored else {}
            self.statistics = Statistics(config, saved)
            self._clock = Clock(self.step, saved)
            self._streams = Streams(config.seed, (self._restored or {}).get("generators", {}))
            self.evaluations = Evaluations(config, saved, evaluate or self._play_episodes)
        self._pool: Pool | None = None
        self._closing = ExitStack()
        self._agent: Agent | None = None
        self._has_ended = False
        """True if `_end` has raised an error, which a plugin may have caught."""
        self._parts: dict[str, Stateful] = {}
        self._presses = signals.Presses()
        self._signal: int | None = None
        """The signal that asked this process to stop."""
        self._agreed: int | None = None
        """In a group: the signal on which all processes stop, at the same step."""
        self._episodes: list[tuple[int, Episode]] = []
        """In a group: the episodes of this process since the last exchange, each with the step at which it ended."""
        self._status_s = time.monotonic()
        self._done: dict[str, Any] | None = None
        """The status.json of a run that was done, until it goes on."""
        self._next_due_step = 0
        """The next step at which `after_step` must log, evaluate or save."""
        self.logger: Silent = Silent()
        if self.writes and restored:
            check_logs(folder)  # `begin` cuts them: a resume that is refused before that leaves the run as it was
            with suppress(FileNotFoundError, CheckpointError):
                status = inside.read_json(folder / "status.json")
                self._done = status if status.get("state") == "done" else None
        elif self.writes:
            hparams = {key: value for key, value in dataclasses.asdict(config).items() if key not in _NO_HPARAMS}
            self.logger = Logger(folder, hparams, None, varies=varies)
        shown = config.progress and self.writes
        self._progress = Progress(config.total_steps, config.log_every_s, shown, lambda: self._clock.train_s)
        self._progress.learning_starts = getattr(config.algo, "learning_starts", 0)
        self._progress.episodes_left = self.evaluations.episodes_left

    @property
    def writes(self) -> bool:
        """True in the process that writes the run folder: rank 0."""
        return self.group.rank == 0

    def generator(self, consumer: str) -> np.random.Generator:
        """Return the random number generator of a consumer. Checkpoints save its state."""
        return self._streams.generator(consumer)

    def row_generator(self, consumer: str) -> np.random.Generator:
        """Return the generator of a consumer that draws a row for each environment of this process."""
        generator = self.generator(consumer)
        return generator if self.group.is_alone else RowGenerator(generator, self.share)

    def seed_of(self, consumer: str) -> int:
        """Return a seed for a consumer with its own random numbers, such as an emulator or the initial weights."""
        return self._streams.seed_of(consumer)

    def env_seed(self) -> int:
        """Return the seed of the training environments. It depends on the step, so a resumed run has new episodes."""
        return self.seed_of(f"environments-{self.step}" if self.step else "environments")

    def constructor_seed(self) -> int:
        """Return the seed of what the constructors of the training environments draw, such as a map.

        It does not depend on the step: a resumed run, or a process in place of a lost one, has the same maps.
        """
        return self.seed_of("environments")

    @property
    def pool(self) -> Pool:
        """The training environments, which start at the first access."""
        if self._pool is None:
            if self.config.algo.plays_whole_episodes:
                env, make = registry.bounded(self.config.env), registry.make_ending_pool
            else:
                env, make = self.config.env, registry.make_pool
            # Constructors may read them. Each process has its own.
            global_random.seed(self.constructor_seed() + self.share.first)
            self._pool = make(env, self.share.count, self.share.first)
            if self._is_of_plugin:
                self._pool = cast(Pool, checked.CheckedActions(self.config, self._pool))
            signals.keep_process()
        return self._pool

    @property
    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Spaces (single frame, action) of the training environments.

        The first access starts the environments, unless they are in actors.
        """
        if self.config.runtime.name == "ray":
            return self.known_spaces
        return self.pool.frame_space, self.pool.action_space

    @functools.cached_property
    def known_spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """The spaces, as `spaces`, but do not start environments only for them: A3C starts its own in its workers."""
        with global_random.preserved():
            return self.spaces if self._pool is not None else registry.spaces(self.config.env)

    @functools.cached_property
    def spaces_in_words(self) -> list[str]:
        """The spaces as text, of `in_words`."""
        return in_words(*self.known_spaces)

    def _play_episodes(
        self,
        config: RunConfig,
        agent: Agent,
        episodes: int,
        seed: int,
        greedy: bool,
        stopping: Callable[[int], bool],
    ) -> dict[str, Any]:
        return play_episodes(config, agent, episodes, seed, greedy, stopping, self.spaces_in_words)

    def begin(self, agent: Agent, **parts: Stateful) -> bool:
        """Show the panel and, in a resumed run, load the saved state of the agent and its parts.

        Returns True in a resumed run. `parts`: all that a checkpoint saves besides the agent and the random numbers.
        Call the environments (a `Stepper` or `Collector`) `environments` and a replay buffer `replay`. A new run
        evaluates the untrained agent, unless `eval_every_steps` is 0. If a signal interrupted an evaluation, the
        resumed run makes it now. Raises UnfitCheckpoint if the state does not fit the agent or its parts, Stopped, and
        EnvironmentFailure if a plugin's agent or part lacks a method or has a state that no checkpoint can hold.
        """
        config = self.config
        if self._agent is not None:
            self._end(checked.fault(config, "it calls run.begin a second time", "call it once, before the first step"))
        for name, part in {"agent": agent, **parts}.items():
            checked.check_part(config, name, part)
        if self._restored is not None and self.group.is_alone:
            self.stop_if_unbegun()
        if unsound := checkpoint_files.first_unsound(agent.state_dict()):
            what = f"'{unsound}' of the agent begins with values that are NaN or infinite"
            notices.warn(f"{what}: no checkpoint is saved as long as it has them")
        self._agent, self._parts = agent, parts
        signals.keep_process()
        if not self.group.is_alone and getattr(getattr(agent, "learner", None), "group", None) is not self.group:
            what = f"{config.algo.name} does not join its learner to run.group"
            raise ConfigError(what, "runtime", "use runtime=local, or call `learner.join` as in rltrain/algos/a2c.py")
        if not self.group.is_alone:
            self._refuse_other_spaces()
        replay_bytes = getattr(parts.get("replay"), "nbytes", None)
        if replay_bytes is not None:
            self.statistics.record({"memory/replay_mb": replay_bytes / 1e6})
        if self._restored is None:
            if self.writes:
                with self.logger.warned():
                    run_folder.note_computing(self.folder)
                    own_code.copy(self.config, self.folder)
            if self.config.init_from is not None:
                self._take_weights(agent, Path(self.config.init_from))
            self._show(agent, replay_bytes)
            self.evaluations.due = bool(self.config.eval_every_steps)
            self._evaluate_if_due()
            if self.evaluations.due:  # a signal interrupted it
                self.stop_if_asked()
            return False
        path = self.folder / "checkpoints" / f"step_{self.step:09d}"
        # A copy of a run may have its last checkpoint as a folder `last` alone.
        path = path if inside.is_folder(path) else checkpoint.find(self.folder)
        checkpoint.check_spaces(path, self.spaces_in_words)
        cannot = "cannot save their state" if not self._restored.get("environments") else ""
        with fitting(self.folder):
            agent.load_state_dict(self._restored["agent"])
            loaded = {"agent": self._restored["agent"]}
            for name, part in parts.items():
                # A part with an empty state is missing in the checkpoint, such as environments that cannot be saved.
                state = self._restored.get(name, {})
                if name == "environments" and not self.group.is_alone:
                    state = part_of(state, self.share.rows)
                try:
                    part.load_state_dict(state)
                    loaded[name] = state
                except AnotherGame:
                    cannot = "are not those of the checkpoint, as their constructor draws numbers,"
            # After the parts, because making them may have drawn random numbers.
            self._streams.rewind(self._restored.get("generators", {}))
        for name, state in loaded.items():
            checked.check_restored(config, name, {"agent": agent, **parts}[name], state)
        message = f"resumed at step {self.step:,}"
        if self.config.runtime.name == "ray":
            message += ": the actors begin new episodes"
        elif "environments" in parts and cannot:
            exact = "agent, replay and random generators" if "replay" in parts else "agent and random generators"
            message += f": {exact} are exact; these environments {cannot} and begin new episodes"
        print(message, file=sys.stderr)
        self._show(agent, replay_bytes)
        self._restored = self._done = None
        if self.writes:
            saved_config.note_changes(self.config, self.folder)
            self._remove_later_result()
            checkpoint.go_on_from(self.folder, self.step, self.evaluations.best_step)
            # Last: if the disk is full or the process dies here, the next `resume` goes on from this checkpoint, too.
            # The log may have an evaluation of this step from a killed process. If it is due again, drop the old one.
            self.logger = Logger(self.folder, {}, self.step, self.evaluations.due or self.finished)
            self.logger.tell_of_other_episodes(self.statistics.recent)
        self._evaluate_if_due()
        self.stop_if_asked()
        return True

    def _remove_later_result(self) -> None:
        """Remove the result of a later step than the run goes on from: it is that of an agent which is given up."""
        path, steps = self.folder / "result.json", None
        with suppress(FileNotFoundError, CheckpointError):
            steps = inside.read_json(path).get("steps")
        if isinstance(steps, int) and steps > self.step:
            with disk_errors("the run folder", path):
                inside.remove(path)

    def _refuse_other_spaces(self) -> None:
        """Raise EnvironmentFailure if the processes of a group have environments with different spaces."""
        for rank, found in enumerate(self.group.gather(self.spaces_in_words)):
            if found != self.spaces_in_words:
                (obs, action), (own_obs, own_action) = found, self.spaces_in_words
                what = f"process {rank} has observations {obs} and actions {action}, but process {self.group.rank} has"
                fix = "give all environments of one configuration the same spaces"
                raise EnvironmentFailure(f"{what} {own_obs} and {own_action}", "env", fix)

    def _take_weights(self, agent: Agent, path: Path) -> None:
        """Give a new agent the weights of a checkpoint of another run, but not its optimizer's state.

        Raises CheckpointError.
        """
        checkpoint.check_first_weights(path, self.spaces_in_words)
        with suppress(ConfigError):  # of a plugin that this run does not use
            theirs = saved_config.from_dict(saved_config.read(path.parent.parent / "config.yaml"))
            checkpoint.check_of_run(path, saved_config.fingerprints(theirs, path.parent.parent), theirs.seed)
        with fitting(path):
            own, saved = agent.state_dict(), checkpoint.read(path, without="replay")["agent"]
            weights = own.keys() - {"optimizer", "num_updates"}
            if missing := sorted(weights - saved.keys()):
                what = f"the checkpoint of init_from has no '{missing[0]}', which {self.config.algo.name} needs"
                raise CheckpointError(what, str(path), "give a run of the same algorithm")
            self._refuse_other_network(path)
            if self.writes:
                own_code.tell_of_first_weights(self.config, path.parent.parent)
                self._tell_of_other_meaning(path)
            taken = {key: saved[key] for key in weights}
            agent.load_state_dict(own | taken)
        checked.check_restored(self.config, "agent", agent, taken)
        if self.writes:
            print(f"begins with the weights of {path}", file=sys.stderr)

    def _refuse_other_network(self, path: Path) -> None:
        """Raise CheckpointError if a checkpoint is of a run whose network computes something else.

        The weights do not always tell it: those of tanh and relu have equal shapes.
        """
        own = dataclasses.asdict(self.config.network)
        saved = dataclasses.asdict(NetworkConfig()) | saved_config.read(path.parent.parent / "config.yaml")["network"]
        # Only the mlp has more settings than its name.
        keys = [key for key in own if key == "name" or "mlp" in (own["name"], saved["name"])]
        differing = [key for key in keys if own[key] != saved[key]]
        if differing:
            then, now = (" ".join(_as_typed(f"network.{key}", values[key]) for key in differing)
                         for values in (saved, own))  # fmt: skip
            what = f"the run of init_from has another network than this one: {then}, not {now}"
            raise CheckpointError(what, str(path), f"add {then}, or leave init_from out")

    def _tell_of_other_meaning(self, path: Path) -> None:
        """Warn if actions or inputs of a checkpoint are as many as ours and mean something else.

        Only Doom and console games have settings for them.
        """
        saved = saved_config.read(path.parent.parent / "config.yaml")["env"]
        env = self.config.env
        if env.family not in ("doom", "retro") or saved.get("family") != env.family:
            return
        # The buttons are those of our scenario: the other run may be somebody else's, and so may its .cfg file.
        keys = [key for key in ("action_set", "noop", "actions", "game_variables") if hasattr(env, key)]
        pairs = {}
        with suppress(ConfigError):  # of a scenario with other buttons
            theirs = dataclasses.replace(env, **{key: saved[key] for key in keys if key in saved})
            if hasattr(env, "game_variables"):
                pairs["env.game_variables"] = (theirs.game_variables, env.game_variables)
            pairs["env.actions"] = (registry.action_names(theirs), registry.action_names(env))
        for key, (then, now) in pairs.items():
            if then != now:
                what = f"the weights of init_from were trained with {_listed(then)}, not with {_listed(now)}"
                notices.warn(f"{what}; {key}; give them in its order")

    def _show(self, agent: Agent, replay_bytes: int | None) -> None:
        if not self.config.progress or not self.writes:
            return
        if self.config.algo.is_tabular:
            facts = panel.table_facts(self.config, agent)
        else:
            from rltrain.run import agent_panel  # imports torch

            facts = agent_panel.facts(self.config, *self.known_spaces, agent, replay_bytes)
        if self.config.dry_run:
            panel.show_start(None, facts)
            return
        facts |= panel.plan_facts(self.config)
        rest = max(self.config.total_steps - self.step, 0)
        left_s = rest * self._clock.train_s / self.step if self.step else None
        facts["time"] = panel.time_fact(self.config, self.folder, left_s)
        panel.show_start(self._shown, facts)

    def close_with(self, close: Callable[[], None]) -> None:
        """Call `close` when the run ends, in whatever way."""
        self._closing.callback(close)

    def close(self) -> None:
        """Close the training environments, if they were started, and what `close_with` was called for."""
        self._closing.close()
        if self._pool is not None:
            self._pool.close()

    @property
    def agent(self) -> Agent:
        """The agent that `begin` was called with. Raises EnvironmentFailure if a plugin has not called it."""
        if self._agent is None:
            what, fix = "train has not called run.begin", "call run.begin(agent, environments=...) before its loop"
            raise checked.fault(self.config, what, fix)
        return self._agent

    @property
    def finished(self) -> bool:
        """True if all total_steps are done."""
        return self.step >= self.config.total_steps

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that counts the time inside as `env` or `learn`, for time/<name>_fraction."""
        return self._clock.phase(name)

    def spend(self, name: str, seconds: float) -> None:
        """Add seconds of `env` or `learn` that were measured elsewhere."""
        self._clock.spend(name, seconds)

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and log the finished episodes.

        In a group: one step of each environment of this process. The others take theirs, too, and their episodes
        arrive with the next `after_step`.
        """
        if not self.group.is_alone:
            self.step += self.share.total
            self._episodes += [(self.step, episode) for episode in episodes]
            return
        self.step += num_steps if type(num_steps) is int else operator.index(num_steps)  # one of NumPy's is no JSON
        if episodes:
            self.statistics.add(episodes)
            self.logger.episodes(self.step, episodes)

    def record(self, metrics: dict[str, Any] | Callable[[], dict[str, Any]]) -> None:
        """Store the latest value of each tag for the next line of metrics.

        Tensors are read, and a function such as `Learner.metrics` is called, only when the line is due.
        """
        if self._is_of_plugin and not callable(metrics):
            checked.check_tags(self.config, metrics)
        self.statistics.record(metrics)

    def after_step(self, num_steps: int) -> None:
        """Log, evaluate, save and stop if the last num_steps made it due. Raises Stopped, ProcessLost.

        num_steps: over all environments of the run.
        """
        if not self.group.is_alone:
            self._exchange()
        if self.step < self._next_due_step and self._agreed_signal is None:
            self._progress.show(self.step)
            if time.monotonic() - self._status_s > STATUS_EVERY_S:
                self.write_status("running")
            return
        signals.keep_process()
        due = self._due_after(num_steps)
        config = self.config
        if due(config.log_every_steps) or self.finished:
            self._log()
        self._progress.show(self.step)
        self.evaluations.due = due(config.eval_every_steps) and not self.finished
        self._evaluate_if_due()
        if due(config.checkpoint_every_steps) and not self.finished:
            self.save()
        cadences = (config.log_every_steps, config.eval_every_steps, config.checkpoint_every_steps, config.total_steps)
        self._next_due_step = min((self.step // every + 1) * every for every in cadences if every)
        self.stop_if_asked()

    @property
    def stopping(self) -> bool:
        """True if a signal asked the run to stop. Long loops between two `after_step` calls should check it."""
        return self._signal is not None

    @property
    def stop_signal(self) -> int | None:
        """Number of the signal that asked the run to stop, or None."""
        return self._signal

    @property
    def _agreed_signal(self) -> int | None:
        """The signal on which this run stops now; a group stops when all processes know of it."""
        return self._signal if self.group.is_alone else self._agreed

    def _exchange(self) -> None:
        """Tell the other processes of episodes and signals since the last exchange, and hear of theirs."""
        rows = [
            (step, self.share.first + episode.env_index, episode.reward, episode.length_steps, episode.length_frames)
            for step, episode in self._episodes
        ]
        self._episodes.clear()
        told = self.group.gather({"signal": self._signal, "episodes": rows})
        self._agreed = next((each["signal"] for each in told if each["signal"]), None)
        for step, *facts in sorted(row for each in told for row in each["episodes"]):
            episode = Episode(*facts)
            self.statistics.add([episode])
            self.logger.episodes(step, [episode])

    def stop_if_asked(self) -> None:
        """Save and raise Stopped if a signal asked the run to stop."""
        if self._agreed_signal is not None:
            self._stop()

    def stop_if_unbegun(self) -> None:
        """Raise Stopped if a signal came before `begin`, while environments started. No step is lost."""
        if self._signal is not None and self._agent is None:
            stopped = self._stopped(self._signal) if self._restored else Stopped(self._signal)
            if self._restored and sys.argv[1:2] == ["resume"]:  # what was typed with it is saved nowhere yet
                stopped = Stopped(self._signal, str(self._shown), shlex.join(sys.argv[2:]))
            raise stopped

    def _stop(self) -> NoReturn:
        number = self._agreed_signal
        assert number is not None
        if self._saved_step != self.step:
            self.save()
        self.group.gather(None)  # nobody ends before rank 0 has saved
        self._end(self._stopped(number))

    def _end(self, error: RltrainError) -> NoReturn:
        """Raise an error. One after another is raised so that `except Exception` in a plugin does not catch it."""
        if self._has_ended:
            raise Ignored(error)
        self._has_ended = True
        raise error

    def _stopped(self, number: int) -> Stopped:
        again = shlex.quote(str(self._shown)) + panel.named_again(self.config, to_train=True)
        return Stopped(number, str(self._shown), again)

    def mark(self) -> Callable[[], None]:
        """Return a function that resets the step, the counts and the random numbers to their current state."""
        step, states, uncount = self.step, self._streams.states(), self.statistics.mark()

        def go_back() -> None:
            self.step = step
            self._streams.rewind(states)
            uncount()

        return go_back

    def _due_after(self, num_steps: int) -> Callable[[int | None], bool]:
        before = self.step - num_steps
        return lambda every: every is not None and every > 0 and self.step // every > before // every

    def save(self) -> None:
        """Commit a complete checkpoint, with the environments of all processes. Raises DiskError."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        if not self.group.is_alone and "environments" in state:
            state["environments"] = merged(self.group.gather(state["environments"]))
        if not self.writes:
            self._saved_step = self.step
            return
        run_folder.keep_locks()
        state["agent"] = self.agent.state_dict()
        state["generators"] = self._streams.states()
        state["run"] = {
            **self.statistics.state_dict(),
            **self.evaluations.state_dict(),
            "train_time_s": self._clock.train_s,
            "wall_time_s": self._clock.wall_s,
        }
        if self._restored is None:  # the folder of a resumed run may be somebody else's
            with self.logger.warned():
                own_code.complete(self.config, self.folder)
        self.logger.sync()
        saved = self._commit(state, complete=True)
        self._saved_step = self.step
        if self.evaluations.best_step == self.step:
            checkpoint.point(self.folder, "best", saved)
        self.write_status("running")

    def _refuse_unsound(self, agent: dict[str, Any]) -> None:
        if name := checkpoint_files.first_unsound(agent):
            what = f"'{name}' of the agent has values that are NaN or infinite"
            fix = "no command takes such an agent: keep its state finite"
            raise NonFiniteError(
                what, f"algo={self.config.algo.name}, network={self.config.network.name}, plugins", fix
            )

    def _commit(self, state: dict[str, Any], complete: bool) -> Path:
        try:
            self._refuse_unsound(state["agent"])
            return checkpoint.save(
                self.folder,
                self.step,
                state,
                complete=complete,
                made_for=saved_config.fingerprint(self.config),
                seed=self.config.seed,
                previous=self._saved_step,
                best_step=self.evaluations.best_step,
                spaces=self.spaces_in_words,
                keep_every_steps=self.config.checkpoint_keep_every_steps,
            )
        except (TypeError, ValueError, RecursionError):
            for name, part in state.items():
                checked.check_state(self.config, name, part)
            raise

    def conclude(self) -> None:
        """Make the final evaluation, save, and write result.json. Raises Stopped; a resumed run concludes again."""
        train_s = self._clock.train_s
        try:
            with self._clock.paused(self.step):
                final = self._evaluate(final=True)
        except Interrupted:
            self._stop()
        self.save()
        self.group.gather(None)  # nobody ends before rank 0 has saved
        if not self.writes:
            return
        result = {
            "final": final,
            "best": self.evaluations.best,
            "steps": self.step,
            "episodes": self.statistics.num_episodes,
            "wall_time_s": self._clock.wall_s,
            "train_time_s": train_s,
            "fps": round(self.step / max(train_s, 1e-9), 1),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        self.logger.result(self.step, final, self.evaluations.best)
        atomic.write_json(self.folder / "result.json", result)
        self._progress.end()
        self._tell_of_no_update()
        # The table of a sweep has the scores of its jobs.
        if not self.config.dry_run and (self.config.progress or not self._in_sweep):
            panel.show_end(self._shown, self.config, result)

    def _tell_of_no_update(self) -> None:
        """Warn if the agent is as it began: an agent without a learner has no number of updates."""
        learner = getattr(self.agent, "learner", None)
        if getattr(learner, "num_updates", None) == 0:
            what = f"no update was made in {self.step:,} steps, so the agent is as it began"
            keys = [key for key in ("learning_starts", "replay_capacity") if hasattr(self.config.algo, key)]
            where = ", ".join(["total_steps", *(f"algo.{key}={getattr(self.config.algo, key)}" for key in keys)])
            fix = "train longer, or let the replay buffer hold more" if keys else "train longer"
            notices.warn(f"{what}; {where}; {fix}")

    def write_status(self, state: str, reason: str = "", exit_code: int | None = None) -> None:
        """Write status.json. A write error prints a warning and does not end the training."""
        self._status_s = time.monotonic()
        if not self.writes:
            return
        facts = {"state": state, "step": self.step, "pid": os.getpid(), "reason": reason, "exit_code": exit_code}
        if self._done is not None and state != "running":
            facts = self._done
        with self.logger.warned():
            atomic.write_json(self.folder / "status.json", facts)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a stop signal: save and stop after the current step. A second Ctrl-C exits immediately."""
        # In a group one Ctrl-C may arrive twice: from the launcher, and from another process that passes it on.
        if self._presses.is_second(number) and self.group.is_alone:
            process.exit_now(128 + number)
        if self._signal is None and self.writes:
            with suppress(OSError):  # not print: the signal may interrupt a print, which is not reentrant
                again = b"; press Ctrl-C again to exit without saving" if self.group.is_alone else b""
                os.write(2, b"\nrltrain: stopping: saving first" + again + b"\n")
        self._signal = number
        self.group.note_signal(number)
        patience.hurry(128 + number)

    def _evaluate_if_due(self) -> None:
        # An interrupted evaluation stays due. The resumed run makes it first, so its metrics are the same.
        if self.evaluations.due:
            with suppress(Interrupted), self._clock.paused(self.step):
                self._evaluate()
                self.evaluations.due = False

    def _evaluate(self, final: bool = False) -> dict[str, Any]:
        """Evaluate the agent and log it; point `best` to a checkpoint if it is the best. Raises Interrupted.

        In a group rank 0 evaluates, and the others wait for it.
        """
        if self.group.is_alone:
            return self._evaluate_here(final)
        told: dict[str, Any] = {}
        if self.writes:
            try:
                told = {"summary": self._evaluate_here(final)}
            except Interrupted:
                told = {"signal": self._signal}
        told = self.group.broadcast(told)
        if "signal" in told:
            self._agreed = told["signal"]
            raise Interrupted
        return dict(told["summary"])

    def _evaluate_here(self, final: bool) -> dict[str, Any]:
        # The final evaluation has another seed, so that it plays other episodes than those that selected `best`.
        seed = self.seed_of("final evaluation" if final else "evaluation")

        num_episodes = self.evaluations.num_episodes(final)

        def stopping(num_done: int) -> bool:
            self._progress.show(self.step, f"evaluating {min(num_done + 1, num_episodes)} of {num_episodes}")
            return self.stopping

        start_s = time.monotonic()
        try:
            summary, tags = self.evaluations.make(self.agent, self.step, seed, final, stopping)
        except EnvironmentFailure as failure:
            if self.stopping:  # its environments were still starting
                raise Interrupted from failure
            raise
        self._progress.evaluated(num_episodes, time.monotonic() - start_s)
        self.logger.metrics(self.step, {"time_s": self._clock.wall_s, **tags})
        if self.evaluations.best is summary:
            if self._saved_step == self.step:  # a complete checkpoint of this step exists: do not save the agent again
                checkpoint.point(self.folder, "best", checkpoint.find(self.folder, str(self.step)))
            elif not final:
                checkpoint.point(self.folder, "best", self._commit({"agent": self.agent.state_dict()}, complete=False))
        return summary

    def _over_processes(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with the means of `train/` over the processes, weighted by their rows of a minibatch."""
        tags = sorted(tag for tag in values if tag.startswith("train/"))
        if self.group.size == 1 or not tags:
            return values
        means = self.group.sum(np.array([values[tag] for tag in tags]) * self.share.weight)
        same = ("train/learning_rate", "train/n_updates", "train/grad_norm")
        return values | {tag: mean for tag, mean in zip(tags, means.tolist(), strict=True) if tag not in same}

    def _log(self) -> None:
        values = {"time_s": self._clock.wall_s, "time/total_timesteps": self.step, **self._clock.end_window(self.step)}
        values |= self._over_processes(self.statistics.tags(self.step, self.config.device))
        restarts = self._pool.num_restarts if self._pool is not None else 0
        if self.group.size > 1:
            restarts = int(self.group.sum(np.array([restarts]))[0])
        if restarts:
            values["env/restarts"] = restarts
        self.logger.metrics(self.step, values)
        self._progress.facts = progress_facts(values, self.evaluations.best)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "every combination of buttons"


def _as_typed(key: str, value: Any) -> str:
    """Return a setting as a command line gives it: network.hidden_sizes=[64,64]."""
    return f"{key.removesuffix('.name')}={value}".replace(", ", ",")
