"""A pool of console games with stable-retro, one process for each emulator."""

import multiprocessing
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.config.environments import RetroConfig
from rltrain.envs.patience import is_stopping
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.workers.pool import Lost, Workers


def spaces(config: RetroConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return (single-frame observation, action) spaces without starting an emulator.

    They are Box [C, height, width] uint8, and Discrete or MultiDiscrete. Raises ConfigError (unknown game, state,
    scenario, button, ...) or EnvironmentFailure (no stable-retro, no ROM).
    """
    from rltrain.envs.retro import games as retro_games

    pad = retro_games.check(config).pad
    action_space: gymnasium.Space = gym_spaces.MultiDiscrete(pad.num_choices)
    if len(pad.num_choices) == 1:
        action_space = gym_spaces.Discrete(pad.num_choices[0])
    return gym_spaces.Box(0, 255, config.frame_shape, np.uint8), action_space


class RetroPool:
    """`num_envs` emulators, each in its own process, because the library allows only one per process.

    The processes share the memory of the frames. It has no name, so nothing of it can be left over.
    `Episode.length_frames` does not count the frames before the first action.

    An emulator that dies, hangs or raises an error is replaced, up to `max_restarts` times in total. Its episode is
    truncated, with the last frame as successor, reward 0 and no Episode. While the run stops, no emulator is replaced,
    and each later step of the environment is truncated in this way.
    """

    def __init__(self, config: RetroConfig, num_envs: int, first_index: int = 0) -> None:
        from rltrain.envs.retro.emulator import Emulator, Outcome

        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        self._truncated = Outcome(0.0, terminated=False, truncated=True, num_frames=0)
        shape = (2, num_envs, *config.frame_shape)
        shared = multiprocessing.get_context("spawn").RawArray("B", int(np.prod(shape)))
        self._frames = np.frombuffer(shared, np.uint8).reshape(shape)
        """obs and next_obs, written by the emulators, [2, B, C, height, width] uint8."""
        arguments = [(config, shared, i, num_envs, first_index) for i in range(num_envs)]
        self._workers = Workers(Emulator, arguments, "env.game", config.step_timeout_s, config.max_restarts)

    @property
    def num_restarts(self) -> int:
        """The number of replacements of emulators."""
        return self._workers.restarts.total

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, C, height, width] uint8."""
        self._seed = seed
        self._workers.call("reset", [(seed,)] * self.num_envs)
        for answer in self._workers.answers():
            if isinstance(answer, Lost):
                self._workers.replace(answer, seed, begun=False)
        self._reward_sum = np.zeros(self.num_envs)
        self._length_steps = np.zeros(self.num_envs, np.int64)
        self._length_frames = np.zeros(self.num_envs, np.int64)
        self._last = self._frames[0].copy()
        return self._last.copy()

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] or [B, K] int64, and return at once."""
        self._workers.call("step", [(choice,) for choice in action.reshape(self.num_envs, -1).tolist()])

    def recv(self) -> TimeStep:
        """Wait for the step and return its result, with obs and next_obs [B, C, height, width] uint8.

        Raises EnvironmentFailure if the budget for replacements is used up.
        """
        outcomes, broken = self._workers.answers(), set()
        for i, answer in enumerate(outcomes):
            if isinstance(answer, Lost):
                self._workers.replace(answer, self._seed, begun=True)
                self._frames[1, i] = self._last[i]  # the emulator may have died while it wrote its frame
                if is_stopping():  # the emulator was not replaced
                    self._frames[0, i] = self._last[i]
                outcomes[i] = self._truncated
                broken.add(i)
        obs, next_obs = self._frames.copy()
        self._last[...] = obs  # a copy, because the caller may change obs
        reward = np.array([outcome.reward for outcome in outcomes], np.float32)
        terminated = np.array([outcome.terminated for outcome in outcomes])
        truncated = np.array([outcome.truncated for outcome in outcomes])
        first = terminated | truncated
        self._reward_sum += [outcome.reward for outcome in outcomes]
        self._length_steps += 1
        self._length_frames += [outcome.num_frames for outcome in outcomes]
        episodes = []
        for i in np.flatnonzero(first).tolist():
            totals = (float(self._reward_sum[i]), int(self._length_steps[i]), int(self._length_frames[i]))
            if i not in broken:
                episodes.append(Episode(i, *totals))
            self._reward_sum[i] = self._length_steps[i] = self._length_frames[i] = 0
        return TimeStep(obs, next_obs, reward, terminated, truncated, first, episodes)

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        self.send(action)
        return self.recv()

    def state_dict(self) -> None:
        """Return None: stable-retro cannot save the values that a scenario's script keeps."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise AssertionError: this pool saves no state."""
        raise AssertionError("this pool saves no state")

    def render(self) -> np.ndarray:
        """Return the whole picture of the first environment in colour, [H, W, 3] uint8."""
        self._workers.call("render", [()] * self.num_envs)
        picture = self._workers.answers()[0]
        if isinstance(picture, Lost):
            raise picture.failure
        return picture

    def close(self) -> None:
        """End the emulators."""
        self._workers.close()
