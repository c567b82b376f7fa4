"""Choose the files of configs/hparams for an algorithm and an environment. Hydra calls this for config.yaml."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from rltrain import plugins
from rltrain.app.paths import CONFIGS, yaml_names
from rltrain.config.algorithms import ALGOS, base_name


def preset_of(algo: str, folders: Iterable[Path] = ()) -> str:
    """Return the algorithm whose tuned settings `algo` takes before its own, or "" if there is none.

    That is dqn for the preset double_dqn, and the key `like` in the YAML file of an algorithm of the user's.
    """
    if algo in ALGOS:
        base = base_name(algo)
        return base if base != algo else ""
    like = own_algorithms(folders).get(algo, ("", {}))[0]
    return base_name(like) if like in ALGOS else like


def own_algorithms(folders: Iterable[Path]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return `like` and the own settings of each algorithm in the user's config folders that has the key `like`.

    An algorithm that is made from another one of the user's takes that one's key and settings, unless it has its own.
    """
    files = {name: path for folder in folders for name, path in yaml_names(folder / "algo").items()}
    return {name: found for name in files if (found := _own(name, files, ())) and found[0]}


def _own(name: str, files: dict[str, Path], before: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return `like` and the own settings of one algorithm; before: the files that lead to it."""
    values = _mapping(files[name]) if name in files and name not in before else {}
    like, own = "", dict[str, Any]()
    for base in values.get("defaults") or []:
        if isinstance(base, str) and base != "_self_":
            base_like, base_own = _own(base, files, (*before, name))
            like, own = base_like or like, own | base_own
    own |= {key: value for key, value in values.items() if key not in ("defaults", "like", "name")}
    return str(values.get("like") or like), own


def _mapping(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file, or {} for one that cannot be read: Hydra reads it too and reports why."""
    try:
        values: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


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
        option = plugins.OPTIONS.get(("env", env))
        return getattr(option.settings, "tuned_as", None) if option else None
    values = _mapping(path)
    bases = values.get("defaults") or []
    if "_self_" not in bases:
        bases = ["_self_", *bases]  # as Hydra does
    found = None
    for base in bases:  # the last one wins
        if base == "_self_":
            found = values.get("tuned_as", found)
        elif isinstance(base, str) and base != env:
            found = tuned_as(base, folders) or found
    return None if found is None else str(found)
