"""Console games by stable-retro: their configuration, and a pool with one process for each emulator."""

import multiprocessing
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.envs.patience import is_stopping
from rltrain.envs.pool import Episode, Pool, TimeStep
from rltrain.envs.viewer import Viewer
from rltrain.envs.workers import Lost, Workers
from rltrain.errors import ConfigError
from rltrain.validate import at_least, in_range, one_of


@dataclass
class RetroConfig:
    """A game of stable-retro, for one player."""

    name: str
    """Name in run folders."""
    family: str = "retro"
    game: str = "Airstriker-Genesis-v0"
    """stable-retro's name of the game. Airstriker comes with it; any other needs a ROM of yours, which
    `python -m stable_retro.import DIR` finds in a folder."""
    state: str | None = None
    """Saved state that every episode begins from, such as GreenHillZone.Act1; null: the game's own default."""
    states: list[str] = field(default_factory=list)
    """Several states, in place of `state`: given to the environments in turn, and on to the next at every reset. With
    as many environments as states each environment keeps its own."""
    scenario: str = "scenario"
    """Which of stable-retro's files about the game says what is rewarded and when it is over. `contest`, of the Sonic
    games, pays 9000 for the way to the end of the level and up to 1000 for being quick; a lost life is the end."""
    reward_variable: str | None = None
    """Pay the increase of this game variable, such as x, in place of the scenario's reward."""
    new_best_only: bool = False
    """Pay only what brings the episode's sum above its highest so far: going back costs nothing and pays nothing."""
    one_life: bool = False
    """A lost life is the end of the episode, whatever the scenario says."""
    actions: list[str] = field(default_factory=list)
    """What each action presses, such as LEFT+B; NOOP presses nothing. Empty: every combination of `buttons`."""
    action_set: str = "combinations"
    """`combinations`: an action is one of `actions`. `buttons`: several choices at once, one for up and down, one for
    left and right, one for the buttons that make sense together."""
    frame_skip: int = 4
    """Emulator frames (60 a second) per action."""
    max_pool: bool = False
    """Show the brighter of the last two frames of each skip, pixel by pixel: for games that flicker."""
    sticky_actions: float = 0.0
    """Probability that the first frame of an action still holds the buttons of the one before."""
    noop_max: int = 30
    """An episode begins with 0 up to so many frames of doing nothing: the emulator itself never varies."""
    max_episode_frames: int = 18_000
    """Emulator frames after which an episode is truncated: five minutes."""
    height: int = 84
    """Height of a frame, pixels."""
    width: int = 84
    """Width of a frame, pixels."""
    crop: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Pixels that are cut off the emulator's picture before it is scaled: top, bottom, left, right."""
    gray: bool = True
    """One channel of brightness; otherwise red, green, blue."""
    stack_num: int = 4
    """Frames that the policy sees at once."""
    step_timeout_s: float = 30.0
    """Seconds after which an emulator that does not answer is killed and replaced."""
    max_restarts: int = 10
    """Emulators of a pool that may be replaced, after they died, hung or raised, before the run ends with code 4. The
    episode of such an emulator is cut and counts in no statistics."""

    def __post_init__(self) -> None:
        for key in ("frame_skip", "height", "width", "stack_num"):
            at_least(f"env.{key}", getattr(self, key), 1)
        at_least("env.step_timeout_s", self.step_timeout_s, 0.1)
        at_least("env.max_restarts", self.max_restarts, 0)
        at_least("env.noop_max", self.noop_max, 0)
        at_least("env.max_episode_frames", self.max_episode_frames, self.frame_skip)
        in_range("env.sticky_actions", self.sticky_actions, 0, 1)
        one_of("env.action_set", self.action_set, ("combinations", "buttons"))
        if len(self.crop) != 4 or min(self.crop) < 0:
            raise ConfigError(f"{self.crop} is no crop", "env.crop", "give pixels as [top,bottom,left,right]")
        if self.state is not None and self.states:
            raise ConfigError("state and states are both given", "env.state, env.states", "give one of them")
        if self.actions and self.action_set == "buttons":
            raise ConfigError("there is no list of actions where buttons are chosen", "env.actions", "leave it empty")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """[C, height, width]."""
        return (1 if self.gray else 3, self.height, self.width)


