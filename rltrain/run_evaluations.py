"""The evaluations of a run: which was the best, and whether one is owed."""

from collections.abc import Callable
from typing import Any

from rltrain.config import RunConfig, algo_module
from rltrain.evaluate import Agent


class Evaluations:
    """Goes on from what an earlier process of the same run had found."""

    def __init__(self, config: RunConfig, saved: dict[str, Any]) -> None:
        self._config = config
        self.best: dict[str, Any] | None = saved.get("best") or None
        """mean_reward, std_reward, episodes and step of the best so far."""
        self.best_step = int(self.best["step"]) if self.best else None
        self.due = bool(saved.get("evaluation_due", False))
        """Whether one is owed at this very step: a signal may interrupt it, and a resumed run makes it up."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"best": self.best or {}, "evaluation_due": self.due}

    def make(
        self, agent: Agent, step: int, seed: int, final: bool, stopping: Callable[[], bool]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Play the episodes of one evaluation; returns its summary, which is `best` if it is, and its tags.

        Raises Interrupted.
        """
        config = self._config
        episodes = config.final_eval_episodes if final else config.eval_episodes
        evaluate = algo_module(config.algo.name).evaluate
        evaluation = evaluate(config, agent, episodes, seed, config.eval_greedy, stopping)
        keys = ("mean_reward", "std_reward", "mean_ep_length")
        tags = {f"eval/{key}": evaluation[key] for key in keys if key in evaluation}
        if evaluation.get("env_restarts"):
            tags["eval/env_restarts"] = evaluation["env_restarts"]
        summary = {key: evaluation[key] for key in ("mean_reward", "std_reward", "episodes")} | {"step": step}
        if self.best is None or summary["mean_reward"] > self.best["mean_reward"]:
            self.best, self.best_step = summary, step
        return summary, tags
