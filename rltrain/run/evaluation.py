"""Evaluation in fresh environments, and the evaluations of a run.

The agent only reads its network, so that training goes on as if nothing had happened.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rltrain.config.run import RunConfig
from rltrain.envs import registry
from rltrain.envs.frame_stack import FrameStack


class Interrupted(Exception):
    """The run was asked to stop in the middle of an evaluation."""


class Agent(Protocol):
    """What can be evaluated and kept in a checkpoint."""

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Actions [B] int64 or [B, A] float32 for observations [B, *obs_shape]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors, arrays and JSON values, nested."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def play_episodes(
    config: RunConfig,
    agent: Agent,
    episodes: int,
    seed: int,
    greedy: bool,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Play whole episodes; returns mean_reward, std_reward, episodes, returns, lengths (raw rewards, agent steps).

    `env_restarts` of the result counts environments that were replaced: their episodes were begun again.

    Each environment plays a fixed share of the episodes: taking those that finish first would prefer the short ones.
    Raises Interrupted as soon as `stopping`, asked before every step, says so: an evaluation can take many minutes.
    """
    num_envs = min(episodes, 8)
    share = [episodes // num_envs + (index < episodes % num_envs) for index in range(num_envs)]
    played: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    generator = np.random.default_rng([seed, 1])
    pool = registry.make_pool(config.env, num_envs)
    try:
        stack = FrameStack(num_envs, pool.frame_space, pool.stack_num)
        obs = stack.reset(pool.reset(seed))
        while any(len(done) < wanted for done, wanted in zip(played, share, strict=True)):
            if stopping():
                raise Interrupted
            timestep = pool.step(agent.policy(obs, greedy, generator))
            for episode in timestep.episodes:
                if len(played[episode.env_index]) < share[episode.env_index]:
                    played[episode.env_index].append((episode.reward, episode.length_steps))
            obs = stack.push(timestep.obs, timestep.first)
    finally:
        pool.close()
    returns = [reward for done in played for reward, _ in done]
    lengths = [length for done in played for _, length in done]
    return {
        "mean_reward": float(np.mean(returns)),
        "std_reward": float(np.std(returns)),
        "mean_ep_length": float(np.mean(lengths)),
        "episodes": episodes,
        "env_restarts": pool.num_restarts,
        "returns": returns,
        "lengths": lengths,
        "seed": seed,
    }


class Evaluations:
    """The evaluations of a run: which was the best, and whether one is owed.

    It goes on from what an earlier process of the same run had found.
    """

    def __init__(self, config: RunConfig, saved: dict[str, Any], evaluate: Callable[..., dict[str, Any]]) -> None:
        """`evaluate` is `play_episodes`, or a function like it."""
        self._config, self._evaluate = config, evaluate
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
        evaluation = self._evaluate(config, agent, episodes, seed, config.eval_greedy, stopping)
        keys = ("mean_reward", "std_reward", "mean_ep_length")
        tags = {f"eval/{key}": evaluation[key] for key in keys if key in evaluation}
        if evaluation.get("env_restarts"):
            tags["eval/env_restarts"] = evaluation["env_restarts"]
        summary = {key: evaluation[key] for key in ("mean_reward", "std_reward", "episodes")} | {"step": step}
        if self.best is None or summary["mean_reward"] > self.best["mean_reward"]:
            self.best, self.best_step = summary, step
        return summary, tags
