"""Check a Doom configuration and find its files, without starting an engine. Imported only when Doom is used."""

import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rltrain.envs.doom.actions import button_actions, named_actions
from rltrain.errors import ConfigError, EnvironmentFailure, nearest
from rltrain.system import process

try:
    import vizdoom
except ImportError as import_error:
    fix = "run `pip install vizdoom`"
    raise EnvironmentFailure(f"vizdoom is missing: {import_error}", "env", fix) from import_error

if TYPE_CHECKING:
    from rltrain.config.environments import DoomConfig

PACKAGE = Path(vizdoom.__file__).resolve().parent
_SCENARIOS = Path(vizdoom.scenarios_path)
# Scenarios for several players; some wait for others to join.
_MULTIPLAYER = frozenset({"cig", "multi", "multi_duel"})


_NAMED = ("+skill", "+fraglimit", "+freelook", "+timelimit", "+viz_nocheat", "+viz_respawn_delay", "-fast",
          "-nomonsters", "-respawn", "-skill", "-altdeath", "-deathmatch")  # fmt: skip
_ALLOWED_ARGUMENTS = re.compile("|".join(map(re.escape, _NAMED)) + r"|\+sv_\w+")
"""Arguments of the engine that change the rules of the game and nothing else."""


class Weight(NamedTuple):
    """The weights of one game variable in the shaping reward."""

    variable: str
    gained: float
    """The reward for each unit by which the variable rises."""
    lost: float
    """The reward for each unit by which the variable falls."""


class Setup(NamedTuple):
    """The settings of an engine from a configuration and its .cfg file, with absolute paths."""

    cfg: Path
    scenario_wad: Path | None
    game_wad: Path
    actions: list[list[float]]
    """The buttons that each action presses, [num_actions][num_buttons]."""
    buttons: list[str]
    crop: tuple[slice, slice]
    """The rows and columns of the screen that remain after env.crop."""
    variables: list[str]
    shaping: list[Weight]
    timeout_tics: int
    """The time limit of the .cfg file in tics of the game's clock, or 0 if it has none."""


def scenarios() -> list[str]:
    """Return the names of ViZDoom's .cfg files for one player whose scenario WAD is installed."""
    found = []
    for cfg in _SCENARIOS.glob("*.cfg"):
        wad = _value(cfg.read_text(), "doom_scenario_path")
        if cfg.stem not in _MULTIPLAYER and wad and (_SCENARIOS / wad).is_file():
            found.append(cfg.stem)
    return sorted(found)


def refuse_settings_of_vizdoom() -> None:
    """Raise ConfigError where `DoomGame.init` would take settings from the working directory.

    They could name another program than the engine: the folder may be somebody else's run.
    """
    process.refuse_settings("_vizdoom.cfg", "ViZDoom", "stand in another folder, or give the file another name")


def read_setup(config: "DoomConfig") -> Setup:
    """Find and check everything that an engine needs. Raises ConfigError or EnvironmentFailure."""
    cfg, where = _cfg(config)
    text = cfg.read_text(errors="replace")
    if re.search(r"^\s*game_args.*-(host|join)\b", text, re.MULTILINE):
        raise ConfigError(f"'{cfg.name}' is for several players", where, "remove -host and -join from its game_args")
    refuse_settings_of_vizdoom()
    game = vizdoom.DoomGame()
    if not game.load_config(str(cfg)):
        raise ConfigError(f"ViZDoom does not accept '{cfg}'", where, "correct the lines that it warns about above")
    _check_harmless(game, cfg, where)
    buttons = [button.name for button in game.get_available_buttons()]
    if config.actions is None:
        actions = button_actions(buttons, config.action_set, config.noop)
    else:
        actions = named_actions(buttons, config.actions)
    if not actions:
        fix = "add buttons to its available_buttons"
        raise ConfigError(f"'{cfg.name}' has no button that an action can press", "env.cfg", fix)
    # ViZDoom reads more spellings of a key than `_value`, and puts the .cfg's folder before the name.
    wad = _value(text, "doom_scenario_path") or game.get_doom_scenario_path()
    game_wad = _value(text, "doom_game_path") or game.get_doom_game_path()
    scenario_path = _find(wad, cfg, where) if wad else None
    # Name a WAD in any case: by default an engine uses a doom2.wad of the working directory.
    game_path = _find(game_wad, cfg, where) if game_wad else PACKAGE / "freedoom2.wad"
    _check_map(game.get_doom_map(), [path for path in (scenario_path, game_path) if path is not None], where)
    return Setup(
        cfg,
        scenario_path,
        game_path,
        actions,
        buttons,
        _crop(config),
        [_variable(name, "env.game_variables") for name in config.game_variables],
        [_weight(name, weight) for name, weight in config.shaping.items()],
        max(0, game.get_episode_timeout()),
    )


