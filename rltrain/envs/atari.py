"""Atari games, stepped by ale_py's own C++ vector environment."""

import functools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rltrain import process
from rltrain.envs.pool import Episode, Pool, TimeStep
from rltrain.envs.seeding import env_seed
from rltrain.envs.viewer import Viewer
from rltrain.errors import ConfigError, EnvironmentFailure, nearest
from rltrain.validate import at_least, in_range, one_of

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

_USUAL = {
    "sticky_actions": 0.0,
    "noop_max": 30,
    "fire_reset": True,
    "terminal_on_life_loss": False,
    "full_action_space": False,
}
PROTOCOLS: dict[str | None, dict[str, Any]] = {
    None: _USUAL,
    "dqn": _USUAL | {"terminal_on_life_loss": True},
    "machado": _USUAL | {"sticky_actions": 0.25, "noop_max": 0, "fire_reset": False, "full_action_space": True},
}
"""What the fields that a configuration leaves open are taken to be."""


@dataclass
class AtariConfig:
    """An Atari game with DQN's preprocessing: gray frames, the maximum over the last two of each skip."""

    name: str
    """Name in run folders."""
    family: str = "atari"
    game: str = ""
    """ROM name in snake case: `ms_pacman`. `env=atari` has none of its own."""
    frame_skip: int = 4
    """Emulator frames per action."""
    stack_num: int = 4
    """Frames that the policy sees at once."""
    size: int = 84
    """Height and width of a frame, pixels."""
    protocol: str | None = None
    """What the next five fields are where they are null. `dqn`: Mnih et al. 2015, an episode of learning ends with a
    life. `machado`: sticky actions, no knowledge of lives, all 18 actions, as in Machado et al. 2018, whose frame skip
    of 5 and limit of 18,000 frames are not set here. null: as `dqn`, but a lost life ends nothing."""
    sticky_actions: float | None = None
    """Probability that the emulator repeats the previous action: 0, or 0.25 with `machado`."""
    noop_max: int | None = None
    """An episode begins with 0 up to so many frames of doing nothing, for variety: 30, or 0 with `machado`."""
    fire_reset: bool | None = None
    """Press fire at the start in games that wait for it: true, or false with `machado`."""
    terminal_on_life_loss: bool | None = None
    """Set `terminated` on a lost life; the game itself goes on and no Episode is reported. False, or true with
    `dqn`."""
    full_action_space: bool | None = None
    """All 18 actions, rather than those with an effect in this game: false, or true with `machado`."""
    max_episode_frames: int = 108_000
    """Emulator frames after which an episode is truncated: half an hour of play at 60 Hz."""

    def __post_init__(self) -> None:
        if not self.game:
            raise ConfigError("no game is chosen", "env.game", "add one, such as env.game=breakout")
        if self.protocol is not None:
            one_of("env.protocol", self.protocol, [name for name in PROTOCOLS if name])
        for field, value in PROTOCOLS[self.protocol].items():
            if getattr(self, field) is None:
                setattr(self, field, value)
        for field, minimum in (("frame_skip", 1), ("stack_num", 1), ("size", 1), ("noop_max", 0)):
            at_least(f"env.{field}", getattr(self, field), minimum)
        at_least("env.max_episode_frames", self.max_episode_frames, self.frame_skip)
        assert self.sticky_actions is not None
        in_range("env.sticky_actions", self.sticky_actions, 0, 1)


@functools.cache
def games() -> list[str]:
    """The names that `game` takes: every game that one player can play."""
    from ale_py import ALEInterface, roms

    folder = Path(os.environ.get("ALE_ROMS_DIR") or str(Path(roms.__file__).parent))
    # A game that ALE has no rules for (they are for two players) would end the process. Games without a file
    # stay in the list, as they are real ones: `_check_rom` says what is wrong.
    paths = {game: folder / f"{game}.bin" for game in roms.get_all_rom_ids()}
    return sorted(
        game for game, path in paths.items() if not path.is_file() or ALEInterface.isSupportedROM(path) is not None
    )


def spaces(config: AtariConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """(Box [1, size, size] uint8, Discrete). Raises ConfigError (unknown game) or EnvironmentFailure (no ROM)."""
    pool = AtariPool(config, 1)
    pool.close()
    return pool.frame_space, pool.action_space


def make_pool(config: AtariConfig, num_envs: int) -> Pool:
    """Start `num_envs` games. Raises ConfigError (unknown game) or EnvironmentFailure (no ROM)."""
    return AtariPool(config, num_envs)


def vector_env(config: AtariConfig, num_envs: int, **picture: Any) -> "AtariVectorEnv":
    """ALE's vector environment; `picture` replaces what decides how it is drawn, and leaves the game as it is.

    Raises ConfigError (unknown game) or EnvironmentFailure (no ROM).
    """
    _check_rom(config.game)
    import ale_py
    from ale_py.vector_env import AtariVectorEnv

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    drawn = {"img_height": config.size, "img_width": config.size, "grayscale": True, "maxpool": True}
    drawn |= {"frameskip": config.frame_skip, **picture}
    # Everything is pinned: several of the defaults (clipped rewards, autoreset) would quietly change what is
    # learned, and they have changed between releases.
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
        **drawn,
    )


def make_viewer(config: AtariConfig) -> Viewer:
    """One game in colour. Raises what `make_pool` raises."""
    from rltrain.envs.atari_viewer import AtariViewer

    return AtariViewer(config)


class AtariPool:
    """`num_envs` copies of a game. `Episode.length_frames` leaves out the frames before the first action.

    Where an episode is cut by `max_episode_frames`, ALE leaves the last frames out of its final picture: `next_obs` is
    then up to one action old, which is near enough for a value.
    """

    num_restarts = 0

    def __init__(self, config: AtariConfig, num_envs: int) -> None:
        self._envs: AtariVectorEnv | None = vector_env(config, num_envs)
        self.num_envs = num_envs
        self.frame_space: gymnasium.Space = self._envs.single_observation_space
        self.action_space: gymnasium.Space = self._envs.single_action_space
        self.stack_num = config.stack_num
        self._terminal_on_life_loss = config.terminal_on_life_loss
        self._pending = False

    def reset(self, seed: int) -> np.ndarray:
        """Start a new game everywhere; obs [B, 1, size, size] uint8."""
        if self._pending:
            self.recv()
        obs, status = self._running().reset(seed=np.array([env_seed(seed, i) for i in range(self.num_envs)]))
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
        """Wait for the step; obs and next_obs [B, 1, size, size] uint8."""
        obs, reward, terminated, truncated, status = self._running().recv()
        self._pending = False
        truncated = truncated & ~terminated
        first = terminated | truncated
        self._reward_sum += reward
        self._length_steps += 1
        episodes = []
        next_obs = obs.copy()
        if first.any():
            # Elsewhere than at an end, final_obs holds what is no successor.
            next_obs[first] = status["final_obs"][first]
            # frame_number never restarts, and already counts the frames before the new episode's first action.
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
        """`send`, then `recv`."""
        self.send(action)
        return self.recv()

    def state_dict(self) -> None:
        """None: ALE's vector environment does not give its emulators' states."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Never called: there is no state to take."""
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
    """Raise ConfigError for a game that there is not, EnvironmentFailure for a ROM that is not there."""
    try:
        from ale_py import roms
    except ImportError as error:
        raise EnvironmentFailure(f"ale_py is missing: {error}", "env.game", "pip install ale-py") from error
    if game in set(roms.get_all_rom_ids()) - set(games()):
        raise ConfigError(f"'{game}' is for two players only", "env.game", f"choose one of the other {len(games())}")
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
