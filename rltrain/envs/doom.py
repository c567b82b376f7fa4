"""Doom scenarios: their configuration. Nothing here imports ViZDoom before it is needed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces as gym_spaces

from rltrain.envs.pool import Pool
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.envs.viewer import Viewer
from rltrain.errors import ConfigError
from rltrain.validate import at_least, in_range, one_of


@dataclass
class DoomConfig:
    """A ViZDoom scenario for one player."""

    name: str
    """Name in run folders."""
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


def scenarios() -> list[str]:
    """ViZDoom's own scenarios for one player that come with their WAD."""
    from rltrain.envs import doom_setup

    return doom_setup.scenarios()


def spaces(config: DoomConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """(frames [C, height, width] uint8, Discrete), from the .cfg file: starts no engine.

    With `game_variables` the frames are PixelsAndVariables, with rows below the picture. Raises ConfigError (unknown
    scenario, button or variable, bad .cfg) or EnvironmentFailure (no WAD, no ViZDoom).
    """
    from rltrain.envs import doom_setup

    actions = gym_spaces.Discrete(len(doom_setup.read_setup(config).actions))
    shape = (1 if config.gray else 3, config.height, config.width)
    if config.game_variables:
        return PixelsAndVariables(*shape, len(config.game_variables)), actions
    return gym_spaces.Box(0, 255, shape, np.uint8), actions


def make_pool(config: DoomConfig, num_envs: int) -> Pool:
    """Start `num_envs` engines. Raises ConfigError or EnvironmentFailure."""
    frame_space, action_space = spaces(config)  # first, as it says so where ViZDoom is missing
    from rltrain.envs.doom_pool import DoomPool

    return DoomPool(config, num_envs, frame_space, action_space)


def make_viewer(config: DoomConfig) -> Viewer:
    """One game in colour. Raises what `make_pool` raises."""
    from rltrain.envs import doom_viewer

    return doom_viewer.make_viewer(config)
