"""The Hydra application that trains. Only this module uses Hydra and OmegaConf; others get dataclasses."""

import dataclasses
import functools
import itertools
import os
import re
import sys
import typing
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rltrain import plugins
from rltrain.app import sweep
from rltrain.app.hparams import preset_of, tuned_env
from rltrain.app.paths import CONFIGS
from rltrain.app.resolve import resolve
from rltrain.config import plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RUNTIMES, LocalConfig
from rltrain.errors import ConfigError, Stopped, nearest
from rltrain.system import terminal

_failures: list[Exception] = []


def register_schemas(argv: Iterable[str] = ()) -> None:
    """Register every settings class in Hydra's store under the name that the YAML files use in their defaults.

    argv: the command line; its `--config-dir` may have tuned settings too.
    """
    _register_schemas(tuple(ALGOS.items()), tuple(ENVIRONMENTS))
    store = ConfigStore.instance()
    for (group, name), option in plugins.OPTIONS.items():
        store.store(group=group, name=name, node=option.settings)
    folders = [Path(folder).absolute() for folder in _config_dirs(argv)]
    OmegaConf.register_new_resolver("preset_of", preset_of, replace=True)
    # partial, so that a launcher's processes get the folders together with the resolver.
    OmegaConf.register_new_resolver("tuned_env", functools.partial(tuned_env, folders=folders), replace=True)


@functools.lru_cache(maxsize=1)  # a tenth of a second: once in a process, unless a plugin adds to them
def _register_schemas(algos: tuple[tuple[str, type], ...], families: tuple[str, ...]) -> None:
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    store.store(group="network", name="network_schema", node=NetworkConfig)
    for name, runtime in RUNTIMES.items():
        store.store(group="runtime", name=f"{name}_schema", node=runtime)
    for name, node in algos:
        store.store(group="algo", name=f"{name}_schema", node=node)
    for family in families:
        store.store(group="env", name=f"{family}_schema", node=config_class(family))


