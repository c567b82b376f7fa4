"""Episode statistics and latest metrics of a run, collected for the lines of metrics.jsonl."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from rltrain.config.run import RunConfig
from rltrain.envs.pool import Episode
from rltrain.errors import NonFiniteError
from rltrain.run import checked
from rltrain.system.ram import rss_mb


class Statistics:
    """Statistics of a run, over all processes of the run."""

    def __init__(self, config: RunConfig, saved: dict[str, Any]) -> None:
        """saved: the statistics of earlier processes, from a checkpoint."""
        self._config = config
        self.num_episodes = int(saved.get("num_episodes", 0))
        """Finished episodes so far."""
        self.recent = deque([(float(reward), int(length)) for reward, length in saved.get("recent", [])], 100)
        """Raw return and length in agent steps of the last 100 finished episodes."""
        self.latest: dict[str, Any] = dict(saved.get("latest", []))
        """The latest value of each tag that the algorithm recorded. Tensors are read only when a line is due."""
        self._pending: Callable[[], dict[str, Any]] | None = None

    def record(self, metrics: dict[str, Any] | Callable[[], dict[str, Any]]) -> None:
        """Store the latest value of each tag. A function is called only when the values are needed."""
        if callable(metrics):
            self._pending = metrics
        else:
            self.latest.update(metrics)

    def _read(self) -> dict[str, float]:
        """Return the latest value of each tag.

        Raises NonFiniteError, which on a GPU is detected only here, and EnvironmentFailure for metrics of a plugin's
        algorithm that are no numbers or have rltrain's own names.
        """
        if self._pending is not None:
            self.latest.update(checked.called(self._config, self._pending))
        return checked.numbers_of(self._config, self.latest)

    def add(self, episodes: list[Episode]) -> None:
        """Count finished episodes."""
        self.num_episodes += len(episodes)
        self.recent.extend((float(episode.reward), int(episode.length_steps)) for episode in episodes)

    def mark(self) -> Callable[[], None]:
        """Return a function that resets the counts to their current state."""
        num_episodes, recent = self.num_episodes, self.recent.copy()

        def go_back() -> None:
            self.num_episodes, self.recent = num_episodes, recent

        return go_back

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "num_episodes": self.num_episodes,
            "recent": list(self.recent),
            "latest": list(self._read().items()),
        }

    def tags(self, step: int, device: str) -> dict[str, Any]:
        """Return the values of a line of metrics by tag. Raises NonFiniteError if loss or gradient is not finite."""
        values = {}
        if self.recent:
            values["rollout/ep_rew_mean"] = float(np.mean([reward for reward, _ in self.recent]))
            values["rollout/ep_len_mean"] = float(np.mean([length for _, length in self.recent]))
        values["memory/rss_mb"] = round(rss_mb(), 1)
        if device != "cpu":  # tabular algorithms have device cpu, so torch is already imported here
            from rltrain.nn.device import memory_tags

            values |= memory_tags(device)
        values |= self._read()
        for tag in ("train/loss", "train/grad_norm"):
            if not math.isfinite(values.get(tag, 0.0)):
                raise NonFiniteError(
                    f"{tag} is {values[tag]} at step {step:,}",
                    tag,
                    "lower algo.learning_rate or algo.reward_scale",
                    {"tensor": tag},
                )
        return values


def progress_facts(values: dict[str, Any], best: dict[str, Any] | None) -> dict[str, str]:
    """Return the values of the progress line by name, from a line of metrics and the best evaluation."""
    facts = {}
    if "rollout/ep_rew_mean" in values:
        facts["return"] = f"{values['rollout/ep_rew_mean']:.2f}"
    if best is not None:
        facts["best eval"] = f"{best['mean_reward']:.2f}"
    if "train/loss" in values:
        facts["loss"] = f"{values['train/loss']:.4g}"
    facts["memory"] = f"{values['memory/rss_mb']:.0f} MB"
    return facts
