"""`rltrain reproduce RUN [key=value...]`, `rltrain config=FILE [key=value...]`: train with the settings of a file."""

import copy
import dataclasses
import itertools
import os
import re
import typing
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

from rltrain import plugins
from rltrain.app import composition, hydra_app
from rltrain.app.hparams import SAVED
from rltrain.app.overrides import without_plus, written, written_under
from rltrain.app.paths import CONFIGS, config_folders
from rltrain.app.resolve import EVERY_STEPS
from rltrain.commands.arguments import note_repeated, refuse_imports
from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.environments import folder_name
from rltrain.config.run import SHORTHANDS, RunConfig
from rltrain.config.runtime import refuse_places
from rltrain.errors import CheckpointError, ConfigError, printable
from rltrain.run import folder as run_folder
from rltrain.run import own_code
from rltrain.system import notices

USAGE = "rltrain reproduce RUN [key=value...] (a new run with the settings of RUN; what is typed wins)"

_GROUPS = ("algo", "env", "network", "runtime")
_OF_A_RUN = ("meta.json", "command.txt", "checkpoints", "status.json")
"""Names that lie beside the config.yaml of a run."""
_OWN = re.compile(r"config(\.resume-.*)?\.yaml")
"""The names of a run's own configurations."""
_OPEN = (("like", None), ("tuned_as", None))
"""What a copied block of a run's configuration has for keys that no command line can set."""
_NOT_TAKEN = ("plugins", "skip_done", "fail_fast")
"""Keys of a run's own configuration that say how it was started."""


def main(argv: list[str]) -> int:
    """Train a new run with the settings of an earlier one. Returns the exit code. Raises RltrainError."""
    # The path of a run may have a `=` in it.
    words = [word for word in argv if ("=" not in word or os.path.lexists(word)) and not _is_no_run(word)]
    if len(words) != 1:
        raise ConfigError("reproduce needs a run", " ".join(["rltrain reproduce", *argv]), f"usage: {USAGE}")
    folder, _ = run_folder.find(words[0])
    rest = [word for word in argv if word != words[0]]
    note_repeated(rest)
    path = folder / "config.yaml"
    _require_complete(path)
    _tell_of_extension(path, rest)
    return _train(path, True, rest, ["reproduce", *argv])


def _is_no_run(word: str) -> bool:
    """Return True for an option of Hydra, and for `~env.kwargs.size`, which takes an entry of a mapping away."""
    return re.match(r"-|~env\.\w+\.", word) is not None


def from_file(argv: list[str]) -> int:
    """Train with the settings of the file that `config=FILE` names. Returns the exit code. Raises RltrainError."""
    given = [arg for arg in argv if arg.startswith("config=")]
    if len(given) > 1:
        raise ConfigError("config= is given twice", "config", "give one file of settings")
    path = Path(given[0].removeprefix("config=").strip("'\"")).expanduser()
    is_run = os.path.isdir(path)  # unlike Path.is_dir, it takes any name
    place, name = (path, "config.yaml") if is_run else (path.parent, path.name)
    path = Path(os.path.realpath(place) if os.path.islink(place) else place) / name  # such as runs/latest
    is_run |= _lies_in_a_run(path)
    if not os.path.isfile(path):
        raise ConfigError(f"there is no file '{path}'", "config", "give a YAML file of settings: config=FILE")
    try:
        if is_run:
            _require_complete(path)
            _tell_of_extension(path, argv)
        is_complete = is_run or (_is_complete(path) and isinstance(saved_config.read(path).get("network"), dict))
    except CheckpointError:
        if is_run:
            raise
        is_complete = False  # a user's own file may be a link or have aliases; `file_values` tells what is wrong
    return _train(path, is_complete, [arg for arg in argv if arg != given[0]], argv)


def _require_complete(path: Path) -> None:
    """Raise CheckpointError unless a run's configuration is one that rltrain wrote.

    It may be somebody else's. Read as a file of the user's, it could name plugins, which would be imported.
    """
    if not _is_complete(path):
        what = "the run's configuration is not as rltrain wrote it: it lacks the family of the environment"
        raise CheckpointError(what, str(path), "use another run; copy what you trust to a file of your own")


def _lies_in_a_run(path: Path) -> bool:
    """Return True for a run's own config.yaml in its folder, or for what a resume has changed in it."""
    return _OWN.fullmatch(path.name) is not None and any(os.path.lexists(path.parent / name) for name in _OF_A_RUN)


