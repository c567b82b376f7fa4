"""Look up a game in stable-retro: its name, states, scenario, buttons and ROM. Starts no emulator."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rltrain.envs.retro.rules import Pad, make_pad
from rltrain.errors import ConfigError, EnvironmentFailure, nearest
from rltrain.system import plain_json

try:
    import stable_retro
    from stable_retro import data
except ImportError as import_error:
    what = f"stable-retro is missing: {import_error}"
    raise EnvironmentFailure(what, "env", "run `pip install 'rltrain[retro]'`") from import_error

if TYPE_CHECKING:
    from rltrain.config.environments import RetroConfig


class Game(NamedTuple):
    """What an emulator needs besides the configuration."""

    states: list[str]
    """The start states."""
    pad: Pad
    """The buttons that each action presses."""


def check(config: "RetroConfig") -> Game:
    """Check the configuration and return the game. Raises ConfigError, or EnvironmentFailure if the ROM is missing."""
    game = config.game
    if not data.get_file_path(game, "rom.sha"):
        hint = nearest(game, data.list_games())
        raise ConfigError(f"stable-retro has no game '{game}'", "env.game", hint)
    known = data.list_states(game)
    states = config.states or [config.state or _read(game, "metadata")["default_state"]]
    for state in states:
        if state not in known:
            where = "env.states" if config.states else "env.state"
            raise ConfigError(f"'{game}' has no state '{state}'", where, nearest(state, known))
    scenario = _scenario(config)
    variables = _read(game, "data")["info"]
    for key, variable in (("reward_variable", config.reward_variable), ("one_life", config.one_life and "lives")):
        if variable and variable not in variables:
            raise ConfigError(f"'{game}' has no variable '{variable}'", f"env.{key}", nearest(variable, variables))
    system = stable_retro.get_system_info(_read(game, "metadata").get("system") or game.rsplit("-", 2)[1])
    groups = scenario.get("actions") or system["actions"]
    pad = make_pad(system["buttons"], groups, config.actions, config.action_set)
    try:
        data.get_original_romfile_path(game)
    except FileNotFoundError as error:
        fix = "use `python -m stable_retro.import DIR` to install the ROM from your folder"
        raise EnvironmentFailure(f"the ROM of '{game}' is missing", "env.game", fix) from error
    return Game(states, pad)


def _scenario(config: "RetroConfig") -> dict[str, Any]:
    path = data.get_file_path(config.game, f"{config.scenario}.json")
    content = plain_json.loads(Path(path).read_text()) if path else {}
    if "reward" not in content and "done" not in content:
        folder = Path(data.get_file_path(config.game, "rom.sha")).parent
        others = {file.stem for file in folder.glob("*.json")} - {"data", "metadata"}
        raise ConfigError(
            f"'{config.game}' has no scenario '{config.scenario}'", "env.scenario", nearest(config.scenario, others)
        )
    return content


def _read(game: str, name: str) -> dict[str, Any]:
    return plain_json.loads(Path(data.get_file_path(game, f"{name}.json")).read_text())
