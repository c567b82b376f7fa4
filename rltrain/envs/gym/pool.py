"""A pool of gymnasium environments in one process."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym import state as gym_state
from rltrain.envs.gym.conversion import Conversion
from rltrain.envs.gym.make import make_env
from rltrain.envs.patience import StandsStill, interruptible
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.seeding import env_seed
from rltrain.errors import EnvironmentFailure


class GymPool:
    """Environments stepped one after another in `recv`.

    A plain loop is faster than gymnasium's SyncVectorEnv: 100,000 instead of 65,000 steps/s for one CartPole.
    Environment i gets the seed of number `first_index` + i, so that a worker process can run a part of a larger pool.
    """

    num_restarts = 0

    def __init__(self, config: GymConfig, num_envs: int, first_index: int = 0) -> None:
        self._id = config.id
        self._envs = [make_env(config) for _ in range(num_envs)]
        env = self._envs[0]
        self.num_envs = num_envs
        self._conversion = Conversion(env, config.id)
        self.frame_space, self.action_space = self._conversion.frame_space, self._conversion.action_space
        self.stack_num = config.stack_num
        # gymnasium's wrappers take as long as a step of CartPole, so the pool removes them and counts the steps itself.
        self._limit = (env.spec.max_episode_steps if env.spec else None) or 0
        self._inner = [_unwrap(env) for env in self._envs]
        self._first_index = first_index
        # The shape and dtype of raw observations, before the conversion to frames.
        raw_shape = env.observation_space.shape or ()
        self._shape, self._dtype = (num_envs, *raw_shape), self.frame_space.dtype
        self._action: np.ndarray | None = None
        self._obs = np.zeros(self._shape, self._dtype)
        self._stands_still = False
        """True after an environment hung while the run was stopping. No environment is stepped any more."""

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape].

        Raises EnvironmentFailure if an environment raises an error.
        """
        obs = np.zeros(self._shape, self._dtype)
        with self._environment_errors():
            for i, env in enumerate(self._inner):
                obs[i] = env.reset(seed=env_seed(seed, self._first_index + i))[0]
        self._obs = obs
        self._reward_sum = [0.0] * self.num_envs
        self._length_steps = [0] * self.num_envs
        self._action = None
        return self._conversion.frames(obs)

    def send(self, action: np.ndarray) -> None:
        """Store the action for `recv`: [B] or [B, K] int64 or [B, A] float32. It is not clipped to the action space."""
        self._action = action

    def recv(self) -> TimeStep:
        """Take the step and return its result. Raises EnvironmentFailure if an environment raises an error."""
        if self._action is None:
            raise RuntimeError("recv was called without send")
        num_envs, limit = self.num_envs, self._limit
        reward_sum, length_steps = self._reward_sum, self._length_steps
        actions = self._conversion.actions(self._action)
        self._action = None
        if self._stands_still:
            return self._truncated_step()
        next_obs = np.empty(self._shape, self._dtype)
        reward = np.empty(num_envs, np.float32)
        terminated, truncated = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        ended = []
        with self._environment_errors():
            for i, env in enumerate(self._inner):
                next_obs[i], step_reward, step_terminated, step_truncated, _ = env.step(actions[i])
                reward[i] = step_reward
                reward_sum[i] += float(step_reward)
                length_steps[i] += 1
                if step_terminated:
                    terminated[i] = True
                    ended.append(i)
                elif step_truncated or length_steps[i] == limit:
                    truncated[i] = True
                    ended.append(i)
            obs, episodes = next_obs.copy(), []
            for i in ended:
                episodes.append(Episode(i, reward_sum[i], length_steps[i], length_steps[i]))
                obs[i] = self._inner[i].reset()[0]
                reward_sum[i], length_steps[i] = 0.0, 0
        if self._stands_still:
            return self._truncated_step()
        self._obs = obs
        first, frames = terminated | truncated, self._conversion.frames
        return TimeStep(frames(obs), frames(next_obs), reward, terminated, truncated, first, episodes)

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        self.send(action)
        return self.recv()

    def _truncated_step(self) -> TimeStep:
        """Return a step that truncates all episodes, for environments that are not stepped any more."""
        obs, no, yes = self._conversion.frames(self._obs), np.zeros(self.num_envs, bool), np.ones(self.num_envs, bool)
        return TimeStep(obs, obs.copy(), np.zeros(self.num_envs, np.float32), no, yes, yes)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the environments; None if one of them cannot save it."""
        if self._stands_still or not all(gym_state.can_save(env) for env in self._inner):
            return None
        state: dict[str, Any] = {str(i): gym_state.save(env) for i, env in enumerate(self._inner)}
        return state | {"reward_sum": list(self._reward_sum), "length_steps": list(self._length_steps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        for i, env in enumerate(self._inner):
            gym_state.restore(env, state[str(i)])
        self._reward_sum, self._length_steps = list(state["reward_sum"]), list(state["length_steps"])

    def close(self) -> None:
        """End every environment."""
        for env in self._envs:
            with contextlib.suppress(StandsStill), interruptible():
                env.close()
        self._envs, self._inner = [], []

    @contextlib.contextmanager
    def _environment_errors(self) -> Iterator[None]:
        """Turn an environment's error into EnvironmentFailure. Stop waiting for one that hangs while the run stops."""
        try:
            with interruptible():
                yield
        except StandsStill:
            self._stands_still = True
            print(f"rltrain: warning: environment '{self._id}' hangs; the run stops without it", file=sys.stderr)
        except Exception as error:
            what = f"environment '{self._id}' raised {type(error).__name__}: {error}"
            fix = "the fault is in the environment; with env.workers=1 or more rltrain replaces it and trains on"
            raise EnvironmentFailure(what, "env.id", fix) from error


def _unwrap(env: gymnasium.Env) -> gymnasium.Env:
    """Remove the outermost wrappers that only count steps or check the order of calls."""
    while isinstance(env, gymnasium.wrappers.TimeLimit | gymnasium.wrappers.OrderEnforcing):
        env = env.env
    return env
