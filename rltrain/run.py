"""A run: its folder, its random numbers, and everything that happens beside learning, when it is due.

An algorithm calls `advance` with what its environments did and `after_step` with what there is to save; logging,
evaluation, checkpoints and stopping follow from the configuration.
"""

import dataclasses
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

import numpy as np

from rltrain import atomic, checkpoint, panel
from rltrain.clock import Clock
from rltrain.config import RunConfig, algo_module, fingerprint
from rltrain.envs import registry
from rltrain.envs.pool import Episode, Pool
from rltrain.errors import NonFiniteError, Stopped, UnfitCheckpoint
from rltrain.evaluate import Agent, Interrupted
from rltrain.host_memory import peak_rss_mb, rss_mb
from rltrain.logger import Logger, Progress
from rltrain.streams import Streams


class Stateful(Protocol):
    """A part of a training that a checkpoint holds beside the agent: a replay, a loop's counters."""

    def state_dict(self) -> dict[str, Any]:
        """Arrays, tensors and JSON values, nested."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """What comes up while a saved state is taken over: it is whole, and of something else."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnfitCheckpoint(f"the checkpoint does not fit: {what}", str(folder), "use another") from error


class Run:
    """The state of one run that does not belong to its algorithm."""

    def __init__(self, config: RunConfig, folder: Path, restored: tuple[int, dict[str, Any]] | None) -> None:
        self.config = config
        self.folder = folder
        self.step = 0
        """Agent decisions so far, over all environments."""
        self._restored = restored[1] if restored else None
        if restored:
            self.step = restored[0]
        self._saved_step = self.step if restored else None
        """That of the complete checkpoint which the run goes on from, or wrote last."""
        with _fitting(folder):
            saved = self._restored["run"] if self._restored else {}
            self._num_episodes = int(saved.get("num_episodes", 0))
            self._clock = Clock(self.step, saved)
            self._streams = Streams(config.seed, (self._restored or {}).get("generators", {}))
            self._best: dict[str, Any] | None = saved.get("best") or None
            self._best_step = int(self._best["step"]) if self._best else None
            self._evaluation_due = bool(saved.get("evaluation_due", False))
            self._recent = deque([(float(reward), int(length)) for reward, length in saved.get("recent", [])], 100)
            self._latest: dict[str, Any] = dict(saved.get("latest", []))
        self._pool: Pool | None = None
        self._signal: int | None = None
        self._next_due_step = 0
        """Before it `after_step` has nothing to do."""
        # The evaluation of this very step is about to be made again, where an earlier attempt was killed after it.
        again = self._evaluation_due or self.finished
        self.logger = Logger(folder, dataclasses.asdict(config), self.step if restored else None, again)
        self._progress = Progress(config.total_steps, config.log_every_s, config.progress)

    def generator(self, consumer: str) -> np.random.Generator:
        """The random numbers of one consumer: its own stream, kept in checkpoints."""
        return self._streams.generator(consumer)

    def seed_of(self, consumer: str) -> int:
        """A seed for a consumer with random numbers of its own: an emulator, a network's first weights."""
        return self._streams.seed_of(consumer)

    def env_seed(self) -> int:
        """The seed of the training environments; a resumed run begins new episodes, not the first ones again."""
        return self.seed_of(f"environments-{self.step}" if self.step else "environments")

    def make_pool(self) -> Pool:
        """The training environments."""
        self._pool = registry.make_pool(self.config.env, self.config.num_envs or 1)
        return self._pool

    def restore(self, agent: Agent, **parts: Stateful) -> bool:
        """Give a resumed run's agent and parts their saved state; returns whether there was one.

        An evaluation that a signal interrupted is made now. Raises UnfitCheckpoint where the state is not of this kind
        of agent or of these shapes, and Stopped.
        """
        if self._restored is None:
            return False
        with _fitting(self.folder):
            agent.load_state_dict(self._restored["agent"])
            for name, part in parts.items():
                # An empty part leaves no trace in a checkpoint: environments that could not tell where they stood.
                part.load_state_dict(self._restored.get(name, {}))
            # Last, as making the parts may have drawn numbers.
            self._streams.rewind(self._restored.get("generators", {}))
        if "environments" in parts and not self._restored.get("environments"):
            print(
                f"resumed at step {self.step:,}: networks, optimizer, replay and random generators are exact; these"
                " environments cannot save where they stood and begin new episodes",
                file=sys.stderr,
            )
        self._restored = None
        checkpoint.go_on_from(self.folder, self.step, self._best_step)
        self._evaluate_if_due(agent)
        self.stop_if_asked(agent, **parts)
        return True

    @property
    def finished(self) -> bool:
        """Whether total_steps are done."""
        return self.step >= self.config.total_steps

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count the time of `env` or `learn` towards time/<name>_fraction."""
        return self._clock.phase(name)

    def spend(self, name: str, seconds: float) -> None:
        """Count time of `env` or `learn` that was measured elsewhere."""
        self._clock.spend(name, seconds)

    def advance(self, num_steps: int, episodes: list[Episode]) -> None:
        """Count agent steps and take note of the episodes that finished."""
        self.step += num_steps
        if episodes:
            self._num_episodes += len(episodes)
            self._recent.extend((episode.reward, episode.length_steps) for episode in episodes)
            self.logger.episodes(self.step, episodes)

    def record(self, metrics: dict[str, Any]) -> None:
        """Keep the latest value of each tag for the next line of metrics; tensors are read only then."""
        self._latest.update(metrics)

    def after_step(self, num_steps: int, agent: Agent, **parts: Stateful) -> None:
        """Log, evaluate, save and stop where the last num_steps made it due. Raises Stopped."""
        if self.step < self._next_due_step and self._signal is None:
            return
        due = self._due_after(num_steps)
        config = self.config
        if due(config.log_every_steps) or self.finished:
            self._log()
        self._evaluation_due = due(config.eval_every_steps) and not self.finished
        self._evaluate_if_due(agent)
        if due(config.checkpoint_every_steps) and not self.finished:
            self.save(agent, **parts)
        cadences = (config.log_every_steps, config.eval_every_steps, config.checkpoint_every_steps, config.total_steps)
        self._next_due_step = min((self.step // every + 1) * every for every in cadences if every)
        self.stop_if_asked(agent, **parts)

    @property
    def stopping(self) -> bool:
        """Whether a signal asked for a stop: for loops that take long from one `after_step` to the next."""
        return self._signal is not None

    def stop_if_asked(self, agent: Agent, **parts: Stateful) -> None:
        """Save and raise Stopped where a signal asked for it."""
        if self._signal is not None:
            self._stop(agent, **parts)

    def _stop(self, agent: Agent, **parts: Stateful) -> NoReturn:
        assert self._signal is not None
        if self._saved_step != self.step:
            self.save(agent, **parts)
        raise Stopped(self._signal, str(self.folder))

    def mark(self) -> Callable[[], None]:
        """Note where the run stands; what it returns takes back all that was counted and drawn since."""
        step, num_episodes, recent = self.step, self._num_episodes, self._recent.copy()
        states = self._streams.states()

        def go_back() -> None:
            self.step, self._num_episodes, self._recent = step, num_episodes, recent
            self._streams.rewind(states)

        return go_back

    def _due_after(self, num_steps: int) -> Callable[[int | None], bool]:
        before = self.step - num_steps
        return lambda every: every is not None and every > 0 and self.step // every > before // every

    def save(self, agent: Agent, **parts: Stateful) -> None:
        """Commit a checkpoint of everything."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        state["agent"] = agent.state_dict()
        state["generators"] = self._streams.states()
        state["run"] = {
            "num_episodes": self._num_episodes,
            "train_time_s": self._clock.train_s,
            "wall_time_s": self._clock.wall_s,
            "recent": list(self._recent),
            "latest": [(tag, float(value)) for tag, value in self._latest.items()],
            "best": self._best or {},
            "evaluation_due": self._evaluation_due,
        }
        saved = self._commit(state, complete=True)
        self._saved_step = self.step
        if self._best_step == self.step:
            checkpoint.point(self.folder, "best", saved)
        self.write_status("running")

    def _commit(self, state: dict[str, Any], complete: bool) -> Path:
        return checkpoint.save(
            self.folder,
            self.step,
            state,
            complete=complete,
            made_for=fingerprint(self.config),
            previous=self._saved_step,
            best_step=self._best_step,
            keep_every_steps=self.config.checkpoint_keep_every_steps,
        )

    def conclude(self, agent: Agent, **parts: Stateful) -> None:
        """Evaluate the trained agent, save it and write result.json. Raises Stopped; a resume then concludes again."""
        train_s = self._clock.train_s
        try:
            with self._clock.paused(self.step):
                final = self._evaluate(agent, final=True)
        except Interrupted:
            self._stop(agent, **parts)
        self.save(agent, **parts)
        assert self._best is not None
        result = {
            "final": final,
            "best": self._best,
            "steps": self.step,
            "episodes": self._num_episodes,
            "wall_time_s": self._clock.wall_s,
            "train_time_s": train_s,
            "fps": round(self.step / max(train_s, 1e-9), 1),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        atomic.write_json(self.folder / "result.json", result)
        self._progress.end()
        if self.config.progress and not self.config.dry_run:
            panel.show_end(self.folder, result, getattr(self.config.env, "id", ""))

    def write_status(self, state: str, reason: str = "", exit_code: int | None = None) -> None:
        """Say in status.json where the run stands; like a log, it never ends a training."""
        facts = {"state": state, "step": self.step, "pid": os.getpid(), "reason": reason, "exit_code": exit_code}
        with self.logger.warned():
            atomic.write_json(self.folder / "status.json", facts)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Ask for a stop after the current step; a second SIGINT leaves at once."""
        if self._signal is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self._signal = number

    def _evaluate_if_due(self, agent: Agent) -> None:
        """One that a signal interrupts stays due: a resumed run makes it first, and so has the same metrics."""
        if self._evaluation_due:
            with suppress(Interrupted), self._clock.paused(self.step):
                self._evaluate(agent)
                self._evaluation_due = False

    def _evaluate(self, agent: Agent, final: bool = False) -> dict[str, Any]:
        """The final evaluation plays other episodes than those that chose `best`. Raises Interrupted."""
        config = self.config
        episodes = config.final_eval_episodes if final else config.eval_episodes
        seed = self.seed_of("final evaluation" if final else "evaluation")
        evaluate = algo_module(config.algo.name).evaluate
        evaluation = evaluate(config, agent, episodes, seed, config.eval_greedy, lambda: self.stopping)
        keys = ("mean_reward", "std_reward", "mean_ep_length")
        tags = {f"eval/{key}": evaluation[key] for key in keys if key in evaluation}
        self.logger.metrics(self.step, {"time_s": self._clock.wall_s, **tags})
        summary = {key: evaluation[key] for key in ("mean_reward", "std_reward", "episodes")} | {"step": self.step}
        if self._best is None or summary["mean_reward"] > self._best["mean_reward"]:
            self._best, self._best_step = summary, self.step
            if self._saved_step == self.step:  # made late, in a resumed run: what there is holds more than the agent
                checkpoint.point(self.folder, "best", checkpoint.find(self.folder, str(self.step)))
            elif not final:
                checkpoint.point(self.folder, "best", self._commit({"agent": agent.state_dict()}, complete=False))
        return summary

    def _log(self) -> None:
        values = {"time_s": self._clock.wall_s, "time/total_timesteps": self.step, **self._clock.end_window(self.step)}
        if self._recent:
            values["rollout/ep_rew_mean"] = float(np.mean([reward for reward, _ in self._recent]))
            values["rollout/ep_len_mean"] = float(np.mean([length for _, length in self._recent]))
        if self._pool is not None and self._pool.num_restarts:
            values["env/restarts"] = self._pool.num_restarts
        values["memory/rss_mb"] = round(rss_mb(), 1)
        if self.config.device != "cpu":  # a table's always is, so torch is there by now
            from rltrain.device import memory_tags

            values |= memory_tags(self.config.device)
        values |= {tag: float(value) for tag, value in self._latest.items()}
        for tag in ("train/loss", "train/grad_norm"):
            if not math.isfinite(values.get(tag, 0.0)):
                raise NonFiniteError(
                    f"{tag} is {values[tag]} at step {self.step:,}",
                    tag,
                    "lower algo.learning_rate or algo.reward_scale",
                    {"tensor": tag},
                )
        self.logger.metrics(self.step, values)
        facts = {"return": f"{values['rollout/ep_rew_mean']:.2f}"} if self._recent else {}
        if self._best is not None:
            facts["best eval"] = f"{self._best['mean_reward']:.2f}"
        if "train/loss" in values:
            facts["loss"] = f"{values['train/loss']:.4g}"
        facts["memory"] = f"{values['memory/rss_mb']:.0f} MB"
        self._progress.show(self.step, facts)
