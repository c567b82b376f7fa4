"""A pool of gymnasium environments in one process."""

import random
from typing import Any

import gymnasium
import numpy as np

from rltrain.config.environments import GymConfig
from rltrain.envs.gym import guard
from rltrain.envs.gym import state as gym_state
from rltrain.envs.gym.contract import Contract, ContractBreach
from rltrain.envs.gym.conversion import Conversion, answered
from rltrain.envs.gym.make import make_env, seed_generators, tell_of_other_steps, without_limit
from rltrain.envs.patience import StandsStill, interruptible, is_stopping
from rltrain.envs.pool import AnotherGame, Episode, TimeStep
from rltrain.envs.seeding import env_seed
from rltrain.errors import EnvironmentFailure
from rltrain.system import global_random, notices


def draw_constructor_seed() -> int:
    """Draw the seed of what the constructors of a pool's environments draw from Python's generator."""
    return random.getrandbits(63)


class GymPool:
    """Environments stepped one after another in `recv`.

    A plain loop is faster than gymnasium's SyncVectorEnv: 100,000 instead of 65,000 steps/s for one CartPole.
    Environment i gets the seed of number `first_index` + i, so that a worker process can run a part of a larger pool.
    """

    num_restarts = 0

    def __init__(
        self, config: GymConfig, num_envs: int, first_index: int = 0, constructor_seed: int | None = None
    ) -> None:
        """constructor_seed: of the pool that this is a part of; None draws it."""
        self._id = config.id
        self._fix = "the fault is in the environment"
        if not config.workers:
            self._fix += "; with env.workers=1 or more rltrain replaces it and trains on"
        self._envs: list[gymnasium.Env] = []
        try:
            # Constructors may read the generators, and draw the same in a worker as in a pool of all environments.
            seed = draw_constructor_seed() if constructor_seed is None else constructor_seed
            for i in range(num_envs):
                global_random.seed(env_seed(seed, first_index + i))
                self._envs.append(make_env(config))
            env = self._envs[0]
            self._conversion = Conversion(env, config)
            with answered(config.id), guard.environment_code(config.id), interruptible():
                self._check_equal()
                self._contracts = [Contract(each, config.id) for each in self._envs]
        except BaseException:
            self.close()
            raise
        self.num_envs = num_envs
        self.frame_space, self.action_space = self._conversion.frame_space, self._conversion.action_space
        self.stack_num = config.stack_num
        unwrapped = [without_limit(env) for env in self._envs]
        self._inner = [inner for inner, _ in unwrapped]
        # gymnasium puts the wrappers of a registration around the time limit, which they may hide.
        self._limits = [limit or config.max_episode_steps or 0 for _, limit in unwrapped]
        self._first_index, self._wanted_steps = first_index, config.max_episode_steps or 0
        # Made once, because each step enters them.
        self._guard, self._interruptible = guard.environment_code(self._id, self._fix), interruptible()
        # The shape and dtype of raw observations, before the conversion to frames.
        raw_shape = env.observation_space.shape or ()
        self._shape, self._dtype = (num_envs, *raw_shape), self.frame_space.dtype
        self._action: np.ndarray | None = None
        self._obs = np.zeros(self._shape, self._dtype)
        self._stands_still = False
        """True after an environment hung while the run was stopping. No environment is stepped any more."""

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, *frame_shape].

        Also seeds the generators of `global_random` and the environments' spaces, which their code may read.
        Raises EnvironmentFailure if an environment raises an error or breaks its contract.
        """
        obs = np.zeros(self._shape, self._dtype)
        global_random.seed(env_seed(seed, self._first_index))
        try:
            with self._guard, self._interruptible:
                for i, env in enumerate(self._inner):
                    number = env_seed(seed, self._first_index + i)
                    seed_generators(env, number)
                    obs[i] = self._contracts[i].reset(env.reset(seed=number))
        except (StandsStill, EnvironmentFailure) as error:
            self._note_end(error)
        self._obs = obs
        self._reward_sum = [0.0] * self.num_envs
        self._length_steps = [0] * self.num_envs
        self._action = None
        return self._conversion.frames(obs)

    def send(self, action: np.ndarray) -> None:
        """Store the action for `recv`: [B] or [B, K] int64 or [B, A] float32. It is not clipped to the action space."""
        self._action = action

    def recv(self) -> TimeStep:
        """Take the step and return its result.

        Raises EnvironmentFailure if an environment raises an error or breaks its contract.
        """
        if self._action is None:
            raise RuntimeError("recv was called without send")
        num_envs, limits, contracts = self.num_envs, self._limits, self._contracts
        reward_sum, length_steps = self._reward_sum, self._length_steps
        actions = self._conversion.actions(self._action)
        self._action = None
        if self._stands_still:
            return self._truncated_step()
        next_obs = np.empty(self._shape, self._dtype)
        reward = np.empty(num_envs, np.float32)
        terminated, truncated = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        ended = []
        try:
            with self._guard, self._interruptible:
                for i, env in enumerate(self._inner):
                    next_obs[i], step_reward, step_terminated, step_truncated = contracts[i].step(env.step(actions[i]))
                    reward[i] = step_reward
                    reward_sum[i] += step_reward
                    length_steps[i] += 1
                    if step_terminated:
                        terminated[i] = True
                        ended.append(i)
                    elif step_truncated or length_steps[i] == limits[i]:
                        truncated[i] = True
                        ended.append(i)
                obs, episodes = next_obs.copy(), []
                for i in ended:
                    if truncated[i] and length_steps[i] < self._wanted_steps and not self._first_index:
                        tell_of_other_steps(self._inner[i], self._id, length_steps[i], self._wanted_steps)
                    episodes.append(Episode(i, reward_sum[i], length_steps[i], length_steps[i]))
                    obs[i] = contracts[i].reset(self._inner[i].reset())
                    reward_sum[i], length_steps[i] = 0.0, 0
        except (StandsStill, EnvironmentFailure) as error:
            self._note_end(error)
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
        """Restore the state that `state_dict` returned.

        Raises AnotherGame, and ValueError for values that no state has.
        """
        if not all(gym_state.is_same_game(env, state[str(i)]) for i, env in enumerate(self._inner)):
            raise AnotherGame
        for i, env in enumerate(self._inner):
            gym_state.restore(env, state[str(i)])
        rewards, lengths = list(state["reward_sum"]), list(state["length_steps"])
        if not len(rewards) == len(lengths) == self.num_envs:
            raise ValueError(f"the state is of {len(lengths)} episodes, not {self.num_envs}")
        if min(lengths) < 0 or not np.isfinite(rewards).all():
            raise ValueError("an episode has a negative length or no finite return")
        self._reward_sum, self._length_steps = rewards, lengths

    def close(self) -> None:
        """End every environment."""
        for env in self._envs:
            guard.close(env, self._id)
        self._envs, self._inner = [], []

    def _check_equal(self) -> None:
        """Raise ContractBreach if the environments of this pool have different spaces."""
        first = self._envs[0]
        for env in self._envs[1:]:
            for name in ("observation_space", "action_space"):
                one, other = getattr(first, name), getattr(env, name)
                if one != other:
                    what = f"environment '{self._id}' has another {name} each time: {one} and {other}"
                    raise ContractBreach(what, "env.id", "give all environments of one id and env.kwargs equal spaces")

    def _note_end(self, error: StandsStill | EnvironmentFailure) -> None:
        """Go on without an environment that hangs or fails while the run stops. Raises the error if it does not.

        A program that the environment has started may have got the same signal.
        """
        if not is_stopping():
            raise error
        text = error.what if isinstance(error, EnvironmentFailure) else f"environment '{self._id}' hangs"
        self._stands_still = True
        notices.warn(f"{text}; the run stops without it")
