"""A pool of Atari games, stepped by ale_py's C++ vector environment."""

import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rltrain.config.environments import AtariConfig
from rltrain.envs.pool import Episode, TimeStep
from rltrain.envs.seeding import env_seed
from rltrain.errors import ConfigError, EnvironmentFailure, nearest
from rltrain.system import process

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv


@functools.cache
def games() -> list[str]:
    """Return the names of all games for one player, the values of `env.game`."""
    from ale_py import ALEInterface, roms

    folder = Path(os.environ.get("ALE_ROMS_DIR") or str(Path(roms.__file__).parent))
    # Leave out games that ALE does not support (those for two players): they would end the process. Keep games whose
    # ROM file is missing, so that `_check_rom` can name the missing file.
    paths = {game: folder / f"{game}.bin" for game in roms.get_all_rom_ids()}
    return sorted(
        game for game, path in paths.items() if not path.is_file() or ALEInterface.isSupportedROM(path) is not None
    )


def spaces(config: AtariConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return the spaces (Box [1, size, size] uint8, Discrete).

    Raises ConfigError (unknown game) or EnvironmentFailure (no ROM).
    """
    pool = AtariPool(config, 1)
    pool.close()
    return pool.frame_space, pool.action_space


def vector_env(config: AtariConfig, num_envs: int, **picture: Any) -> "AtariVectorEnv":
    """Start ALE's vector environment. picture: arguments that change the rendering but not the game.

    Raises ConfigError (unknown game) or EnvironmentFailure (no ROM).
    """
    _check_rom(config.game)
    import ale_py
    from ale_py.vector_env import AtariVectorEnv

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    rendering = {"img_height": config.size, "img_width": config.size, "grayscale": True, "maxpool": True}
    rendering |= {"frameskip": config.frame_skip, **picture}
    # Pass every argument: defaults such as clipped rewards or the autoreset mode would silently change the training,
    # and they have changed between releases.
    return AtariVectorEnv(
        config.game,
        num_envs,
        batch_size=num_envs,
        num_threads=min(num_envs, process.usable_cores()),
        thread_affinity_offset=-1,
        max_num_frames_per_episode=config.max_episode_frames,
        repeat_action_probability=config.sticky_actions,
        full_action_space=config.full_action_space,
        continuous=False,
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
        stack_num=1,
        noop_max=config.noop_max,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=config.fire_reset,
        **rendering,
    )


class AtariPool:
    """`num_envs` copies of a game. `Episode.length_frames` does not count the frames before the first action.

    When `max_episode_frames` truncates an episode, ALE's final picture lacks the last frames. Then `next_obs` is up to
    one action old, which is close enough for its value.
    """

    num_restarts = 0

    def __init__(self, config: AtariConfig, num_envs: int, first_index: int = 0) -> None:
        self._first_index = first_index
        self._envs: AtariVectorEnv | None = vector_env(config, num_envs)
        self.num_envs = num_envs
        self.frame_space: gymnasium.Space = self._envs.single_observation_space
        self.action_space: gymnasium.Space = self._envs.single_action_space
        self.stack_num = config.stack_num
        self._terminal_on_life_loss = config.terminal_on_life_loss
        self._pending = False

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode in every environment and return obs [B, 1, size, size] uint8."""
        if self._pending:
            self.recv()
        seeds = [env_seed(seed, self._first_index + i) for i in range(self.num_envs)]
        obs, status = self._running().reset(seed=np.array(seeds))
        self._lives = status["lives"]
        self._start_frame = status["frame_number"].copy()
        self._reward_sum = np.zeros(self.num_envs)
        self._length_steps = np.zeros(self.num_envs, np.int64)
        return obs

    def send(self, action: np.ndarray) -> None:
        """Start one step with action [B] int64."""
        self._running().send(np.ascontiguousarray(action, np.int64))
        self._pending = True

    def recv(self) -> TimeStep:
        """Wait for the step and return its result, with obs and next_obs [B, 1, size, size] uint8."""
        obs, reward, terminated, truncated, status = self._running().recv()
        self._pending = False
        truncated = truncated & ~terminated
        first = terminated | truncated
        self._reward_sum += reward
        self._length_steps += 1
        episodes = []
        next_obs = obs.copy()
        if first.any():
            # final_obs holds successors only for episodes that have ended.
            next_obs[first] = status["final_obs"][first]
            # frame_number is never reset, and already includes the frames before the new episode's first action.
            end_frame = status["frame_number"] - status["episode_frame_number"]
            for i in np.flatnonzero(first).tolist():
                length_frames = int(end_frame[i] - self._start_frame[i])
                episodes.append(Episode(i, float(self._reward_sum[i]), int(self._length_steps[i]), length_frames))
                self._start_frame[i] = status["frame_number"][i]
            self._reward_sum[first] = 0
            self._length_steps[first] = 0
        lives, lives_before = status["lives"], self._lives
        self._lives = lives
        if self._terminal_on_life_loss:
            terminated = terminated | ((lives < lives_before) & ~first)
        return TimeStep(obs, next_obs, reward.astype(np.float32), terminated, truncated, first, episodes)

    def step(self, action: np.ndarray) -> TimeStep:
        """Call `send`, then `recv`."""
        self.send(action)
        return self.recv()

    def state_dict(self) -> None:
        """Return None: ALE's vector environment cannot save the states of its emulators."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise AssertionError: this pool saves no state."""
        raise AssertionError("this pool saves no state")

    def close(self) -> None:
        """End the emulators and their threads."""
        if self._envs is not None:
            if self._pending:
                self.recv()
            self._envs.close()
            self._envs = None

    def _running(self) -> "AtariVectorEnv":
        if self._envs is None:
            raise RuntimeError("the pool is closed")
        return self._envs


def _check_rom(game: str) -> None:
    """Raise ConfigError for an unknown game, and EnvironmentFailure for a missing ROM."""
    try:
        from ale_py import roms
    except ImportError as error:
        raise EnvironmentFailure(f"ale_py is missing: {error}", "env.game", "run `pip install ale-py`") from error
    if game in set(roms.get_all_rom_ids()) - set(games()):
        raise ConfigError(f"'{game}' is for two players only", "env.game", f"use one of the {len(games())} other games")
    if game not in games():
        raise ConfigError(f"unknown Atari game '{game}'", "env.game", nearest(game, games()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path: Path | None = roms.get_rom_path(game)
        except OSError as error:
            raise EnvironmentFailure(
                f"the ROM of '{game}' cannot be used: {error}", "env.game", "reinstall ale-py, or set ALE_ROMS_DIR"
            ) from error
    if path is None or not path.is_file():
        raise EnvironmentFailure(f"the ROM of '{game}' is missing", "env.game", "reinstall ale-py, or set ALE_ROMS_DIR")
