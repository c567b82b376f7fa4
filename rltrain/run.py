"""A run: its folder, its random numbers, and everything that happens beside learning, when it is due.

An algorithm calls `advance` with what its environments did and `after_step` with what there is to save; logging,
evaluation, checkpoints and stopping follow from the configuration.
"""

import dataclasses
import math
import os
import resource
import signal
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import psutil

from rltrain import checkpoint, panel, run_folder
from rltrain.config import RunConfig, algo_module
from rltrain.envs import registry
from rltrain.envs.pool import Episode
from rltrain.errors import NonFiniteError, Stopped
from rltrain.evaluate import Agent
from rltrain.logger import Logger, Progress


class Stateful(Protocol):
    """A part of a training that a checkpoint holds beside the agent: a replay, a loop's counters."""

    def state_dict(self) -> dict[str, Any]:
        """Arrays, tensors and JSON values, nested."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


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
        saved = self._restored["run"] if self._restored else {}
        self._num_episodes = int(saved.get("num_episodes", 0))
        self._train_time_s = float(saved.get("train_time_s", 0.0))
        self._wall_before_s = float(saved.get("wall_time_s", 0.0))
        self._best: dict[str, Any] | None = saved.get("best") or None
        self._recent: deque[tuple[float, int]] = deque([tuple(pair) for pair in saved.get("recent", [])], maxlen=100)
        self._generators: dict[str, np.random.Generator] = {}
        self._latest: dict[str, Any] = {}
        self._phase_s = {"env": 0.0, "learn": 0.0}
        self._start_s = self._window_s = time.perf_counter()
        self._window_step = self.step
        self._signal: int | None = None
        hparams = _flatten(dataclasses.asdict(config))
        self.logger = Logger(folder, hparams, self.step if restored else None)
        self._progress = Progress(config.total_steps, config.log_every_s, config.progress)

    def generator(self, consumer: str) -> np.random.Generator:
        """The random numbers of one consumer: its own stream, kept in checkpoints."""
        if consumer not in self._generators:
            generator = np.random.default_rng([self.config.seed, zlib.crc32(consumer.encode())])
            saved = (self._restored or {}).get("generators", {}).get(consumer)
            if saved is not None:
                generator.bit_generator.state = saved
            self._generators[consumer] = generator
        return self._generators[consumer]

    def seed_of(self, consumer: str) -> int:
        """A seed for a consumer with random numbers of its own: an emulator, a network's first weights."""
        sequence = np.random.SeedSequence([self.config.seed, zlib.crc32(consumer.encode())])
        return int(sequence.generate_state(1)[0] >> 1)

    def env_seed(self) -> int:
        """The seed of the training environments; a resumed run begins new episodes, not the first ones again."""
        return self.seed_of(f"environments-{self.step}" if self.step else "environments")

    def restore(self, agent: Agent, **parts: Stateful) -> bool:
        """Give a resumed run's agent and parts their saved state; returns whether there was one."""
        if self._restored is None:
            return False
        agent.load_state_dict(self._restored["agent"])
        for name, part in parts.items():
            part.load_state_dict(self._restored[name])
        self._restored = {"generators": self._restored.get("generators", {})}
        return True

    @property
    def finished(self) -> bool:
        """Whether total_steps are done."""
        return self.step >= self.config.total_steps

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of `env` or `learn` towards time/<name>_fraction."""
        start_s = time.perf_counter()
        yield
        self._phase_s[name] += time.perf_counter() - start_s

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
        due = self._due_after(num_steps)
        config = self.config
        if due(config.log_every_steps) or self.finished:
            self._log()
        if due(config.eval_every_steps) and not self.finished:
            self._train_time_s += time.perf_counter() - self._window_s
            self._evaluate(agent)
            self._begin_window()
        if due(config.checkpoint_every_steps) and not self.finished:
            self.save(agent, **parts)
        if self._signal is not None:
            self.save(agent, **parts)
            raise Stopped(self._signal, str(self.folder))

    def _due_after(self, num_steps: int) -> Callable[[int | None], bool]:
        before = self.step - num_steps
        return lambda every: every is not None and every > 0 and self.step // every > before // every

    def save(self, agent: Agent, **parts: Stateful) -> None:
        """Commit a checkpoint of everything."""
        now = time.perf_counter()
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        state["agent"] = agent.state_dict()
        state["generators"] = {name: generator.bit_generator.state for name, generator in self._generators.items()}
        state["run"] = {
            "num_episodes": self._num_episodes,
            "train_time_s": self._train_time_s + now - self._window_s,
            "wall_time_s": self._wall_before_s + now - self._start_s,
            "recent": list(self._recent),
            "best": self._best or {},
        }
        saved = checkpoint.save(self.folder, self.step, state)
        if self._best is not None and self._best["step"] == self.step:
            checkpoint.point(self.folder, "best", saved)
        self.write_status("running")

    def conclude(self, agent: Agent, **parts: Stateful) -> None:
        """Evaluate the trained agent, save it and write result.json."""
        self._train_time_s += time.perf_counter() - self._window_s
        final = self._evaluate(agent, final=True)
        self._window_s = time.perf_counter()
        self.save(agent, **parts)
        wall_s = self._wall_before_s + time.perf_counter() - self._start_s
        assert self._best is not None
        result = {
            "final": final,
            "best": self._best,
            "steps": self.step,
            "episodes": self._num_episodes,
            "wall_time_s": round(wall_s, 3),
            "train_time_s": round(self._train_time_s, 3),
            "fps": round(self.step / max(self._train_time_s, 1e-9), 1),
            "peak_rss_mb": round(_peak_rss_mb(), 1),
        }
        run_folder.write_json(self.folder / "result.json", result)
        self._progress.end()
        if self.config.progress:
            panel.show_end(self.folder, result)

    def write_status(self, state: str, reason: str = "", exit_code: int | None = None) -> None:
        """Say in status.json where the run stands."""
        facts = {"state": state, "step": self.step, "pid": os.getpid(), "reason": reason, "exit_code": exit_code}
        run_folder.write_json(self.folder / "status.json", facts)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Ask for a stop after the current step; a second SIGINT leaves at once."""
        if self._signal is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self._signal = number

    def _evaluate(self, agent: Agent, final: bool = False) -> dict[str, Any]:
        """The final evaluation plays other episodes than those that chose `best`."""
        config = self.config
        episodes = config.final_eval_episodes if final else config.eval_episodes
        seed = self.seed_of("final evaluation" if final else "evaluation")
        evaluation = algo_module(config.algo.name).evaluate(config, agent, episodes, seed, config.eval_greedy)
        keys = ("mean_reward", "std_reward", "mean_ep_length")
        tags = {f"eval/{key}": evaluation[key] for key in keys if key in evaluation}
        self.logger.metrics(self.step, {"time_s": self._elapsed_s(), **tags})
        summary = {key: evaluation[key] for key in ("mean_reward", "std_reward", "episodes")} | {"step": self.step}
        if self._best is None or summary["mean_reward"] > self._best["mean_reward"]:
            self._best = summary
            if not final:
                best = checkpoint.save(self.folder, self.step, {"agent": agent.state_dict()}, complete=False)
                checkpoint.point(self.folder, "best", best)
        return summary

    def _elapsed_s(self) -> float:
        return round(self._wall_before_s + time.perf_counter() - self._start_s, 3)

    def _begin_window(self) -> None:
        """Measure speed from here on: what evaluation takes does not count."""
        self._window_s, self._window_step = time.perf_counter(), self.step
        self._phase_s = dict.fromkeys(self._phase_s, 0.0)

    def _log(self) -> None:
        now = time.perf_counter()
        window_s = max(now - self._window_s, 1e-9)
        values = {"time_s": self._elapsed_s(), "time/total_timesteps": self.step}
        if self.step > self._window_step:
            values["time/fps"] = round((self.step - self._window_step) / window_s, 1)
            values["time/env_fraction"] = round(self._phase_s["env"] / window_s, 4)
            values["time/learn_fraction"] = round(self._phase_s["learn"] / window_s, 4)
        if self._recent:
            values["rollout/ep_rew_mean"] = float(np.mean([reward for reward, _ in self._recent]))
            values["rollout/ep_len_mean"] = float(np.mean([length for _, length in self._recent]))
        values["memory/rss_mb"] = round(_rss_mb(), 1)
        values |= {tag: float(value) for tag, value in self._latest.items()}
        for tag in ("train/loss", "train/grad_norm"):
            if not math.isfinite(values.get(tag, 0.0)):
                raise NonFiniteError(
                    f"{tag} is {values[tag]} at step {self.step:,}",
                    tag,
                    "lower algo.learning_rate or algo.reward_scale",
                )
        self.logger.metrics(self.step, values)
        self._train_time_s += window_s
        self._begin_window()
        facts = {"return": f"{values['rollout/ep_rew_mean']:.2f}"} if self._recent else {}
        if self._best is not None:
            facts["best eval"] = f"{self._best['mean_reward']:.2f}"
        if "train/loss" in values:
            facts["loss"] = f"{values['train/loss']:.4g}"
        facts["memory"] = f"{values['memory/rss_mb']:.0f} MB"
        self._progress.show(self.step, facts)


def make_pool(config: RunConfig) -> Any:
    """The training environments of a run."""
    return registry.make_pool(config.env, config.num_envs or 1)


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _rss_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
