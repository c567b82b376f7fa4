"""Settings of every environment family. This module imports no emulator."""

import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from rltrain.config.validate import at_least, in_range, one_of
from rltrain.errors import ConfigError, nearest


@dataclass
class EnvironmentConfig:
    """Settings of every family. `tuned_as` is optional for a plugin's family."""

    name: str
    """Name in run folders."""
    tuned_as: str | None = None
    """Environment or family whose tuned settings (`rltrain list hparams`) to use if an algorithm has none for this
    environment. Only in the environment's YAML file, not on the command line."""

    def scored(self) -> Self:
        """Return the settings of the game that evaluations play: without those that are for training only."""
        return self


@dataclass
class GymConfig(EnvironmentConfig):
    """Any environment registered with gymnasium."""

    family: str = "gym"
    id: str = ""
    """Gymnasium id: `CartPole-v1`. `package.module:Name-v0` first imports the module, which registers the id."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    max_episode_steps: int | None = None
    """Agent steps after which an episode is truncated; null: the limit that the environment was registered with."""
    stack_num: int = 1
    """Frames in an observation."""
    scale_actions: bool | None = False
    """Continuous actions: true scales the policy's -1 to 1 to finite bounds, false only clips to them. null (env=gym)
    scales if a new policy, which acts around 0 with deviation 1, would reach little of the bounds, such as [4, 6]."""
    channels: str | None = None
    """Where a picture has its channels: `first` or `last`. null: the shape tells it; the start panel shows the frame as
    [channels, height, width]."""
    workers: int = 0
    """Worker processes that share the environments. 0 steps them in the trainer's process, which is best for fast
    environments: a message to a worker takes longer than a step of CartPole. Use 1 or more for environments that may
    crash or hang: a failed worker is replaced."""
    step_timeout_s: float = 60.0
    """With workers: seconds after which a worker that does not answer is killed and replaced. In this time a worker
    steps all its environments and resets those whose episodes ended."""
    max_restarts: int = 10
    """With workers: number of replaced workers (crashed, hung or raised an error) above which the run ends with exit
    code 4. The current episodes of a replaced worker are cut and not counted."""

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigError("no environment given", "env.id", "give a gymnasium id: env=gym env.id=Acrobot-v1")
        at_least("env.stack_num", self.stack_num, 1)
        at_least("env.workers", self.workers, 0)
        in_range("env.step_timeout_s", self.step_timeout_s, 0.1, 1e9)
        at_least("env.max_restarts", self.max_restarts, 0)
        at_least("env.max_episode_steps", self.max_episode_steps, 1)
        if self.channels is not None:
            one_of("env.channels", self.channels, ("first", "last"))


_DEFAULTS = {
    "sticky_actions": 0.0,
    "noop_max": 30,
    "fire_reset": True,
    "terminal_on_life_loss": False,
    "full_action_space": False,
}


PROTOCOLS: dict[str | None, dict[str, Any]] = {
    None: _DEFAULTS,
    "dqn": _DEFAULTS | {"terminal_on_life_loss": True},
    "machado": _DEFAULTS | {"sticky_actions": 0.25, "noop_max": 0, "fire_reset": False, "full_action_space": True},
}
"""Values of the Atari settings that are null, by protocol."""


@dataclass
class AtariConfig(EnvironmentConfig):
    """An Atari game with DQN's preprocessing: gray frames, pixel-wise maximum of the last two frames of each skip."""

    family: str = "atari"
    game: str = ""
    """ROM name in snake case, such as `ms_pacman`."""
    frame_skip: int = 4
    """Emulator frames per action."""
    stack_num: int = 4
    """Frames in an observation."""
    size: int = 84
    """Height and width of a frame, pixels."""
    protocol: str | None = None
    """Defaults of the next five keys. `dqn` (Mnih et al. 2015): a lost life ends the episode for the learner.
    `machado` (Machado et al. 2018): sticky actions, no use of lives, all 18 actions; set their frame_skip of 5 and
    max_episode_frames of 18000 yourself. null: like `dqn`, but a lost life does not end an episode."""
    sticky_actions: float | None = None
    """Probability that the emulator repeats the previous action. null: 0, with `machado` 0.25."""
    noop_max: int | None = None
    """Each episode begins with 0 to noop_max frames without input, to vary the start. null: 30, with `machado` 0."""
    fire_reset: bool | None = None
    """Press fire at the start of games that wait for it. null: true, with `machado` false."""
    terminal_on_life_loss: bool | None = None
    """Set `terminated` when a life is lost. The game goes on, and the logs count whole games. null: false, with `dqn`
    true."""
    full_action_space: bool | None = None
    """Use all 18 actions instead of those that have an effect in the game. null: false, with `machado` true."""
    max_episode_frames: int = 108_000
    """Emulator frames after which an episode is truncated: 108,000 frames are 30 minutes at 60 Hz."""

    def __post_init__(self) -> None:
        if not self.game:
            raise ConfigError("no game given", "env.game", "add one, such as env.game=breakout")
        if self.protocol is not None:
            one_of("env.protocol", self.protocol, [name for name in PROTOCOLS if name])
        self.filled_in = [key for key in PROTOCOLS[self.protocol] if getattr(self, key) is None]  # no field
        for key in self.filled_in:
            setattr(self, key, PROTOCOLS[self.protocol][key])
        for key, minimum in (("frame_skip", 1), ("stack_num", 1), ("size", 1), ("noop_max", 0)):
            at_least(f"env.{key}", getattr(self, key), minimum)
        at_least("env.max_episode_frames", self.max_episode_frames, self.frame_skip)
        assert self.sticky_actions is not None
        in_range("env.sticky_actions", self.sticky_actions, 0, 1)


