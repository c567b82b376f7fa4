"""Choose the files of configs/hparams for an algorithm and an environment. Hydra calls this for config.yaml."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from rltrain import plugins
from rltrain.app.paths import CONFIGS, yaml_names
from rltrain.config.algorithms import ALGOS, base_name
from rltrain.system import inside


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


def own_values(group: str, folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the own settings of each file in a group of the user's config folders, `env` or `network`."""
    files = {name: path for folder in folders for name, path in yaml_names(folder / group).items()}
    found = {name: _own(name, files, ())[1] for name in files}
    return {name: {key: value for key, value in own.items() if key != "tuned_as"} for name, own in found.items()}


def own_env(algo: str, env: str, folders: Iterable[Path] = ()) -> str:
    """Return `env` if it is a file of the user's whose values win over the tuned settings of `algo`, else "_".

    They do not win over tuned settings of the user's own, who wrote these for both together.
    """
    return _winning("env", env, algo, env, folders)


def own_network(algo: str, env: str, network: str, folders: Iterable[Path] = ()) -> str:
    """Return `network` if it is a file of the user's whose values win over the tuned settings of the pair, else "_"."""
    return _winning("network", network, algo, env, folders)


def _winning(group: str, name: str, algo: str, env: str, folders: Iterable[Path]) -> str:
    folders = list(folders)
    tuned = tuned_env(algo, env, folders)
    names = [f"hparams/{base}_{tuned}.yaml" for base in (algo, preset_of(algo, folders)) if base]
    is_theirs = any(os.path.isfile(folder / tuned) for folder in folders for tuned in names)
    is_own = any(os.path.isfile(folder / group / f"{name}.yaml") for folder in folders)
    return name if is_own and not is_theirs else "_"


def _own(name: str, files: dict[str, Path], before: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Return `like` and the own settings of one file; before: the files that lead to it."""
    values = _mapping(files[name]) if name in files and name not in before else {}
    like, own = "", dict[str, Any]()
    for base in _bases(values):
        if isinstance(base, str) and base != "_self_":
            base_like, base_own = _own(base, files, (*before, name))
            like, own = base_like or like, own | base_own
    own |= {key: value for key, value in values.items() if key not in ("defaults", "like", "name")}
    return str(values.get("like") or like), own


@inside.plain_numbers
class _Loader(yaml.SafeLoader):
    """A SafeLoader that knows no dates, like Hydra's."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, found) for tag, found in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _mapping(path: Path) -> dict[str, Any]:
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
        option = plugins.OPTIONS.get(("env", env))
        return getattr(option.settings, "tuned_as", None) if option else None
    values = _mapping(path)
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
