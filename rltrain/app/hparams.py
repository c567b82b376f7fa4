"""Choose the files of configs/hparams for an algorithm and an environment. Hydra calls this for config.yaml."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from rltrain import plugins
from rltrain.app.paths import CONFIGS
from rltrain.config.algorithms import ALGOS, base_name


def preset_of(algo: str) -> str:
    """Return the base algorithm of a preset, such as dqn for double_dqn, or "" if `algo` is not a preset."""
    base = base_name(algo) if algo in ALGOS else ""
    return base if base != algo else ""


def tuned_env(algo: str, env: str, folders: Iterable[Path] = ()) -> str:
    """Return the environment whose tuned settings `algo` uses for `env`: `env` itself or its `tuned_as`.

    `env` itself wins if there is a file for `algo` or for its base algorithm. `folders` are the user's own config
    folders, which are searched after rltrain's, as Hydra does.
    """
    folders = [CONFIGS, *folders]
    names = [f"{name}_{env}.yaml" for name in (algo, preset_of(algo)) if name]
    if any((folder / "hparams" / name).is_file() for folder in folders for name in names):
        return env
    return tuned_as(env, folders) or env


def tuned_as(env: str, folders: Iterable[Path] = (CONFIGS,)) -> str | None:
    """Return the key `tuned_as` of an environment, from its YAML file, the file's defaults, or a plugin.

    Returns None for a file that cannot be read: Hydra reads it too and reports the error.
    """
    folders = list(folders)
    path = next((path for folder in folders if (path := folder / "env" / f"{env}.yaml").is_file()), None)
    if path is None:
        option = plugins.OPTIONS.get(("env", env))
        return getattr(option.settings, "tuned_as", None) if option else None
    try:
        values: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(values, dict):
        return None
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
