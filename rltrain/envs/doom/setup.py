"""What a Doom configuration means, found and checked without starting an engine. Imported only where Doom is used."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rltrain.envs.doom.actions import button_actions, named_actions
from rltrain.errors import ConfigError, EnvironmentFailure, nearest

try:
    import vizdoom
except ImportError as import_error:
    raise EnvironmentFailure(f"vizdoom is missing: {import_error}", "env", "pip install vizdoom") from import_error

if TYPE_CHECKING:
    from rltrain.config.environments import DoomConfig

PACKAGE = Path(vizdoom.__file__).resolve().parent
_SCENARIOS = Path(vizdoom.scenarios_path)
# They wait for other players, or are meant for them.
_MULTIPLAYER = frozenset({"cig", "multi", "multi_duel"})


class Weight(NamedTuple):
    """What is learned from beside the reward: `gained` for each unit by which a variable rises, `lost` if it falls."""

    variable: str
    gained: float
    lost: float


class Setup(NamedTuple):
    """What a configuration and its .cfg file say, with absolute paths."""

    cfg: Path
    scenario_wad: Path | None
    game_wad: Path
    actions: list[list[float]]
    """What each action presses, [num_actions][num_buttons]."""
    crop: tuple[slice, slice]
    """The rows and columns of the screen that are kept."""
    variables: list[str]
    shaping: list[Weight]


def scenarios() -> list[str]:
    """Packaged .cfg files for one player that name a scenario WAD which is there."""
    found = []
    for cfg in _SCENARIOS.glob("*.cfg"):
        wad = _value(cfg.read_text(), "doom_scenario_path")
        if cfg.stem not in _MULTIPLAYER and wad and (_SCENARIOS / wad).is_file():
            found.append(cfg.stem)
    return sorted(found)


def read_setup(config: "DoomConfig") -> Setup:
    """Find and check all that an engine needs. Raises ConfigError or EnvironmentFailure."""
    cfg, where = _cfg(config)
    text = cfg.read_text(errors="replace")
    if re.search(r"^\s*game_args.*-(host|join)\b", text, re.MULTILINE):
        raise ConfigError(f"'{cfg.name}' is for several players", where, "remove -host and -join from its game_args")
    game = vizdoom.DoomGame()
    if not game.load_config(str(cfg)):
        raise ConfigError(f"ViZDoom does not accept '{cfg}'", where, "correct the lines that it warns about above")
    buttons = [button.name for button in game.get_available_buttons()]
    if config.actions is None:
        actions = button_actions(buttons, config.action_set, config.noop)
    else:
        actions = named_actions(buttons, config.actions)
    if not actions:
        raise ConfigError(f"'{cfg.name}' has no button that an action can press", "env.cfg", "add buttons to it")
    wad = _value(text, "doom_scenario_path")
    game_wad = _value(text, "doom_game_path")
    return Setup(
        cfg,
        _find(wad, cfg, where) if wad else None,
        # Named outright: an engine left to itself takes any doom2.wad that lies in the working directory.
        _find(game_wad, cfg, where) if game_wad else PACKAGE / "freedoom2.wad",
        actions,
        _crop(config),
        [_variable(name, "env.game_variables") for name in config.game_variables],
        [_weight(name, weight) for name, weight in config.shaping.items()],
    )


def _cfg(config: "DoomConfig") -> tuple[Path, str]:
    """The .cfg file, and the key that names it."""
    if config.cfg is not None:
        return Path(config.cfg).resolve(), "env.cfg"
    if config.scenario not in scenarios():
        raise ConfigError(
            f"unknown Doom scenario '{config.scenario}'", "env.scenario", nearest(config.scenario, scenarios())
        )
    return _SCENARIOS / f"{config.scenario}.cfg", "env.scenario"


def _crop(config: "DoomConfig") -> tuple[slice, slice]:
    """Pixels of the screen that remain after env.crop."""
    resolutions = [name for name in dir(vizdoom.ScreenResolution) if name.startswith("RES_")]
    if config.render_resolution not in resolutions:
        raise ConfigError(
            f"unknown resolution '{config.render_resolution}'",
            "env.render_resolution",
            nearest(config.render_resolution, resolutions),
        )
    width, height = map(int, config.render_resolution.removeprefix("RES_").split("X"))
    top, bottom, left, right = config.crop
    rows = slice(round(top * height), height - round(bottom * height))
    columns = slice(round(left * width), width - round(right * width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise ConfigError(f"{config.crop} leaves nothing of {width} x {height} pixels", "env.crop", "cut off less")
    return rows, columns


def _variable(name: str, where: str) -> str:
    """A game variable's name as ViZDoom writes it. Raises ConfigError, naming the nearest, for an unknown one."""
    known = [variable for variable in dir(vizdoom.GameVariable) if variable.isupper()]
    if name.upper() not in known:
        raise ConfigError(f"unknown game variable '{name}'", where, nearest(name.upper(), known))
    return name.upper()


def _weight(name: str, weight: float) -> Weight:
    """One entry of env.shaping."""
    known = {variable for variable in dir(vizdoom.GameVariable) if variable.isupper()}
    named = known | {f"{variable}_{way}" for variable in known for way in ("GAINED", "LOST")}
    if name.upper() not in named:
        raise ConfigError(f"unknown game variable '{name}'", "env.shaping", nearest(name.upper(), named))
    variable, _, direction = name.upper().rpartition("_")
    if direction == "GAINED":
        return Weight(variable, weight, 0.0)
    if direction == "LOST":
        return Weight(variable, 0.0, weight)
    return Weight(name.upper(), weight, -weight)


def _value(text: str, key: str) -> str | None:
    """The last value of `key` in a .cfg file's text, without quotes."""
    values = re.findall(rf"^\s*{key}\s*=\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return values[-1].strip("\"'") if values else None


def _find(name: str, cfg: Path, where: str) -> Path:
    """The WAD `name` beside `cfg`, or among ViZDoom's own. Raises EnvironmentFailure."""
    for folder in (cfg.parent, _SCENARIOS, PACKAGE):
        if (folder / name).is_file():
            return folder / name
    raise EnvironmentFailure(f"the WAD '{name}' named in '{cfg.name}' is missing", where, f"put it into {cfg.parent}")