def spaces(config: RetroConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """(Box [C, height, width] uint8, Discrete or MultiDiscrete): starts no emulator.

    Raises ConfigError (unknown game, state, scenario, button, ...) or EnvironmentFailure (no stable-retro, no ROM).
    """
    from rltrain.envs import retro_games

    pad = retro_games.check(config).pad
    action_space: gymnasium.Space = gym_spaces.MultiDiscrete(pad.num_choices)
    if len(pad.num_choices) == 1:
        action_space = gym_spaces.Discrete(pad.num_choices[0])
    return gym_spaces.Box(0, 255, config.frame_shape, np.uint8), action_space


def make_pool(config: RetroConfig, num_envs: int) -> Pool:
    """Start `num_envs` emulators. Raises what `spaces` raises."""
    return RetroPool(config, num_envs)


def make_viewer(config: RetroConfig) -> Viewer:
    """One game in colour. Raises what `spaces` raises."""
    from rltrain.envs import retro_viewer

    return retro_viewer.make_viewer(config)


class RetroPool:
    """`num_envs` emulators, each in a process of its own, as the library allows one in a process.

    Frames come back in memory that all processes map; it has no name, so that nothing can be left of it.
    `Episode.length_frames` leaves out the frames before the first action. An emulator that dies, hangs or raises is
    replaced, `max_restarts` times in all: its episode ends as truncated, with the last frame as successor, reward 0 and
    no Episode. Once the run was asked to stop, none is replaced: each later step is cut like that.
    """

    def __init__(self, config: RetroConfig, num_envs: int) -> None:
        from rltrain.envs.retro_emulator import Emulator, Outcome

        self.frame_space, self.action_space = spaces(config)
        self.num_envs = num_envs
        self.stack_num = config.stack_num
        self._cut = Outcome(0.0, terminated=False, truncated=True, num_frames=0)
        shape = (2, num_envs, *config.frame_shape)
        shared = multiprocessing.get_context("spawn").RawArray("B", int(np.prod(shape)))
        self._frames = np.frombuffer(shared, np.uint8).reshape(shape)
        """obs and next_obs, as the emulators write them."""
        arguments = [(config, shared, i, num_envs) for i in range(num_envs)]
        self._workers = Workers(Emulator, arguments, "env.game", config.step_timeout_s, config.max_restarts)

    @property
    def num_restarts(self) -> int:
        """Emulators that were replaced."""
        return self._workers.restarts.total

    def reset(self, seed: int) -> np.ndarray:
        """Start a new episode everywhere; obs [B, C, height, width] uint8."""
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
        """Start one step with action [B] or [B, K] int64; returns at once."""
        self._workers.call("step", [(choice,) for choice in action.reshape(self.num_envs, -1).tolist()])

    def recv(self) -> TimeStep:
        """Wait for the step; obs and next_obs [B, C, height, width] uint8.

        Raises EnvironmentFailure where emulators are lost more often than they may.
        """
        outcomes, broken = self._workers.answers(), set()
        for i, answer in enumerate(outcomes):
            if isinstance(answer, Lost):
                self._workers.replace(answer, self._seed, begun=True)
                self._frames[1, i] = self._last[i]  # it may have died while it wrote there
                if is_stopping():  # there may be no other in its place
                    self._frames[0, i] = self._last[i]
                outcomes[i] = self._cut
                broken.add(i)
        obs, next_obs = self._frames.copy()
        self._last[...] = obs  # kept apart from what the caller gets and may write to
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
        """`send`, then `recv`."""
        self.send(action)
        return self.recv()

    def state_dict(self) -> None:
        """None: a scenario's script keeps values that stable-retro does not give."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Never called: there is no state to take."""
        raise AssertionError("this pool saves no state")

    def render(self) -> np.ndarray:
        """The first environment's whole picture in colour, [H, W, 3] uint8, as a person would see it."""
        self._workers.call("render", [()] * self.num_envs)
        picture = self._workers.answers()[0]
        if isinstance(picture, Lost):
            raise picture.failure
        return picture

    def close(self) -> None:
        """End the emulators."""
        self._workers.close()
