"""Which files of configs/hparams a pair of algorithm and environment takes; config.yaml asks while Hydra composes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from rltrain import plugins
from rltrain.app.paths import CONFIGS
from rltrain.config.algorithms import ALGOS, base_name


def preset_of(algo: str) -> str:
    """Return the algorithm of which `algo` is a preset, or "" where it is none."""
    base = base_name(algo) if algo in ALGOS else ""
    return base if base != algo else ""


def tuned_env(algo: str, env: str, folders: Iterable[Path] = ()) -> str:
    """Return the environment whose tuned settings `algo` takes for `env`: `env` itself, or what its `tuned_as` names.

    `env` itself wins where a file is there for the algorithm or for the one of which it is a preset. `folders` are the
    user's own, searched after ours as Hydra does.
    """
    folders = [CONFIGS, *folders]
    names = [f"{name}_{env}.yaml" for name in (algo, preset_of(algo)) if name]
    if any((folder / "hparams" / name).is_file() for folder in folders for name in names):
        return env
    return tuned_as(env, folders) or env


def tuned_as(env: str, folders: Iterable[Path] = (CONFIGS,)) -> str | None:
    """Return the key `tuned_as` of an environment: of its YAML file, of a file it is based on, or of a plugin.

    A file that cannot be read gives None: Hydra, which reads it too, reports the error.
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
        bases = ["_self_", *bases]  # what Hydra does
    found = None
    for base in bases:  # the last one wins
        if base == "_self_":
            found = values.get("tuned_as", found)
        elif isinstance(base, str) and base != env:
            found = tuned_as(base, folders) or found
    return None if found is None else str(found)