def _cfg(config: "DoomConfig") -> tuple[Path, str]:
    """Return the .cfg file, and the config key that names it."""
    if config.cfg is not None:
        return Path(config.cfg).resolve(), "env.cfg"
    if config.scenario not in scenarios():
        raise ConfigError(
            f"unknown Doom scenario '{config.scenario}'", "env.scenario", nearest(config.scenario, scenarios())
        )
    return _SCENARIOS / f"{config.scenario}.cfg", "env.scenario"


def _crop(config: "DoomConfig") -> tuple[slice, slice]:
    """Return the rows and columns of the screen that remain after env.crop. Raises ConfigError."""
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
        raise ConfigError(f"{config.crop} leaves no pixels of {width} x {height}", "env.crop", "crop less")
    return rows, columns


def _variable(name: str, where: str) -> str:
    """Return a game variable's name as ViZDoom writes it. Raises ConfigError for an unknown one."""
    known = [variable for variable in dir(vizdoom.GameVariable) if variable.isupper()]
    if name.upper() not in known:
        raise ConfigError(f"unknown game variable '{name}'", where, nearest(name.upper(), known))
    return name.upper()


def _weight(name: str, weight: float) -> Weight:
    """Return one entry of env.shaping. Raises ConfigError for an unknown game variable."""
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
    """Return the last value of `key` in the text of a .cfg file, without quotes; None if there is none."""
    values = re.findall(rf"^\s*{key}\s*=\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return values[-1].strip("\"'") if values else None


def _check_harmless(game: vizdoom.DoomGame, cfg: Path, where: str) -> None:
    """Raise ConfigError for arguments that could make the engine do more than play, such as write a file.

    The .cfg file may come from somebody else. An argument of the engine can be any console command.
    """
    words = game.get_game_args().split()
    for word in words:
        if word[0] in "+-" and not re.fullmatch(r"-\d[\d.]*", word):
            allowed = _ALLOWED_ARGUMENTS.fullmatch(word)
        else:
            allowed = re.fullmatch(r"\w+|-?\d[\d.]*", word)  # no file name: the engine would run a .cfg
        if not allowed:
            what = f"game_args of '{cfg.name}' has '{word}', which is not among the arguments that rltrain allows"
            raise ConfigError(what, where, f"remove it; allowed are {', '.join(_NAMED)}, and +sv_... with a value")
    if not re.fullmatch(r"\w+", game.get_doom_map()):
        raise ConfigError(f"doom_map of '{cfg.name}' is not a name", where, "give a name such as map01")


def _check_map(name: str, wads: list[Path], where: str) -> None:
    """Raise ConfigError for a map that is missing in the first WAD that has maps with names such as MAP01 or E1M1.

    ViZDoom plays one of another WAD then, in silence, or waits for ever. wads: the scenario's, if any, then the game's.
    """
    found = [_lumps(path, where) for path in wads]
    for path, lumps in zip(wads, found, strict=True):
        if lumps is None or name.upper() in lumps:  # of an archive nothing is known
            return
        if maps := [lump for lump in lumps if re.fullmatch(r"MAP\d+|E\dM\d+", lump)]:
            fix = f"set doom_map in the .cfg file; {nearest(name.upper(), maps)}"
            raise ConfigError(f"'{path.name}' has no map '{name}'", where, fix)


def _lumps(path: Path, where: str) -> list[str] | None:
    """Return the names of the parts of a WAD; None for an archive (PK3, PK7). Raises ConfigError for other files."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:2] in (b"PK", b"7z"):
            return None
        size = path.stat().st_size
        if head[:4] in (b"IWAD", b"PWAD") and len(head) == 12:
            count, place = struct.unpack("<II", head[4:])
            if place + 16 * count <= size:
                file.seek(place)
                entries = file.read(16 * count)
                names = [entries[begin + 8 : begin + 16] for begin in range(0, 16 * count, 16)]
                return [name.partition(b"\0")[0].decode("latin-1").upper() for name in names]
    what = "is cut off" if head[:4] in (b"IWAD", b"PWAD") else "is no WAD"
    raise ConfigError(
        f"'{path}' {what} ({size:,} bytes)", where, "copy or download it again; `git lfs pull` gets files"
    )


def _find(name: str, cfg: Path, where: str) -> Path:
    """Return the path of the WAD `name`: beside `cfg`, or among ViZDoom's own. Raises EnvironmentFailure.

    A name with folders also stands for a file beside `cfg`, for a .cfg that was copied with its WAD.
    """
    base = name.replace("\\", "/").rpartition("/")[2]
    for path in (cfg.parent / name, _SCENARIOS / name, PACKAGE / name, cfg.parent / base):
        if path.is_file():
            return path
    raise EnvironmentFailure(f"the WAD '{name}' named in '{cfg.name}' is missing", where, f"put it into {cfg.parent}")