def run(argv: list[str]) -> int:
    """Compose and train; after a sweep, print the ranked table. Returns the exit code. Raises the error of the job."""
    plugin_modules.load(plugin_modules.given(argv))
    refuse_unknown_choices(argv, groups=["hparams"])  # hparams are optional: Hydra would ignore a misspelt name
    _refuse_tuned_as(argv)
    register_schemas(argv)
    _failures.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # without it Hydra prints its own report and exits with code 1
    sys.argv = ["rltrain", *normalise(argv)]
    os.environ.pop("RLTRAIN_SWEEP_DIR", None)
    sweeps = Path(next((arg[8:] for arg in reversed(argv) if arg.startswith("run_dir=")), "runs")) / "sweeps"
    # The folder is named here, not by Hydra, so that this process knows which sweep folder is its own.
    os.environ["RLTRAIN_SWEEP_TIME"] = f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    own = sweeps / os.environ["RLTRAIN_SWEEP_TIME"]
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(_job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if own.is_dir():
            sweep.remove_empty(own)
        raise _config_error(error, argv) from error
    if _failures:
        raise _failures[0]
    # A launcher's processes set the variable in their own environment only; their sweep folder is visible here.
    sweep_dir = os.environ.get("RLTRAIN_SWEEP_DIR") or (own if own.is_dir() else None)
    return sweep.report(Path(sweep_dir)) if sweep_dir else 0


def normalise(argv: list[str]) -> list[str]:
    """Rewrite arguments for Hydra: `1e6` as an integer, and `env=doom env.scenario=X` as `env=doom_X` if it exists.

    Keys of a mapping get the prefix `++`, because Hydra adds no new name to a mapping without it.
    """
    argv = [re.sub(r"(?<=[=,])\d[\d_]*(?:\.\d+)?[eE]\+?\d+(?=,|$)", _as_integer, arg) for arg in argv]
    mappings = "|".join(sorted(_mappings()))
    argv = [f"++{arg}" if re.match(rf"env\.({mappings})[.=]", arg) else arg for arg in argv]
    for general, key, prefix in (("env=doom", "env.scenario=", "doom_"), ("env=atari", "env.game=", "")):
        chosen = [arg.removeprefix(key) for arg in argv if arg.startswith(key)]
        if general in argv and chosen and (CONFIGS / "env" / f"{prefix}{chosen[-1]}.yaml").is_file():
            argv[argv.index(general)] = f"env={prefix}{chosen[-1]}"
    return argv


def _mappings() -> set[str]:
    """Return the environment settings that are mappings: `shaping`, `kwargs`."""
    schemas = [config_class(family) for family in ENVIRONMENTS]
    hints = [item for schema in schemas for item in typing.get_type_hints(schema).items()]
    return {name for name, hint in hints if typing.get_origin(hint) is dict}


def _as_integer(match: re.Match[str]) -> str:
    value = float(match[0].replace("_", ""))
    return str(int(value)) if value.is_integer() else match[0]


def _job(composed: DictConfig) -> None:
    """Train one job. Failures are stored for `run` or the sweep's table, not raised: Hydra would end the sweep."""
    terminal.guard()  # a sweep's job may run in its own process
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    folder = None
    if in_sweep:
        os.environ["RLTRAIN_SWEEP_DIR"] = str(Path(hydra_config.sweep.dir).absolute())
        folder = sweep.job_folder(
            Path(hydra_config.sweep.dir), int(hydra_config.job.num), list(hydra_config.overrides.task)
        )
    try:
        _train(composed, folder)
    except Stopped as error:
        if not in_sweep:
            _failures.append(error)
            return
        raise SystemExit(error.exit_code) from error  # only SystemExit ends Hydra's sweeper: no further job starts
    except Exception as error:
        if not in_sweep:
            _failures.append(error)
            return
        sweep.record_failure(folder, error)
        sweep.let_go(error)
    else:
        if in_sweep:
            sweep.let_go(None)


def _train(composed: DictConfig, folder: Path | None) -> None:
    plugin_modules.load(composed.plugins)  # a launcher's process has not parsed the command line
    try:
        values: Any = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise _config_error(error, sys.argv[1:]) from error
    _refuse_additions(values, argv=sys.argv[1:])
    config = resolve(values)
    if folder is not None and config.runtime.name != "local":
        raise ConfigError("a job of a sweep is one process", "runtime", "start these runs one after another without -m")
    from rltrain.app.train import train  # imports TensorBoard, so only after composing

    train(config, folder=folder)


def _refuse_tuned_as(argv: list[str]) -> None:
    """Raise ConfigError for env.tuned_as: Hydra chooses tuned settings before it applies the command line."""
    if typed := next((arg for arg in argv if re.match(r"[+~]*env\.tuned_as(=|$)", arg)), None):
        what = f"'{typed}' cannot be set on the command line"
        raise ConfigError(what, "env.tuned_as", "set it in the environment's YAML file, or choose with hparams=...")


def _refuse_additions(values: Any, argv: list[str]) -> None:
    """Raise ConfigError for an unknown key: Hydra accepts `+key=value` for any key, but nothing reads it."""
    groups = ("algo", "env", "network", "runtime")
    for prefix, node in (("", values), *((f"{group}.", getattr(values, group)) for group in groups)):
        for key in vars(node).keys() - {field.name for field in dataclasses.fields(node)}:
            raise ConfigError(f"unknown key '{prefix}{key}'", prefix + key, nearest(prefix + key, _known_keys(argv)))


def _config_error(error: Exception, argv: list[str]) -> ConfigError:
    """Turn an error of Hydra or OmegaConf, which has several lines, into a ConfigError of one line."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = error.missing_cfg_file
        group, _, option = missing.partition("/") if missing.startswith("env/") else missing.rpartition("/")
        options = [name for name in error.options or [] if not name.endswith("_schema")]
        if options:
            return _unknown_choice(group, option, options)
        return ConfigError(f"unknown {group or 'config'} '{option}'", group)
    cause = str(error.__cause__ or error) if isinstance(error, ConfigCompositionException) else text
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", f"{text}\n{cause}")
    if "is not in struct" in cause or "not in '" in cause:
        name = key[1] if key else ""
        return ConfigError(f"unknown key '{name}'", name, nearest(name, _known_keys(argv)))
    if several := re.search(r"Ambiguous value for argument '([^'=]+)", text):
        return ConfigError(f"{several[1]} has several values", several[1], "to start a sweep use: rltrain -m ...")
    if unread := re.search(r"Error parsing override '([^'=]+)'", text):
        return ConfigError(f"'{unread[1]}' has no value", "command line", "write settings as key=value")
    first_line = cause.strip().splitlines()[0] if cause.strip() else type(error).__name__
    return ConfigError(first_line, key[1] if key else "command line", "see `rltrain --help` for the keys")


def _known_keys(argv: list[str]) -> list[str]:
    """Return every key of a run and of the chosen groups, such as `algo.gamma`."""
    nodes = {"": RunConfig, **chosen_schemas(argv)}
    return [prefix + field.name for prefix, node in nodes.items() for field in dataclasses.fields(node)]


def chosen_schemas(argv: list[str]) -> dict[str, Any]:
    """Return the settings classes that a command line chooses, by the prefix of their keys."""
    algo, env = [*_chosen(argv, "algo"), "dqn"][0], [*_chosen(argv, "env"), "cartpole"][0]
    if ("env", env) in plugins.OPTIONS:
        family = plugins.OPTIONS["env", env].settings.family
    else:
        family = _schema_name(argv, "env", env)
    return {
        "network.": NetworkConfig,
        "runtime.": RUNTIMES.get([*_chosen(argv, "runtime"), "local"][0], LocalConfig),
        "algo.": ALGOS.get(_schema_name(argv, "algo", algo), ALGOS["dqn"]),
        "env.": config_class(family if family in ENVIRONMENTS else "gym"),
    }


def composed(argv: list[str]) -> dict[str, Any]:
    """Return the nested values of a command line, with null unresolved; empty for a sweep or a wrong command line."""
    register_schemas(argv)
    settings = [arg for arg in normalise(argv) if re.match(r"[+~]*[A-Za-z][\w.@/]*=", arg)]
    folders = ",".join(f"file://{Path(folder).absolute()}" for folder in _config_dirs(argv))
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            found = hydra.compose("config", [*settings, f"hydra.searchpath=[{folders}]"])
        values: Any = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return {}
    return dict(values)


def refuse_unknown_choices(argv: list[str], groups: Iterable[str] = ("algo", "env", "hparams")) -> None:
    """Raise ConfigError if a command line chooses a name that neither rltrain nor a plugin has.

    With a config folder of the user the check is skipped.
    """
    if _config_dirs(argv):
        return
    for group in groups:
        names = {path.stem for path in (CONFIGS / group).glob("*.yaml")}
        names |= {name for of, name in plugins.OPTIONS if of == group}
        for name in _chosen(argv, group):
            if name not in names and re.fullmatch(r"[\w.-]+", name):  # skip Hydra's choice(a,b) and glob(*)
                raise _unknown_choice(group, name, names)


def _chosen(argv: list[str], group: str) -> list[str]:
    """Return the names that a command line gives for a group; a sweep gives several. The last argument wins."""
    given = [arg.partition("=")[2] for arg in argv if arg.startswith(f"{group}=")]
    return given[-1].split(",") if given else []


def _unknown_choice(group: str, name: str, names: Iterable[str]) -> ConfigError:
    if group == "hydra/launcher":
        fix = "install it: pip install 'rltrain[sweep]'" if name == "joblib" else nearest(name, names)
        return ConfigError(f"unknown {group} '{name}'", group, fix)
    stem = re.sub(r"^ALE/|(NoFrameskip)?-v\d+$", "", name) if group == "env" else name  # the user gave a gymnasium id
    hint = nearest(stem, names)
    hint += f"{'' if hint.endswith('?') else ';'} `rltrain list {group.removesuffix('s')}s` shows all"
    if stem != name:
        atari = "ALE/" in name or "NoFrameskip" in name
        hint += "; for any Atari game use " if atari else "; for any gymnasium id use "
        hint += "env=atari env.game=NAME" if atari else f"env=gym env.id={name}"
    return ConfigError(f"unknown {group} '{name}'", group, hint)


def _schema_name(argv: list[str], group: str, name: str) -> str:
    """Return the settings class name of a YAML file, which is the first entry of its defaults (followed recursively).

    The file may be in the user's `--config-dir`. If there is no file, the name itself is a settings class or a plugin.
    """
    folders = [CONFIGS, *(Path(folder) for folder in _config_dirs(argv))]
    path = next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)
    first = re.search(r"^defaults:\s*(?:\[|-)\s*(\w+)", path.read_text(), re.MULTILINE) if path else None
    if first is None or first[1] == name:
        return name
    return first[1].removesuffix("_schema") if first[1].endswith("_schema") else _schema_name(argv, group, first[1])


def _config_dirs(argv: Iterable[str]) -> list[str]:
    """Return the user's config folders: `--config-dir DIR`, `-cd DIR` or `hydra.searchpath=[DIR,...]`."""
    argv = list(argv)
    after = itertools.pairwise(argv)
    given = [word for before, word in after if before in ("--config-dir", "-cd")]
    given += [arg.partition("=")[2] for arg in argv if arg.startswith("--config-dir=")]
    lists = [arg.partition("=")[2].strip("[]") for arg in argv if arg.startswith("hydra.searchpath=")]
    searched = [path.removeprefix("file://") for text in lists for path in text.split(",")]
    return given + [path for path in searched if path and "://" not in path]