def _is_complete(path: Path) -> bool:
    """Return True for a run's own configuration: it names the family of its environment. Raises CheckpointError.

    The file may be somebody else's, so this comes before `file_values`, which waits for a pipe and follows aliases.
    """
    values = saved_config.read(path)
    env = values.get("env")
    return isinstance(env, dict) and "family" in env and isinstance(values.get("algo"), dict)


def _train(path: Path, is_complete: bool, typed: list[str], command: list[str]) -> int:
    typed = without_plus(typed)
    if is_complete and (file := next((word for word in typed if _is_file(word, config_folders(typed))), None)):
        what = f"'{file}' is a file, and a run's own settings are complete, and win over files"
        fix = f"leave it out and type its settings; or start a run with it: rltrain algo=... env=... {file}"
        raise ConfigError(what, file.lstrip("+").partition("=")[0], fix)
    if is_complete:
        settings, typed = _of_a_run(path, typed)
        kept = _without_what_is_typed(settings, typed)
    else:
        kept = _without_what_is_typed(_of_the_user(hydra_app.file_values(path), path), typed)
    return hydra_app.run([*kept, *typed], command)


def _is_file(word: str, folders: Iterable[Path]) -> bool:
    """Return True for a word that adds tuned settings or a file for the whole run, such as `+exp=mine`."""
    group = word.lstrip("+").partition("=")[0].partition("@")[0]
    is_own = any(os.path.isdir(folder / group) for folder in folders)
    return "=" in word and (group == "hparams" or (group not in ("", *_GROUPS) and is_own))


def _tell_of_extension(path: Path, typed: list[str]) -> None:
    """Say that a run was trained on by `resume`: a new run stops where the earlier one was first meant to."""
    first, last = (saved_config.read(file).get("total_steps") for file in (path, saved_config.newest(path.parent)[0]))
    if first != last and not any(word.lstrip("+").startswith("total_steps=") for word in typed):
        what = f"the run was extended to total_steps={last} by `resume`, and this one trains total_steps={first}"
        notices.tell(f"{what}; a longer one from its start has another schedule")


def _of_a_run(path: Path, typed: list[str]) -> tuple[list[str], list[str]]:
    """Return the settings of a run's config.yaml as Hydra's overrides, and the typed words.

    The settings of the run's environment become those of the choice `saved`. If the command line names this
    environment, that word is left out.
    """
    plugin_modules.load(plugin_modules.given(typed))
    given = dict(word.lstrip("+").split("=", 1) for word in typed if "=" in word)
    config: RunConfig = saved_config.load(path, given.get("env.cfg"))
    refuse_imports(config, given, path.parent)
    own_code.tell_other_cfg(getattr(config.env, "cfg", None), path.parent)
    if _lies_in_a_run(path):
        saved_config.require_alike(path.parent)
    else:
        _tell_lacking(config, path)
    if foreign := next((text for text in _texts(dataclasses.asdict(config)) if "${" in text), None):
        what = f"the saved settings have the variable '{foreign}', which would read what is yours, such as passwords"
        raise CheckpointError(what, str(path), "replace it in the file by its value")
    _tell_other_name(config.env, given.keys())
    if "runtime" not in given:
        refuse_places(config.runtime, typed)
    own = f"env={config.env.name}"
    env = [word.replace("'", "").replace('"', "") for word in typed if word.startswith("env=")][-1:]
    if env == [own]:
        typed = [word for word in typed if not word.startswith("env=")]
    elif env:
        _tell_left_out(env[0], own)
    is_edited = saved_config.is_edited(path)
    again, still_chosen = _chosen_again(config, typed, bool(is_edited))
    if again and is_edited is None and not _lies_in_a_run(path):
        what = f"{path} has {', '.join(again)} under `chosen`, so these are chosen again"
        notices.tell(f"{what}; to keep their values, remove their names there")
    settings = copy.copy(config.env)  # no new one, which would fill in the open keys
    for key in again:
        if key.startswith("env."):
            setattr(settings, key.removeprefix("env."), None)
    plugins.OPTIONS["env", SAVED] = plugins.Option(settings, "the environment of an earlier run")
    found = [f"algo={config.algo.name}", f"env={SAVED}", f"network={config.network.name}"]
    found += [f"runtime={config.runtime.name}"]
    for group in ("algo", "network", "runtime"):
        for key, value in dataclasses.asdict(getattr(config, group)).items():
            if key not in ("name", "like"):
                found.append(f"{group}.{key}={'null' if f'{group}.{key}' in again else written(value)}")
    not_taken = [*_GROUPS, *_NOT_TAKEN, *again, "chosen"]
    if given.get("algo", config.algo.name) != config.algo.name:
        not_taken += SHORTHANDS  # they are the algorithm's own settings, under a second name
    if not _may_lie_in(Path(config.run_dir), path.parent):
        not_taken.append("run_dir")
        if "run_dir" not in given:
            what = f"the new run is not made in '{config.run_dir}', which only a file says"
            notices.warn(f"{what}; run_dir; to have it there, give run_dir=...")
    taken = (field.name for field in dataclasses.fields(config) if field.name not in not_taken)
    found += [f"{key}={written(getattr(config, key))}" for key in taken]
    return [*found, f"chosen={written(still_chosen)}"], typed


