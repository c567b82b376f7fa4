"""Evaluation in new environments, and the state of a run's evaluations.

An evaluation does not change the agent, the training environments or their random numbers.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from rltrain.config.environments import EnvironmentConfig, GymConfig
from rltrain.config.run import RunConfig
from rltrain.envs import patience, registry
from rltrain.envs.frame_stack import FrameStack
from rltrain.envs.pool import Pool, TimeStep
from rltrain.envs.spaces import check_made_for
from rltrain.envs.stepper import check_finite, check_finite_obs
from rltrain.errors import NonFiniteError
from rltrain.run import checked
from rltrain.system import global_random, signals


class Interrupted(Exception):
    """A signal stopped the run during an evaluation."""


class Agent(Protocol):
    """An agent that can be evaluated and saved in a checkpoint.

    An agent with a network has it as its attribute `network`: it is exported, and evaluated without dropout.
    """

    def policy(self, obs: np.ndarray, greedy: bool, generator: np.random.Generator) -> np.ndarray:
        """Return actions [B] int64 or [B, A] float32 for observations [B, *obs_shape]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state as nested dicts of tensors, arrays and JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        ...


def network_of(agent: Agent) -> Any:
    """Return the agent's torch module, or None for a tabular agent."""
    return getattr(agent, "network", None)


