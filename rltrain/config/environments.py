"""The settings of every environment family. An emulator's package is imported only where its family is used."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rltrain.config.validate import at_least, in_range, one_of
from rltrain.errors import ConfigError, nearest


@dataclass
class EnvironmentConfig:
    """What every family has. A family of a plugin may do without `tuned_as`."""

    name: str
    """Name in run folders."""
    tuned_as: str | None = None
    """Another environment, or a family of them, whose tuned settings (`rltrain list hparams`) are taken where this one
    has none with an algorithm; only in an environment's YAML."""


@dataclass
class GymConfig(EnvironmentConfig):
    """Any environment of gymnasium's registry."""

    family: str = "gym"
    id: str = ""
    """gymnasium's id: `CartPole-v1`; `package.module:Name-v0` imports the module, which registers the id."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment."""
    max_episode_steps: int | None = None
    """Agent steps after which an episode is truncated; null keeps what the environment was registered with."""
    stack_num: int = 1
    """Frames that the policy sees at once."""
    workers: int = 0
    """Processes that share the environments. 0 steps them in this process: right for all that are quick, as a message
    to a process costs more than a step of CartPole. An environment that may crash or hang belongs into one: there it
    can be replaced."""
    step_timeout_s: float = 60.0
    """With workers: seconds after which one that does not answer is killed and replaced. It has a share of the
    environments to step, and to reset where an episode ended."""
    max_restarts: int = 10
    """With workers: how many may be replaced, after they died, hung or raised, before the run ends with code 4. The
    episodes of such a worker's share are cut and count in no statistics."""

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigError("no environment given", "env.id", "give gymnasium's id: env=gym env.id=Acrobot-v1")
        at_least("env.stack_num", self.stack_num, 1)
        at_least("env.workers", self.workers, 0)
        at_least("env.step_timeout_s", self.step_timeout_s, 0.1)
        at_least("env.max_restarts", self.max_restarts, 0)
        at_least("env.max_episode_steps", self.max_episode_steps, 1)


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
class AtariConfig(EnvironmentConfig):
    """An Atari game with DQN's preprocessing: gray frames, the maximum over the last two of each skip."""

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
        for key, value in PROTOCOLS[self.protocol].items():
            if getattr(self, key) is None:
                setattr(self, key, value)
        for key, minimum in (("frame_skip", 1), ("stack_num", 1), ("size", 1), ("noop_max", 0)):
            at_least(f"env.{key}", getattr(self, key), minimum)
        at_least("env.max_episode_frames", self.max_episode_frames, self.frame_skip)
        assert self.sticky_actions is not None
        in_range("env.sticky_actions", self.sticky_actions, 0, 1)


@dataclass
class DoomConfig(EnvironmentConfig):
    """A ViZDoom scenario for one player."""

    family: str = "doom"
    scenario: str = "basic"
    """One of ViZDoom's own scenarios."""
    cfg: str | None = None
    """A ViZDoom .cfg file of yours, in place of `scenario`; its WAD is looked for beside it, then in ViZDoom."""
    frame_skip: int = 4
    """Game tics (35 a second) per action."""
    height: int = 60
    """Height of a frame, pixels."""
    width: int = 80
    """Width of a frame, pixels."""
    stack_num: int = 4
    """Frames that the policy sees at once."""
    gray: bool = True
    """One channel of brightness; otherwise red, green, blue."""
    action_set: str = "single"
    """`single`: an action presses one button; `combinations`: any buttons that are not opposites."""
    noop: bool = False
    """With `single`, one action more, which presses nothing."""
    actions: list[list[str]] | None = None
    """The actions by the names of their buttons, in place of `action_set` and `noop`; an empty list is a no-op:
    [[MOVE_LEFT], [MOVE_RIGHT, ATTACK], []]."""
    render_resolution: str = "RES_160X120"
    """What the engine draws, before it is cropped and scaled to `height` and `width`."""
    crop: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """What is cut off before scaling: top, bottom, left, right, as fractions of the screen's height and width, so that
    it means the same at every `render_resolution`."""
    game_variables: list[str] = field(default_factory=list)
    """Numbers that the network gets beside each frame, such as [HEALTH, AMMO2]: ViZDoom's GameVariable names. They are
    kept as whole numbers from 0 to 255 in extra rows below the frame; what lies outside is clipped."""
    shaping: dict[str, float] = field(default_factory=dict)
    """Labelled reward shaping: what is learned from gets, beside the reward, weight x change of a game variable in each
    action. NAME weighs every change; NAME_GAINED and NAME_LOST only rises and only falls, both counted positive:
    {HEALTH_GAINED: 0.1, AMMO2_LOST: -0.05}. Logged returns and evaluations stay the scenario's own."""
    step_timeout_s: float = 30.0
    """Seconds after which an engine that does not answer is killed and replaced."""
    max_restarts: int = 10
    """Engines of a pool that may be replaced, after they died or hung, before the run ends with code 4. The episode of
    such an engine is cut and counts in no statistics."""

    def __post_init__(self) -> None:
        at_least("env.step_timeout_s", self.step_timeout_s, 0.1)
        at_least("env.max_restarts", self.max_restarts, 0)
        for key in ("frame_skip", "height", "width", "stack_num"):
            at_least(f"env.{key}", getattr(self, key), 1)
        if len(self.crop) != 4:
            raise ConfigError(f"{len(self.crop)} numbers", "env.crop", "give four: [top, bottom, left, right]")
        for fraction in self.crop:
            in_range("env.crop", fraction, 0, 1)
        for name, weight in self.shaping.items():
            if not math.isfinite(weight):
                raise ConfigError(f"{weight} is no weight", f"env.shaping.{name}", "give a finite number")
        one_of("env.action_set", self.action_set, ("single", "combinations"))
        if self.cfg is not None and not Path(self.cfg).is_file():
            raise ConfigError(f"there is no file '{self.cfg}'", "env.cfg", "give the path of a ViZDoom .cfg file")


@dataclass
class RetroConfig(EnvironmentConfig):
    """A game of stable-retro, for one player."""

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


ENVIRONMENTS: dict[str, type] = {"gym": GymConfig, "doom": DoomConfig, "atari": AtariConfig, "retro": RetroConfig}
"""The schema of every family of environments."""


def config_class(family: str) -> type:
    """Return the schema of a family. Raises ConfigError for an unknown one."""
    if family not in ENVIRONMENTS:
        raise ConfigError(f"unknown family '{family}'", "env.family", nearest(family, ENVIRONMENTS))
    return ENVIRONMENTS[family]


def folder_name(config: Any) -> str:
    """What run folders, tables and plots call an environment.

    Its `name`; where that names the family alone (env=gym env.id=...), the id, game or scenario, safe in a path.
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
