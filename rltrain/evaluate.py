"""Evaluation in fresh environments: the agent only reads its network, so training goes on as if nothing happened."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rltrain.config import RunConfig, algo_module
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


def load_agent(config: RunConfig, state: dict[str, Any]) -> Agent:
    """The agent of a run with the weights of a checkpoint."""
    frame_space, action_space = registry.spaces(config.env)
    agent: Agent = algo_module(config.algo.name).make_agent(config, frame_space, action_space, config.seed)
    agent.load_state_dict(state["agent"])
    return agent


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