def _tell_other_name(env: Any, given: Set[str]) -> None:
    """Say that a file gives an environment the name of one of rltrain's that is another: somebody has edited it."""
    own = composition.of_an_environment(env.name, [CONFIGS])
    for key in ("id", "game", "scenario", "cfg"):
        plays, named = vars(env).get(key), own.value(f"env.{key}")
        if own.defaults and plays != named and not given & {"env", "env.name", f"env.{key}"}:
            name = folder_name(dataclasses.replace(env, name=env.family))
            what = f"the run plays {plays} and has the name of {env.name}, which is {named}"
            notices.warn(f"{what}; env.name; add env.name={name}")


def _tell_lacking(config: RunConfig, path: Path) -> None:
    """Say which settings a copy of a run's configuration lacks: somebody has shortened it."""
    values, whole = saved_config.read(path), dataclasses.asdict(config)
    keys = ((group, key) for group in ("algo", "env", "network") for key in whole[group])
    lacking = [f"{group}.{key}" for group, key in keys if key not in (*(values.get(group) or ()), *dict(_OPEN))]
    if lacking:
        others = f" and {len(lacking) - 1} other settings" if lacking[1:] else ""
        what = f"{path} is a run's whole configuration without {lacking[0]}{others}: plain defaults are used for these"
        notices.tell(f"{what}; for tuned ones remove the line `family` of env")


def _chosen_again(config: RunConfig, typed: list[str], is_edited: bool) -> tuple[list[str], list[str]]:
    """Return the keys that rltrain had chosen and chooses again, and those whose chosen values the new run has.

    A key follows what it was chosen from: `env.sticky_actions` any typed key of the environment, such as
    `env.protocol`, or one that was edited in the file.
    """
    given = {word.lstrip("+~").partition("=")[0]: word.partition("=")[2] for word in typed}
    other = [group for group in _GROUPS if given.get(group, getattr(config, group).name) != getattr(config, group).name]
    again, kept = [], []
    for key in config.chosen:
        group, _, name = key.rpartition(".")
        if key in given or group in other:
            continue
        settings = getattr(config, group) if group in _GROUPS else None
        may_be_null = type(None) in typing.get_args(typing.get_type_hints(type(settings)).get(name))
        is_open = may_be_null and (is_edited or any(word.startswith(f"{group}.") for word in given))
        if is_open or key in EVERY_STEPS or (key == "device" and "algo" in other):
            again.append(key)
        elif group or not {"algo", "env", "network", "device"} & given.keys():
            kept.append(key)
    return again, kept


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value of lists and mappings."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _may_lie_in(run_dir: Path, folder: Path) -> bool:
    """Return True if a saved `run_dir` is inside of the working directory, or is where the run in `folder` lies.

    The file may be somebody else's, and must not choose where a run is written.
    """
    place, run = (Path(os.path.realpath(path)) for path in (run_dir, folder))  # links may lead anywhere
    is_inside = not run_dir.is_absolute() and place.is_relative_to(os.path.realpath(os.curdir))
    return is_inside or place in run.parents[2:3]  # run_dir/ENV/ALGO/RUN or run_dir/sweeps/SWEEP/JOB


