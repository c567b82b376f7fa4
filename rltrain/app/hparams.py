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
    like = _own(algo, _files("algo", folders)).get("like", "")
    return base_name(like) if like in ALGOS else str(like)


def own_values(group: str, folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the settings in each file of a group of the user's config folders: `algo`, `env` or `network`."""
    files = _files(group, folders)
    choosing = ("like", "name", "tuned_as")
    return {name: {key: value for key, value in _own(name, files).items() if key not in choosing} for name in files}


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


def _own(name: str, files: dict[str, Path], before: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values of one file over those of the user's files that it is made from. before: what leads to it."""
    values = mapping_in(files[name]) if name in files and name not in before else {}
    own: dict[str, Any] = {}
    for base in _bases(values):
        if isinstance(base, str) and base != "_self_":
            own |= _own(base, files, (*before, name))
    return own | {key: value for key, value in values.items() if key != "defaults"}


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
    """Return the list `defaults` of a file; empty if it is none, which Hydra reports where the file is chosen."""
    bases = values.get("defaults")
    return bases if isinstance(bases, list) else []


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
    bases = _bases(values)
    if "_self_" not in bases:
        bases = ["_self_", *bases]  # as Hydra does
    found = None
    for base in bases:  # the last one wins
        if base == "_self_":
            found = values.get("tuned_as", found)
        elif isinstance(base, str) and base != env:
            found = tuned_as(base, folders) or found
    return None if found is None else str(found)
