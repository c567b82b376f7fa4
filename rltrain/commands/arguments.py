"""Parse the arguments of rltrain's own commands: words and key=value pairs."""

import dataclasses
import math
import os
import re
from collections.abc import Container, Iterable
from pathlib import Path

from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.config.validate import LARGEST
from rltrain.errors import ConfigError, nearest
from rltrain.run import checkpoint, own_code
from rltrain.run import folder as run_folder
from rltrain.system import notices, process

_PATHS = {"out", "run_dir", "env.cfg"}
"""The keys whose value is a path: a shell does not expand `~` after a `=`."""

MANY = 1_000_000
"""`max_words` without a limit."""


def split(
    argv: list[str], keys: set[str], usage: str, min_words: int = 1, max_words: int = 1
) -> tuple[list[str], dict[str, str]]:
    """Return the words and the values by key. Raises ConfigError for an unknown key or a wrong number of words."""
    for arg, after in zip(argv, [*argv[1:], "VALUE"][: len(argv)], strict=True):
        if dashed := re.fullmatch(r"--?([a-z][\w.-]*)(?:=(.*))?", arg):
            key = dashed[1].replace("-", "_")
            raise ConfigError(
                "settings take no dashes", arg, f"write {key}={after if dashed[2] is None else dashed[2]}"
            )
    words = [arg for arg in argv if not is_setting(arg, keys)]
    settings = [arg for arg in argv if is_setting(arg, keys)]
    note_repeated(settings)
    values = dict(arg.split("=", 1) for arg in settings)
    values |= {key: os.path.expanduser(values[key]) for key in _PATHS & values.keys()}
    if "out" in values:  # now: an environment may change the working directory
        values["out"] = str(process.absolute(values["out"]))
    for key in values:
        if key not in keys:
            raise ConfigError(f"unknown key '{key}'", key, nearest(key, keys))
    if not min_words <= len(words) <= max_words:
        command = usage.split()[1]
        runs = "a run" if max_words == 1 else "runs"
        most = "one word" if max_words == 1 else "no words"
        what = f"{command} needs {runs}" if len(words) < min_words else f"{command} takes {most}, but got {len(words)}"
        where = " ".join([f"rltrain {command}", *argv])
        raise ConfigError(what, where, f"usage: {usage}")
    return words, values


def note_repeated(settings: Iterable[str]) -> None:
    """Say on stderr which value counts if a command line gives a key with two values: the last one, as in Hydra.

    Mappings are merged, as in Hydra.
    Scripts that append their user's settings rely on it. For anybody else it is a slip.
    """
    given: dict[str, list[str]] = {}
    for setting in settings:
        key, equals, value = setting.lstrip("+~").partition("=")
        given.setdefault(key, []).extend([value] if equals else [])
    for key, values in given.items():
        if len(set(values)) > 1:
            counts = f"the last one counts: {key}={values[-1]}"
            if key != "env.shaping" and all(value.startswith("{") for value in values):  # see replace_whole_mappings
                counts = "all entries count, of each the last one"
            notices.warn(f"{key} is given more than once; {counts}")


def is_setting(arg: str, keys: Container[str]) -> bool:
    """Return True for `key=value`, False for a word. The path of a run may contain `=` too."""
    key, equals, _ = arg.partition("=")
    if not equals or key in keys:
        return bool(equals)
    return re.fullmatch(r"[+~]*[\w.@]*", key) is not None and not os.path.lexists(arg)


def whole_number(key: str, text: str, minimum: int = 1) -> int:
    """Parse an integer such as 5000, 1_000 or 1e6. Raises ConfigError."""
    try:
        value = float(text.replace("_", "")) if re.search(r"[eE]", text) else int(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is not a number", key, "give an integer, such as 1e6") from error
    if abs(value) == math.inf or value != int(value) or value < minimum:
        raise ConfigError(f"{text} is not allowed", key, f"give an integer of at least {minimum}")
    if value > LARGEST:
        raise ConfigError(f"{text} is out of range", key, f"give an integer of at most {LARGEST}")
    return int(value)


def truth(key: str, text: str) -> bool:
    """Parse true or false. Raises ConfigError."""
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"'{text}' is neither true nor false", key, f"give {key}=true or {key}=false")
    return text.lower() == "true"


RUN_KEYS = {"env.id", "env.cfg"}
"""The keys of every command that makes a run's environment. They name again what the folder alone must not choose."""


def load_config(folder: Path, path: Path, values: dict[str, str]) -> RunConfig:
    """Return a saved configuration of a run, with the keys of RUN_KEYS. Raises CheckpointError, ConfigError."""
    config = saved_config.load(path, values.get("env.cfg"))
    refuse_imports(config, values, folder)
    return config


def refuse_imports(config: RunConfig, values: dict[str, str], folder: Path) -> None:
    """Raise ConfigError if a saved `env.id` would import a module and the command line does not repeat the `env.id`.

    A run folder may come from somebody else, and importing a module runs its code.
    """
    saved = getattr(config.env, "id", "")
    if values.get("env.id", saved) != saved:
        raise ConfigError(f"the run's environment is '{saved}'", "env.id", f"give env.id={saved}, or leave it out")
    if plugin_modules.must_be_named_again(saved) and "env.id" not in values:
        what = f"the run's '{saved}' may import a module that its env.kwargs name"
        if ":" in saved:
            module = saved.partition(":")[0]
            what = f"the run's configuration would import the module '{module}'"
            name = module.split(".")[0]
            is_here = plugin_modules.can_find(name)
            place = plugin_modules.own_folder(name) if is_here else own_code.place_of(name, folder)
            if place is not None and place != os.path.realpath(os.curdir):
                what += f" from {place}"
        raise ConfigError(what, "env.id", f"if you trust it, add env.id={saved}")


def open_run(word: str, values: dict[str, str]) -> tuple[Path, RunConfig, Path]:
    """Return the folder, configuration and checkpoint of RUN, with the keys `checkpoint`, `device` and RUN_KEYS.

    Raises CheckpointError, ConfigError.
    """
    folder, which = run_folder.find_trained(word)
    config = load_config(folder, folder / "config.yaml", values)
    own_code.tell_other_cfg(getattr(config.env, "cfg", None), folder)
    if "device" in values:
        config = dataclasses.replace(config, device=values["device"])
    path = checkpoint.find(folder, values.get("checkpoint", which or "last"))
    checkpoint.check_of_run(path, saved_config.fingerprints(config, folder), config.seed)
    return folder, config, path