def _of_the_user(values: dict[str, Any], path: Path) -> list[str]:
    """Return the settings of a user's own file as Hydra's overrides: choices first, then `algo.key=value`."""
    if "defaults" in values:
        fix = "leave out `defaults`, and choose with algo: and env:; or use --config-dir"
        raise ConfigError("a file of settings has no list of defaults", str(path), fix)
    for key in values:
        if re.match(r"[+~]*hydra\b", key):
            what = "a file of settings has no settings of Hydra"
            raise ConfigError(what, str(path), f"leave `{key}` out, and give such settings on the command line")
        if not re.match(r"\+{0,2}[A-Za-z_]", key):  # Hydra would take it for an option
            raise ConfigError(f"'{printable(key)}' is no setting", str(path), "write lines such as `total_steps: 1e6`")
    given = sorted(_keys(values))
    for parts, after in itertools.pairwise(given):
        if after[: len(parts)] == parts:  # else the last one would count, in silence
            raise ConfigError(f"{'.'.join(parts)} is given twice", str(path), "leave out one of them")
    modules = values.get("plugins") or []
    if not isinstance(modules, list):
        raise ConfigError(f"plugins is no list in {path}", "plugins", "write plugins: [my_module]")
    plugin_modules.load(map(str, modules))
    choices, settings = [], []
    for key, value in values.items():
        if key in _GROUPS and isinstance(value, dict):
            value = dict(value)
            if "name" in value:
                choices.append(f"{key}={value.pop('name')}")
            value = {name: item for name, item in value.items() if (name, item) not in _OPEN}
            settings += [word for name, item in value.items() for word in written_under(f"{key}.{name}", item)]
        elif key == "chosen":
            continue  # of a run's configuration: what rltrain chose then is the user's now, as the file gives its value
        elif key in (*_GROUPS, "hparams"):
            choices.append(f"{key}={value}")
        else:
            settings += written_under(key, value)
    return choices + settings


def _keys(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the parts of every setting's key in a file, as often as it is given there: in a block, or dotted.

    A name in a mapping of the user's, such as env.kwargs, may have a dot itself.
    """
    for name, value in values.items():
        is_mine = len(above) > 1 or above[:1] == ("hydra",)
        key = (*above, *([str(name)] if is_mine else str(name).lstrip("+").split(".")))
        if isinstance(value, dict) and value:
            yield from _keys(value, key)
        else:
            yield (*key, "name") if key[1:] == () and key[0] in _GROUPS else key


def _tell_left_out(chosen: str, own: str) -> None:
    notices.tell(f"{chosen} is not the file's {own}, whose settings are left out")


def _without_what_is_typed(settings: list[str], typed: list[str]) -> list[str]:
    """Leave out what the command line sets, and the settings of a group for which it makes another choice."""
    # `~env.kwargs.size` takes an entry away, which must stand there.
    choices, other = ({word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words}
                      for words in (settings, typed))  # fmt: skip
    keys = set(other)
    for key in SHORTHANDS:  # one setting with two names: else the file's `num_envs` would win over `algo.num_envs`
        keys |= {key, f"algo.{key}"} if keys & {key, f"algo.{key}"} else set()
    left_out = [group for group in _GROUPS if group in choices and group in other and choices[group] != other[group]]
    chosen = tuple(f"{group}." for group in left_out)
    for group in left_out:
        if any(word.startswith(f"{group}.") for word in settings):
            _tell_left_out(f"{group}={other[group]}", f"{group}={choices[group]}")
    # What the file says of where its values come from is true only if they are taken. With another environment, the
    # settings of the algorithm are still the file's, and no tuned ones; with another algorithm they are its plain ones.
    if {"algo", "env"} <= {*left_out}:
        chosen += ("tuned_by=",)
    elif {"algo", "env"} & {*left_out}:
        settings = ["tuned_by=null" if word.startswith("tuned_by=") else word for word in settings]
    if "algo" in left_out and "env" not in left_out and choices.get("env") == SAVED:
        what = f"algo={other['algo']} takes no tuned settings beside those of an earlier run"
        notices.tell(f"{what}; for tuned ones start it with algo= and env= alone")
    # A typed mapping is merged with that of the file, as Hydra does with two typed ones.
    keys -= {key for key, value in choices.items() if value.startswith("{") and other.get(key, "").startswith("{")}
    return [word for word in settings if word.partition("=")[0] not in keys and not word.startswith(chosen or ("\0",))]
