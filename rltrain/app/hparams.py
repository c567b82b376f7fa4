"""Choose the files of configs/hparams for an algorithm and an environment. Hydra calls this for config.yaml."""

from collections.abc import Iterable
from pathlib import Path

from rltrain.app import composition
from rltrain.app.composition import Files, of_an_environment
from rltrain.app.paths import CONFIGS
from rltrain.config.algorithms import ALGOS, base_name

SAVED = "saved"
"""The environment of an earlier run, for `reproduce`. Its settings are complete, so no tuned ones are taken."""

UNTUNED = "none"
"""Tuned settings that set nothing."""


def preset_of(algo: str) -> str:
    """Return the algorithm whose tuned settings `algo` takes before its own, or "" if there is none.

    That is dqn for the preset double_dqn, and the key `like` in the YAML file of an algorithm of the user's.
    """
    if algo in ALGOS:
        base = base_name(algo)
        return base if base != algo else ""
    like = str(composition.last().value("algo.like") or "")
    return base_name(like) if like in ALGOS else like


def tuned_env(algo: str, env: str, files: Files | None = None) -> str:
    """Return the environment whose tuned settings `algo` uses for `env`: `env` itself or its `tuned_as`.

    `env` itself wins if there is a file for `algo` or for its base algorithm. files: where `tuned_as` stands, rltrain's
    own without.
    """
    files = files or of_an_environment(env, [CONFIGS])
    if env == SAVED or any(files.exists(f"hparams/{name}_{env}") for name in (algo, preset_of(algo)) if name):
        return env
    return str(files.value("env.tuned_as") or env)


def base_hparams(algo: str, env: str) -> str:
    """Return the tuned settings that a preset takes before its own, such as dqn_cartpole for double_dqn.

    What the user chose with `hparams` stands in place of both.
    """
    composed = composed_env(algo, env)
    tuned = [each for each in composition.last().tuned() if each.override_key != "hparams@_global_"]
    is_chosen = any(each.config_path != f"hparams/{algo}_{composed}" for each in tuned)
    return UNTUNED if is_chosen else f"{preset_of(algo)}_{composed}"


def composed_env(algo: str, env: str) -> str:
    """Return `tuned_env` of the files that Hydra composes now."""
    return tuned_env(algo, env, composition.last())


def tuned_as(env: str, folders: Iterable[Path] = (CONFIGS,)) -> str | None:
    """Return the key `tuned_as` of an environment, from its YAML file, the file's defaults, or a plugin.

    folders: where YAML files lie. Returns None for a file that cannot be read.
    """
    found = of_an_environment(env, folders).value("env.tuned_as")
    return None if found is None else str(found)