@dataclass
class DoomConfig(EnvironmentConfig):
    """A single-player ViZDoom scenario."""

    INSTEAD_OF: ClassVar[dict[str, tuple[str, ...]]] = {"actions": ("action_set", "noop"), "cfg": ("scenario",)}
    """Keys that win over others, unless only one of these others is given on the command line or in a file of one's
    own."""

    family: str = "doom"
    scenario: str = "basic"
    """Name of a scenario that comes with ViZDoom."""
    cfg: str | None = None
    """Path of your own ViZDoom .cfg file, instead of `scenario`. rltrain looks for its WAD in the same folder, then in
    ViZDoom's. Its game_args may change the rules of the game only: `+sv_...`, `+timelimit`, `-nomonsters` and the like.
    `eval`, `play`, `export` and `resume` use the file only if their command line names it again."""
    frame_skip: int = 4
    """Game tics (35 per second) per action."""
    max_episode_steps: int | None = None
    """Agent steps after which an episode is truncated, if the .cfg file does not end it before; null: only the file's
    `episode_timeout`."""
    height: int = 60
    """Height of a frame, pixels."""
    width: int = 80
    """Width of a frame, pixels."""
    stack_num: int = 4
    """Frames in an observation."""
    gray: bool = True
    """true: one gray channel; false: red, green, blue."""
    action_set: str = "single"
    """`single`: each action presses one button. `combinations`: all combinations without opposite buttons."""
    noop: bool = False
    """With `single`: add an action that presses no button."""
    actions: list[list[str]] | None = None
    """Your own list of actions, each a list of button names, instead of `action_set` and `noop`. An empty list presses
    no button: [[MOVE_LEFT], [MOVE_RIGHT, ATTACK], []]."""
    render_resolution: str = "RES_160X120"
    """Resolution of the engine's screen, before it is cropped and scaled to `height` and `width`."""
    crop: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Parts to cut off before scaling: [top, bottom, left, right], as fractions of the screen's height and width."""
    game_variables: list[str] = field(default_factory=list)
    """Game variables that the network gets with each frame, such as [HEALTH, AMMO2] (names of ViZDoom's GameVariable).
    Extra rows below the frame store them, rounded and clipped to whole numbers from 0 to 255."""
    shaping: dict[str, float] = field(default_factory=dict)
    """Reward shaping, for training only: adds weight x change of a game variable to the reward of each action.
    NAME counts every change; NAME_GAINED counts only rises and NAME_LOST only falls, both as positive numbers:
    {HEALTH_GAINED: 0.1, AMMO2_LOST: -0.05}. Logged returns and evaluations use the scenario's reward."""
    doom_skill: int | None = None
    """Skill level of the games for training, 1 (easiest) to 5 (hardest); null: the scenario's own. Evaluations, `eval`
    and `play` always have the scenario's own. For a curriculum continue with `init_from=RUN` on the next level."""
    step_timeout_s: float = 30.0
    """Seconds after which an engine that does not answer is killed and replaced."""
    max_restarts: int = 10
    """Number of replaced engines (crashed or hung) above which the run ends with exit code 4. The current episode of a
    replaced engine is cut and not counted."""

    def __post_init__(self) -> None:
        in_range("env.step_timeout_s", self.step_timeout_s, 0.1, 1e9)
        at_least("env.max_restarts", self.max_restarts, 0)
        at_least("env.max_episode_steps", self.max_episode_steps, 1)
        if self.doom_skill is not None:
            in_range("env.doom_skill", self.doom_skill, 1, 5)
        for key in ("frame_skip", "height", "width", "stack_num"):
            at_least(f"env.{key}", getattr(self, key), 1)
        if len(self.crop) != 4:
            what = f"env.crop needs 4 numbers, not {len(self.crop)}"
            raise ConfigError(what, "env.crop", "give fractions as [top,bottom,left,right]")
        for fraction in self.crop:
            in_range("env.crop", fraction, 0, 1)
        for name, weight in self.shaping.items():
            if not math.isfinite(weight):
                raise ConfigError(f"{weight} is not a valid weight", f"env.shaping.{name}", "give a finite number")
        one_of("env.action_set", self.action_set, ("single", "combinations"))
        self.cfg = self.cfg and os.path.expanduser(self.cfg)
        if self.cfg is not None and not os.path.isfile(self.cfg):
            raise ConfigError(f"there is no file '{self.cfg}'", "env.cfg", "give the path of a ViZDoom .cfg file")

    def scored(self) -> Self:
        """Return the settings of the scenario's own game, without shaping and with its own skill level."""
        return replace(self, shaping={}, doom_skill=None)


