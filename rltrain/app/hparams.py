"""Choose the files of configs/hparams for an algorithm and an environment. Hydra calls this for config.yaml."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from rltrain import plugins
from rltrain.app.paths import CONFIGS, yaml_names
from rltrain.config.algorithms import ALGOS, base_name
from rltrain.system import inside

SAVED = "saved"
"""The environment of an earlier run, for `reproduce`. Its settings are complete, so no tuned ones are taken."""


def preset_of(algo: str, folders: Iterable[Path] = ()) -> str:
    """Return the algorithm whose tuned settings `algo` takes before its own, or "" if there is none.

    That is dqn for the preset double_dqn, and the key `like` in the YAML file of an algorithm of the user's.
    """
    if algo in ALGOS:
        base = base_name(algo)
        return base if base != algo else ""
    like = _own("algo", algo, list(folders)).get("like", "")
    return base_name(like) if like in ALGOS else str(like)


def own_values(group: str, folders: Iterable[Path], hparams: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Return the settings in each file of a group of the user's config folders: `algo`, `env` or `network`.

    hparams: the chosen tuned settings. What those of the user's own set is left out, because they win over all.
    """
    folders = list(folders)
    without = {"like", "name", "tuned_as"}
    for file in hparams:
        tuned = _own("hparams", file, folders).get(group)
        without |= set(tuned) if isinstance(tuned, dict) else set()
    return {
        name: {key: value for key, value in _own(group, name, folders).items() if key not in without}
        for name in _files(group, folders)
    }


def own_choice(group: str, name: str, algo: str, env: str, folders: Iterable[Path] = ()) -> str:
    """Return `name` if it is a file of the user's whose values win over the tuned settings of the pair, else "_".

    They do not win over tuned settings of the user's own for the same choice, who wrote these for both together.
    """
    folders = list(folders)
    bases = (algo,) if group == "algo" else (algo, preset_of(algo, folders))
    tuned = [f"{base}_{tuned_env(algo, env, folders)}" for base in bases if base]
    is_theirs = any(os.path.isfile(folder / "hparams" / f"{file}.yaml") for folder in folders for file in tuned)
    return name if name in _files(group, folders) and not is_theirs else "_"


def _files(group: str, folders: Iterable[Path]) -> dict[str, Path]:
    """Return the files of a group in the user's config folders by their names."""
    return {name: path for folder in folders for name, path in yaml_names(folder / group).items()}


def _own(group: str, name: str, folders: list[Path], before: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """Return the values of one file and of the user's files that it is made from; the last one wins, as in Hydra.

    before: what leads to it.
    """
    files = _files(group, folders)
    values = mapping_in(files[name]) if name in files and (group, name) not in before else {}
    own: dict[str, Any] = {}
    for base in _bases(values):
        if base == "_self_":
            own |= {key: value for key, value in values.items() if key != "defaults"}
        elif mixed_in := _mixed_in(base, group):
            own |= _own(*mixed_in, folders, (*before, (group, name)))
    return own


def _mixed_in(base: Any, group: str) -> tuple[str, str] | None:
    """Return group and name of an entry of `defaults` whose values stand beside those of the file, else None.

    That is a file of the same group, such as `ppo`, or any other as `/lr/high@_here_` or `/lr@_here_: high`.
    """
    if isinstance(base, dict) and len(base) == 1:
        ((where, name),) = base.items()
        where, at, package = str(where).removeprefix("optional ").partition("@")
        place = f"{where}/{name}"
    else:
        place, at, package = str(base).removeprefix("optional ").partition("@")
    if package != "_here_" and (at or "/" in place):
        return None
    of, _, name = (place.removeprefix("/") if place.startswith("/") else f"{group}/{place}").rpartition("/")
    return of, name


@inside.plain_numbers
class _Loader(yaml.SafeLoader):
    """A SafeLoader that knows no dates, like Hydra's."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own form)
        first: [(tag, found) for tag, found in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def mapping_in(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file, or {} for one that cannot be read: Hydra reads it too and reports why."""
    try:
        values: Any = _Loader(path.read_text()).get_single_data()
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _bases(values: dict[str, Any]) -> list[Any]:
    """Return the list `defaults` of a file with the place of the file itself, which without a word comes first.

    A list that is none is left out: Hydra reports it where the file is chosen.
    """
    bases = values.get("defaults")
    bases = bases if isinstance(bases, list) else []
    return bases if "_self_" in bases else ["_self_", *bases]


def tuned_env(algo: str, env: str, folders: Iterable[Path] = ()) -> str:
    """Return the environment whose tuned settings `algo` uses for `env`: `env` itself or its `tuned_as`.

    `env` itself wins if there is a file for `algo` or for its base algorithm. `folders` are the user's own config
    folders, which are searched after rltrain's, as Hydra does.
    """
    names = [f"{name}_{env}.yaml" for name in (algo, preset_of(algo, folders)) if name]
    folders = [CONFIGS, *folders]
    if any(os.path.isfile(folder / "hparams" / name) for folder in folders for name in names):
        return env
    return tuned_as(env, folders) or env


def tuned_as(env: str, folders: Iterable[Path] = (CONFIGS,)) -> str | None:
    """Return the key `tuned_as` of an environment, from its YAML file, the file's defaults, or a plugin.

    Returns None for a file that cannot be read: Hydra reads it too and reports the error.
    """
    folders = list(folders)
    path = next((path for folder in folders if os.path.isfile(path := folder / "env" / f"{env}.yaml")), None)
    if path is None:
        option = plugins.OPTIONS.get(("env", env)) if env != SAVED else None
        return getattr(option.settings, "tuned_as", None) if option else None
    values = mapping_in(path)
    found = None
    for base in _bases(values):  # the last one wins
        if base == "_self_":
            found = values.get("tuned_as", found)
        elif isinstance(base, str) and base != env:
            found = tuned_as(base, folders) or found
    return None if found is None else str(found)
