"""One ViZDoom engine: its files, its start, its clock. Imported only where Doom is used."""

import re
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from rltrain.errors import ConfigError, EnvironmentFailure, nearest

try:
    import vizdoom
except ImportError as import_error:
    raise EnvironmentFailure(f"vizdoom is missing: {import_error}", "env", "pip install vizdoom") from import_error

if TYPE_CHECKING:
    from rltrain.envs.doom import DoomConfig

_PACKAGE = Path(vizdoom.__file__).resolve().parent
_SCENARIOS = Path(vizdoom.scenarios_path)
# They wait for other players, or are meant for them.
_MULTIPLAYER = frozenset({"cig", "multi", "multi_duel"})

# The calls run at once in threads of ours; OpenCV's own threads would only contend with them.
cv2.setNumThreads(0)

# Two engines that start at once in threads of one process crash it (seen with ViZDoom 1.3.2: a segmentation fault).
_STARTING = threading.Lock()


class Setup(NamedTuple):
    """What a .cfg file says, with its paths made absolute."""

    cfg: Path
    scenario_wad: Path | None
    game_wad: Path
    buttons: list[str]


class Outcome(NamedTuple):
    """One action of one engine."""

    reward: float
    terminated: bool
    truncated: bool
    tics: int


def scenarios() -> list[str]:
    """Packaged .cfg files for one player that name a scenario WAD which is there."""
    found = []
    for cfg in _SCENARIOS.glob("*.cfg"):
        wad = _value(cfg.read_text(), "doom_scenario_path")
        if cfg.stem not in _MULTIPLAYER and wad and (_SCENARIOS / wad).is_file():
            found.append(cfg.stem)
    return sorted(found)


def read_setup(config: "DoomConfig") -> Setup:
    """Find and check all that an engine needs, without starting one. Raises ConfigError or EnvironmentFailure."""
    if config.cfg is not None:
        cfg, where = Path(config.cfg).resolve(), "env.cfg"
    else:
        cfg, where = _SCENARIOS / f"{config.scenario}.cfg", "env.scenario"
        if config.scenario not in scenarios():
            raise ConfigError(
                f"unknown Doom scenario '{config.scenario}'", where, nearest(config.scenario, scenarios())
            )
    if not hasattr(vizdoom.ScreenResolution, config.render_resolution):
        resolutions = [name for name in dir(vizdoom.ScreenResolution) if name.startswith("RES_")]
        raise ConfigError(
            f"unknown resolution '{config.render_resolution}'",
            "env.render_resolution",
            nearest(config.render_resolution, resolutions),
        )
    text = cfg.read_text(errors="replace")
    if re.search(r"^\s*game_args.*-(host|join)\b", text, re.MULTILINE):
        raise ConfigError(f"'{cfg.name}' is for several players", where, "remove -host and -join from its game_args")
    game = vizdoom.DoomGame()
    if not game.load_config(str(cfg)):
        raise ConfigError(f"ViZDoom does not accept '{cfg}'", where, "correct the lines that it warns about above")
    buttons = [button.name for button in game.get_available_buttons()]
    wad = _value(text, "doom_scenario_path")
    game_wad = _value(text, "doom_game_path")
    return Setup(
        cfg,
        _find(wad, cfg, where) if wad else None,
        # Named outright: an engine left to itself takes any doom2.wad that lies in the working directory.
        _find(game_wad, cfg, where) if game_wad else _PACKAGE / "freedoom2.wad",
        buttons,
    )


