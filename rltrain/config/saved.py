"""Write, read and compare a run's config.yaml.

The file is plain data and is checked against the settings classes. Reading it composes and imports nothing.
"""

import dataclasses
import hashlib
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from rltrain.config import plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RUNTIMES
from rltrain.config.validate import one_of
from rltrain.errors import CheckpointError, ConfigError, nearest
from rltrain.system import atomic


def fingerprint(config: RunConfig) -> str:
    """Return a hexadecimal hash of the algorithm, environment and network; a checkpoint fits only an equal hash."""
    return _fingerprint(dataclasses.asdict(config))


def fingerprints(config: RunConfig, folder: Path) -> set[str]:
    """Return the fingerprints that the checkpoints of a run may have.

    The second one is the hash of the saved file as it is: an older rltrain, which lacked some settings, wrote it.
    The default of a new setting must therefore mean what rltrain did before the setting existed.
    """
    return {fingerprint(config), _fingerprint(_read(folder / "config.yaml"))}


def _fingerprint(values: dict[str, Any]) -> str:
    # `tuned_as` does not change what a checkpoint holds, and older runs lack this key.
    env = values.get("env")
    if isinstance(env, dict):
        values = {**values, "env": {key: value for key, value in env.items() if key != "tuned_as"}}
    text = json.dumps({key: values.get(key) for key in ("algo", "env", "network")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration as plain YAML, whole or not at all."""
    atomic.write_text(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))


def load(path: Path) -> RunConfig:
    """Read a saved configuration and check it against the settings classes. Raises CheckpointError, ConfigError."""
    return from_dict(_read(path))


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"the run's config.yaml cannot be read: {error}", str(path), "use another run") from error


def from_dict(values: Any) -> RunConfig:
    """Build the settings from plain data. Raises ConfigError for an unknown name, an unknown key or a wrong type."""
    if not isinstance(values, dict):
        raise ConfigError("the configuration is not a mapping", "config.yaml", "use a run folder that rltrain wrote")
    values = dict(values)
    named = values.get("plugins") or []
    plugin_modules.require(named if _matches(named, list[str]) else [])
    algo, env = values.get("algo") or {}, values.get("env") or {}
    one_of("algo.name", str(algo.get("name")), ALGOS)
    one_of("env.family", str(env.get("family")), ENVIRONMENTS)
    values["algo"] = _build(ALGOS[algo["name"]], algo, "algo.")
    values["env"] = _build(config_class(env["family"]), env, "env.")
    values["network"] = _build(NetworkConfig, values.get("network") or {}, "network.")
    values["runtime"] = runtime(values.get("runtime") or {})
    return _build(RunConfig, values, "")


def runtime(values: dict[str, Any]) -> Any:
    """Build the settings of a runtime from plain data. Raises ConfigError."""
    name = str(values.get("name", "local"))
    one_of("runtime", name, RUNTIMES)
    return _build(RUNTIMES[name], values, "runtime.")


def _build(schema: Any, values: dict[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(schema)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError("unknown key", f"{prefix}{key}", nearest(str(key), hints))
        if not _matches(value, hints[key]):
            fix = f"give a value of type {inspect.formatannotation(hints[key])}"
            raise ConfigError(f"{value!r} has the wrong type", f"{prefix}{key}", fix)
    return schema(**values)


def _matches(value: Any, hint: Any) -> bool:
    """Return True if plain data fits a type annotation. An int fits float; a bool fits neither int nor float."""
    if hint is Any:
        return True
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_matches(value, option) for option in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin is list:
        return isinstance(value, list) and all(_matches(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:
        of_value = typing.get_args(hint)[1]
        return isinstance(value, dict) and all(_matches(item, of_value) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