@contextlib.contextmanager
def evaluated(agent: Agent) -> Iterator[None]:
    """Switch off what the layers of the agent's network do in trainings only, such as dropout, in the `with` block."""
    network = network_of(agent)
    training = [module for module in network.modules() if module.training] if hasattr(network, "modules") else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def policy_of(
    config: RunConfig, agent: Agent, pool: Pool, greedy: bool, generator: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from observations to actions. It raises EnvironmentFailure for what no pool can step."""
    refuse = checked.action_check(config, pool, "the policy of its agent returned")

    def act(obs: np.ndarray) -> np.ndarray:
        action = agent.policy(obs, greedy, generator)
        refuse(action)
        return action

    return act


@global_random.preserved()
@patience.alarm_kept()
def play_episodes(
    config: RunConfig,
    agent: Agent,
    episodes: int,
    seed: int,
    greedy: bool,
    stopping: Callable[[int], bool] = lambda num_done: False,
    made_for: list[str] | None = None,
) -> dict[str, Any]:
    """Play whole episodes in up to 8 new environments.

    Returns mean_reward, std_reward, mean_ep_length, episodes, env_restarts, returns, lengths and seed. Returns are
    raw, lengths are in agent steps. `env_restarts` is the number of replaced environments, whose episodes started
    again. stopping: called before every step with the number of finished episodes; the evaluation raises
    Interrupted when it returns True. An environment without a time limit gets one (`ending_env`). made_for: the spaces
    that the agent was made for, of `in_words`; None if they are not known. Raises NonFiniteError, and
    EnvironmentFailure for other spaces.
    """
    # Each environment plays a fixed number of episodes: taking the first to finish would prefer short episodes.
    num_envs = min(episodes, 8)
    share = [episodes // num_envs + (index < episodes % num_envs) for index in range(num_envs)]
    played: list[list[tuple[float, int]]] = [[] for _ in range(num_envs)]
    begun: tuple[np.ndarray, np.ndarray, TimeStep] | None = None
    generator = np.random.default_rng([seed, 1])
    env = ending_env(config)  # before the seed, as it may make an environment for a look at it
    global_random.seed(seed)  # constructors may read them
    pool = registry.make_ending_pool(env, num_envs)
    with contextlib.closing(pool), evaluated(agent):
        check_made_for(pool, made_for)
        stack = FrameStack(num_envs, pool.frame_space, pool.stack_num)
        frame = pool.reset(seed)
        signals.keep_process()
        check_finite_obs(frame)
        obs = stack.reset(frame)
        act = policy_of(config, agent, pool, greedy, generator)
        while any(len(done) < wanted for done, wanted in zip(played, share, strict=True)):
            if stopping(sum(map(len, played))):
                raise Interrupted
            action = act(obs)
            timestep = pool.step(action)
            check_finite(timestep)
            begun = begun or (frame, np.copy(action), timestep)
            for episode in timestep.episodes:
                if len(played[episode.env_index]) < share[episode.env_index]:
                    played[episode.env_index].append((episode.reward, episode.length_steps))
            obs = stack.push(timestep.obs, timestep.first)
        num_restarts = pool.num_restarts
        if begun and isinstance(env, GymConfig) and not num_restarts:
            from rltrain.envs.gym.kept import tell_if_kept

            tell_if_kept(env, pool, seed, *begun)
    returns = [reward for done in played for reward, _ in done]
    lengths = [length for done in played for _, length in done]
    return {
        "mean_reward": float(np.mean(returns)),
        "std_reward": float(np.std(returns)),
        "mean_ep_length": float(np.mean(lengths)),
        "episodes": episodes,
        "env_restarts": num_restarts,
        "returns": returns,
        "lengths": lengths,
        "seed": seed,
    }


def ending_env(config: RunConfig) -> Any:
    """Return the settings of the game that is scored, with a time limit, so that an evaluation ends.

    The limit of an environment with a transition table is that of the table.
    """
    env = config.env.scored() if isinstance(config.env, EnvironmentConfig) else config.env  # a plugin's may not be one
    return registry.bounded(env, registry.TABLE_STEPS if config.algo.is_tabular else registry.NO_END_STEPS)


def planned_episodes(config: Any, after_step: int = -1) -> int:
    """Return the number of episodes of all evaluations after a step, from that of step 0 to the final one.

    config: a RunConfig, or something with its keys.
    """
    every, total = config.eval_every_steps, config.total_steps
    # Evaluations during training are at 0, every, 2 every, ..., before total.
    evaluations = (total - 1) // every - after_step // every if every else 0
    return max(evaluations, 0) * config.eval_episodes + config.final_eval_episodes


class Evaluations:
    """The state of a run's evaluations, over all processes of the run: the best one, and whether one is due."""

    def __init__(self, config: RunConfig, saved: dict[str, Any], evaluate: Callable[..., dict[str, Any]]) -> None:
        """saved: the state of earlier processes, from a checkpoint. evaluate: `play_episodes` or a similar function."""
        self._config, self._evaluate = config, evaluate
        self.best: dict[str, Any] | None = saved.get("best") or None
        """mean_reward, std_reward, episodes and step of the best evaluation so far."""
        self.best_step = int(self.best["step"]) if self.best else None
        if self.best and not all(map(math.isfinite, self.best.values())):
            raise ValueError(f"the best evaluation of the checkpoint is {self.best}")
        self.due = bool(saved.get("evaluation_due", False))
        """True if an evaluation is due at the current step. If a signal interrupts it, the resumed run makes it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best or {}, "evaluation_due": self.due}

    def num_episodes(self, final: bool = False) -> int:
        """Return the number of episodes of an evaluation."""
        return self._config.final_eval_episodes if final else self._config.eval_episodes

    def episodes_left(self, step: int) -> int:
        """Return the number of episodes of all evaluations after `step`, up to the final one."""
        return planned_episodes(self._config, step)

    def make(
        self, agent: Agent, step: int, seed: int, final: bool, stopping: Callable[[int], bool]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Make one evaluation and return its summary and its metrics by tag. Raises Interrupted, NonFiniteError.

        If it is the best evaluation so far, the summary is the object `self.best`. That of the untrained agent, at
        step 0, never is.
        """
        config = self._config
        found = self._evaluate(config, agent, self.num_episodes(final), seed, config.eval_greedy, stopping)
        evaluation = checked.scores(config, found)
        for key in ("mean_reward", "std_reward"):
            if not math.isfinite(evaluation[key]):
                what = f"the {key} of an evaluation is {evaluation[key]} at step {step:,}"
                raise NonFiniteError(what, "the returns", "the fault is in the environment", {"tensor": key})
        keys = ("mean_reward", "std_reward", "mean_ep_length")
        tags = {f"eval/{key}": evaluation[key] for key in keys if key in evaluation}
        if evaluation.get("env_restarts"):
            tags["eval/env_restarts"] = evaluation["env_restarts"]
        summary = {key: evaluation[key] for key in ("mean_reward", "std_reward", "episodes")} | {"step": step}
        if step and (self.best is None or summary["mean_reward"] > self.best["mean_reward"]):
            self.best, self.best_step = summary, step
        return summary, tags