class Engine:
    """One engine process. `start`, then `begin` and `act`; after `close`, `start` gives a fresh one.

    Any call raises EnvironmentFailure if the engine does not do what it should.
    """

    def __init__(self, config: "DoomConfig", setup: Setup, folder: Path) -> None:
        self._config, self._setup, self._folder = config, setup, folder
        self._game: vizdoom.DoomGame | None = None

    def start(self) -> None:
        """Start the process, which works in `folder` and leaves its files there."""
        self._folder.mkdir(exist_ok=True)
        try:
            game = vizdoom.DoomGame()
            game.load_config(str(self._setup.cfg))
            game.set_doom_game_path(str(self._setup.game_wad))
            if self._setup.scenario_wad is not None:
                game.set_doom_scenario_path(str(self._setup.scenario_wad))
            game.set_vizdoom_path(str(self._launcher()))
            game.set_doom_config_path(str(self._folder / "engine.ini"))
            game.set_mode(vizdoom.Mode.PLAYER)
            game.set_window_visible(False)
            game.set_sound_enabled(False)
            game.set_screen_resolution(getattr(vizdoom.ScreenResolution, self._config.render_resolution))
            gray = self._config.gray
            game.set_screen_format(vizdoom.ScreenFormat.GRAY8 if gray else vizdoom.ScreenFormat.RGB24)
            # Nobody looks at these, and each costs time at every step.
            for buffer in ("depth", "labels", "automap", "audio", "notifications"):
                getattr(game, f"set_{buffer}_buffer_enabled")(False)
            game.set_objects_info_enabled(False)
            game.set_sectors_info_enabled(False)
            # The time limit is ours to keep: the engine shows no picture after its own timeout, and would not tell it
            # from an end of the game in the same tic.
            timeout = game.get_episode_timeout()
            self._end_tic = game.get_episode_start_time() + timeout if timeout > 0 else None
            game.set_episode_timeout(0)
            with _STARTING:
                game.init()
        except Exception as error:
            raise self._failure("does not start", error) from error
        self._game = game

    def begin(self, frame: np.ndarray, seed: int | None = None) -> None:
        """Start an episode and write its first frame to `frame` [C, height, width] uint8."""
        try:
            game = self._running()
            if seed is not None:
                game.set_seed(seed)
            game.new_episode()
            self._draw(frame)
        except Exception as error:
            raise self._failure("does not begin an episode", error) from error

    def act(self, buttons: list[float], frame: np.ndarray) -> Outcome:
        """Press `buttons` for one action. Writes the frame that follows, and leaves `frame` alone at a real end."""
        try:
            game = self._running()
            before = game.get_episode_time()
            tics = self._config.frame_skip
            if self._end_tic is not None:
                tics = min(tics, self._end_tic - before)
            reward = game.make_action(buttons, tics)
            after = game.get_episode_time()
            # At the exit of a map the clock is back at 0, and how many tics were played is not known.
            tics = after - before if after > before else tics
            if game.is_episode_finished():
                # A `+timelimit` among game_args is kept by the engine.
                cut = game.is_episode_timeout_reached() and not game.is_player_dead()
                return Outcome(reward, not cut, cut, tics)
            self._draw(frame)
            return Outcome(reward, False, self._end_tic is not None and after >= self._end_tic, tics)
        except Exception as error:
            raise self._failure("failed in a step", error) from error

    def close(self) -> None:
        """End the process, if there is one."""
        game, self._game = self._game, None
        if game is not None:
            game.close()

    def _running(self) -> vizdoom.DoomGame:
        if self._game is None:
            raise RuntimeError("the engine is closed")
        return self._game

    def _draw(self, frame: np.ndarray) -> None:
        screen = self._running().get_state().screen_buffer
        scaled = cv2.resize(screen, (frame.shape[2], frame.shape[1]), interpolation=cv2.INTER_AREA)
        frame[...] = scaled if scaled.ndim == 2 else np.moveaxis(scaled, -1, 0)

    def _launcher(self) -> Path:
        """A script that starts the engine in `folder`: it makes a directory `_vizdoom` wherever it works."""
        script = self._folder / "engine.sh"
        engine = shlex.quote(str(_PACKAGE / "vizdoom"))
        script.write_text(f'#!/bin/sh\ncd {shlex.quote(str(self._folder))} && exec {engine} "$@"\n')
        script.chmod(0o700)
        return script

    def _failure(self, what: str, error: Exception) -> EnvironmentFailure:
        message = f"the Doom engine {what}: {type(error).__name__}: {error}"
        return EnvironmentFailure(message, str(self._setup.cfg), "TMPDIR must allow programs to run; see the cause")


def _value(text: str, key: str) -> str | None:
    """The last value of `key` in a .cfg file's text, without quotes."""
    values = re.findall(rf"^\s*{key}\s*=\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return values[-1].strip("\"'") if values else None


def _find(name: str, cfg: Path, where: str) -> Path:
    """The WAD `name` beside `cfg`, or among ViZDoom's own. Raises EnvironmentFailure."""
    for folder in (cfg.parent, _SCENARIOS, _PACKAGE):
        if (folder / name).is_file():
            return folder / name
    raise EnvironmentFailure(f"the WAD '{name}' named in '{cfg.name}' is missing", where, f"put it into {cfg.parent}")