@dataclass
class RetroConfig(EnvironmentConfig):
    """A single-player console game of stable-retro."""

    family: str = "retro"
    game: str = "Airstriker-Genesis-v0"
    """Name of the game in stable-retro. Airstriker's ROM comes with the package. For other games import your own ROM:
    `python -m stable_retro.import DIR`."""
    state: str | None = None
    """Saved state at which every episode begins, such as GreenHillZone.Act1; null: the game's default."""
    states: list[str] = field(default_factory=list)
    """Several states, instead of `state`: the environments take them in turn and move to the next at every reset. If
    there are as many environments as states, each environment keeps its state."""
    scenario: str = "scenario"
    """stable-retro's scenario file, which defines the reward and the end of an episode. With `contest` the Sonic games
    pay up to 9000 for the way to the end of the level and up to 1000 for speed, and end at the first lost life."""
    reward_variable: str | None = None
    """Reward the increase of this game variable, such as x, instead of the scenario's reward."""
    new_best_only: bool = False
    """Reward only progress beyond the highest return so far in the episode. Going back costs nothing."""
    one_life: bool = False
    """End the episode when a life is lost, whatever the scenario says."""
    actions: list[str] = field(default_factory=list)
    """Buttons that each action presses, such as LEFT+B; NOOP presses none. Empty: every combination in `buttons`."""
    action_set: str = "combinations"
    """`combinations`: an action is one entry of `actions`. `buttons`: an action makes several choices at once: one of
    up and down, one of left and right, and one of the combinations of the other buttons."""
    frame_skip: int = 4
    """Emulator frames (60 per second) per action."""
    max_pool: bool = False
    """Use the pixel-wise maximum of the last two frames of each skip, for games that flicker."""
    sticky_actions: float = 0.0
    """Probability that the first frame of an action repeats the buttons of the previous action."""
    noop_max: int = 30
    """Each episode begins with 0 to noop_max frames without input, because the emulator itself is deterministic."""
    max_episode_frames: int = 18_000
    """Emulator frames after which an episode is truncated: 18,000 frames are 5 minutes."""
    height: int = 84
    """Height of a frame, pixels."""
    width: int = 84
    """Width of a frame, pixels."""
    crop: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Pixels to cut off the emulator's picture before scaling: [top, bottom, left, right]."""
    gray: bool = True
    """true: one gray channel; false: red, green, blue."""
    stack_num: int = 4
    """Frames in an observation."""
    step_timeout_s: float = 30.0
    """Seconds after which an emulator that does not answer is killed and replaced."""
    max_restarts: int = 10
    """Number of replaced emulators (crashed, hung or raised an error) above which the run ends with exit code 4. The
    current episode of a replaced emulator is cut and not counted."""

    def __post_init__(self) -> None:
        for key in ("game", "scenario"):  # a saved path could lead to a script, which the emulator would run
            name = getattr(self, key)
            if not name or "/" in name or "\0" in name or name in (".", ".."):
                raise ConfigError(f"'{name}' is no name", f"env.{key}", "give a name that stable-retro knows")
        for key in ("frame_skip", "height", "width", "stack_num"):
            at_least(f"env.{key}", getattr(self, key), 1)
        in_range("env.step_timeout_s", self.step_timeout_s, 0.1, 1e9)
        at_least("env.max_restarts", self.max_restarts, 0)
        at_least("env.noop_max", self.noop_max, 0)
        at_least("env.max_episode_frames", self.max_episode_frames, self.frame_skip)
        in_range("env.sticky_actions", self.sticky_actions, 0, 1)
        one_of("env.action_set", self.action_set, ("combinations", "buttons"))
        if len(self.crop) != 4 or min(self.crop) < 0:
            what = f"env.crop needs 4 numbers of at least 0, not {self.crop}"
            raise ConfigError(what, "env.crop", "give pixels as [top,bottom,left,right]")
        if self.state is not None and self.states:
            raise ConfigError("state and states are both given", "env.state, env.states", "give one of them")
        if self.actions and self.action_set == "buttons":
            fix = "leave env.actions out, or use env.action_set=combinations"
            raise ConfigError("action_set=buttons takes no list of actions", "env.actions", fix)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Shape of a frame, [channels, height, width]."""
        return (1 if self.gray else 3, self.height, self.width)


ENVIRONMENTS: dict[str, type] = {"gym": GymConfig, "doom": DoomConfig, "atari": AtariConfig, "retro": RetroConfig}
"""The settings class of every environment family."""


def config_class(family: str) -> type:
    """Return the settings class of a family. Raises ConfigError for an unknown family."""
    if family not in ENVIRONMENTS:
        raise ConfigError(f"unknown family '{family}'", "env.family", nearest(family, ENVIRONMENTS))
    return ENVIRONMENTS[family]


def folder_name(config: Any) -> str:
    """Return the name of an environment for run folders, tables and plots.

    This is its `name`. If `name` is only the family (env=gym env.id=...), it is the id, game or scenario, with
    characters that are safe in a path.
    """
    if config.name != config.family:
        return str(config.name)
    if config.family == "doom":
        cfg = getattr(config, "cfg", None)
        chosen = Path(cfg).stem if cfg else config.scenario
        chosen = "doom" if chosen == "basic" else f"doom_{chosen}"  # env=doom is the basic scenario
    else:
        chosen = getattr(config, "id", "") or getattr(config, "game", "") or config.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", chosen).strip("-.")
