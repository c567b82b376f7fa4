"""Write, read and compare a run's config.yaml.

The file is plain data and is checked against the settings classes. Reading it composes and imports nothing.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import itertools
import re
import shlex
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from rltrain.config import plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.config.network import NetworkConfig
from rltrain.config.run import SHORTHANDS, RunConfig
from rltrain.config.runtime import RUNTIMES, RayLauncherConfig
from rltrain.config.validate import LARGEST, one_of
from rltrain.errors import CheckpointError, ConfigError, nearest
from rltrain.system import atomic, inside, plain_json

_RESUMED = re.compile(r"config\.resume-([1-9][0-9]*)\.yaml")
_NOTE = "# As rltrain wrote it: "
"""Begin of the first line of the files: a comment whose JSON tells what was edited since."""
_OF_RESUME = ("total_steps", "micro_batch_size", "oom", "runtime")
"""The keys that `resume` changes, and for which it writes another file."""
_MAY_DIFFER = {*_OF_RESUME, "progress", "chosen"}
"""The keys of the run that the files of a run need not have in common."""


def fingerprint(config: RunConfig) -> str:
    """Return a hexadecimal hash of the algorithm, environment and network; a checkpoint fits only an equal hash."""
    return _fingerprint(dataclasses.asdict(config))


def fingerprints(config: RunConfig, folder: Path) -> set[str]:
    """Return the fingerprints that the checkpoints of a run may have.

    The others are hashes of the saved file as it is: an older rltrain, which lacked some settings or hashed the whole
    path of `env.cfg`, wrote it. The default of a new setting must therefore mean what rltrain did before the setting
    existed. Raises CheckpointError as `require_alike`, and if one setting has two values.
    """
    found = {fingerprint(config)}
    require_alike(folder)
    for key in SHORTHANDS:
        run_wide, own = getattr(config, key), getattr(config.algo, key, None)
        if run_wide not in (None, own):
            what = f"{key}={run_wide} and algo.{key}={own} are two values of one setting"
            raise CheckpointError(what, str(newest(folder)[0]), "use the settings as rltrain wrote them")
    for path in {folder / "config.yaml", newest(folder)[0]}:  # `resume` may have named a copy of `env.cfg`
        values = read(path)
        found |= {_fingerprint(values), _hash(_without_new_keys(values))}
    return found


def require_alike(folder: Path) -> None:
    """Raise CheckpointError if a run that was extended has files of different settings: an edit would be lost."""
    files = _all(folder)
    newest_name = files[-1][1].name
    for (number, before), (following, after) in itertools.pairwise(files):
        values = read(before)
        if differs := _first_difference(values, read(after)):
            what = f"{before.name} and {after.name} differ in {differs}"
            raise CheckpointError(what, str(folder), "undo the edit, or write the same value into both")
        noted = _noted(after).get("after") if following == number + 1 else {}
        noted = noted if isinstance(noted, dict) else {}
        for key in _OF_RESUME:
            if key in noted and not same(noted[key], values.get(key)):
                what = f"{key} was edited in {before.name}, which is older than {newest_name}"
                raise CheckpointError(what, str(folder), f"undo the edit, and make it in {newest_name}")


def _first_difference(first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """Return the first setting that is not the same in two files of a run, and that `resume` cannot change.

    None without. A key of the run that only one of the two has is of another version.
    """
    one, other = (
        {f"{group}.{key}": value for group in ("algo", "env", "network") for key, value in values[group].items()}
        for values in (_without_new_keys(dataclasses.asdict(from_dict(values))) for values in (first, second))
    )
    for key in sorted(first.keys() & second.keys() - {"algo", "env", "network"} - _MAY_DIFFER):
        one[key], other[key] = first[key], second[key]
    keys = (key for key in {**one, **other} if key != "env.cfg")  # a copy of the file may lie in another folder
    return next((key for key in keys if not same(one.get(key), other.get(key))), None)


def same(one: Any, other: Any) -> bool:
    """Return True for equal plain values, also with NaN among them, which equals nothing."""
    return bool(one == other) or repr(one) == repr(other)


def _fingerprint(values: dict[str, Any]) -> str:
    values = _without_new_keys(values)
    env = values.get("env")
    if isinstance(env, dict) and isinstance(env.get("cfg"), str):  # a copy of the file may lie in another folder
        values = {**values, "env": {**env, "cfg": Path(env["cfg"]).name}}
    return _hash(values)


def _without_new_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys that do not change what a checkpoint holds, and that older runs lack."""
    for group, without in (("env", "tuned_as"), ("algo", "like")):
        if isinstance(values.get(group), dict):
            values = {**values, group: {key: value for key, value in values[group].items() if key != without}}
    return values


def _hash(values: dict[str, Any]) -> str:
    text = plain_json.dumps({key: values.get(key) for key in ("algo", "env", "network")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@inside.own_rules
class _Dumper(yaml.SafeDumper):
    """Writes a value twice instead of an alias, which no reader of a run folder accepts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def save(config: RunConfig, path: Path, after: dict[str, Any] | None = None) -> None:
    """Write the resolved configuration as plain YAML, atomically. Raises ConfigError, DiskError.

    after: what the file before this one has for the keys that `resume` changes.
    """
    values = dataclasses.asdict(config)
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    chosen = {key: _value(values, key) for key in config.chosen}
    note = {"sha256": _sha256(text), "chosen": chosen} | ({} if after is None else {"after": after})
    text = f"{_NOTE}{plain_json.dumps(note)}\n{text}"
    if len(text.encode()) > inside.YAML_BYTES:
        what = f"the configuration has more than {inside.YAML_BYTES:,} bytes"
        raise ConfigError(what, path.name, "keep large values in a file of your own and give its path")
    atomic.write_text(path, text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _value(values: dict[str, Any], key: str) -> Any:
    """Return the value of a key such as `device`, `env.noop_max`, or `network`, which stands for its name."""
    group, _, name = ("network.name" if key == "network" else key).rpartition(".")
    block = values.get(group) if group else values
    return block.get(name) if isinstance(block, dict) else None


def _noted(path: Path) -> dict[str, Any]:
    """Return what rltrain's comment in a file says; {} without it, as in older files. Raises CheckpointError."""
    return _split(path)[0]


def _split(path: Path) -> tuple[dict[str, Any], str]:
    """Return what rltrain's comment in a file says, and the other lines. Raises CheckpointError."""
    text = inside.read_text(path, inside.YAML_BYTES)
    if found := re.search(rf"^{_NOTE}(.*)\n", text, re.MULTILINE):
        with contextlib.suppress(ValueError, RecursionError):
            note = plain_json.loads(found[1])
            return (note if isinstance(note, dict) else {}), text[: found.start()] + text[found.end() :]
    return {}, text


def is_edited(path: Path) -> bool | None:
    """Return whether a saved configuration was edited since rltrain wrote it; None if it does not say it.

    Raises CheckpointError.
    """
    note, text = _split(path)
    return note["sha256"] != _sha256(text) if "sha256" in note else None


def note_changes(config: RunConfig, folder: Path) -> None:
    """Write `config.resume-N.yaml` if a run goes on with other settings than before. Raises as `save` and `newest`."""
    path, resumes = newest(folder)
    before, now = read(path), dataclasses.asdict(config)
    if any(before.get(key) != now[key] for key in _OF_RESUME):
        after = {key: before.get(key) for key in _OF_RESUME}
        save(config, folder / f"config.resume-{resumes + 1}.yaml", after)


def newest(folder: Path) -> tuple[Path, int]:
    """Return the newest configuration of a run, and the number of configurations that resumes have saved.

    This is config.yaml, or the `config.resume-N.yaml` with the largest N. Raises CheckpointError.
    """
    number, path = _all(folder)[-1]
    return path, number


def _all(folder: Path) -> list[tuple[int, Path]]:
    """Return all configurations of a run with their numbers, config.yaml as 0. Raises CheckpointError."""
    found = [(int(match[1]), path) for path in inside.entries(folder) if (match := _RESUMED.fullmatch(path.name))]
    return [(0, folder / "config.yaml"), *sorted(found)]


def load(path: Path, cfg: str | None = None) -> RunConfig:
    """Read a saved configuration and check it against the settings classes.

    cfg: the Doom .cfg file that the command line names. A saved one is not used otherwise, because the run folder may
    come from somebody else, and the engine reads more than numbers from such a file. Raises CheckpointError,
    ConfigError.
    """
    values = read(path)
    env: Any = values.get("env")
    saved = env.get("cfg") if isinstance(env, dict) else None
    if cfg is not None and saved is None:
        raise ConfigError("the run's environment has no .cfg file", "env.cfg", "leave it out")
    if cfg is None and saved is not None:
        refuse_cfg(str(saved))
    if cfg is not None:
        values["env"] = {**env, "cfg": str(Path(cfg).expanduser().absolute())}
    return from_dict(values)


def refuse_cfg(saved: str, or_copy: str = ", or a copy of it") -> NoReturn:
    """Raise ConfigError for a saved Doom .cfg file that the command line does not name."""
    what = f"the run's environment is made by the file '{saved}', which only the command line can name"
    raise ConfigError(what, "env.cfg", f"if you trust it, add env.cfg={shlex.quote(saved)}{or_copy}")


def read(path: Path) -> dict[str, Any]:
    """Return a saved configuration as nested data, without checks of its keys. Raises CheckpointError.

    A key whose value was edited since rltrain wrote the file does not stand in `chosen`: the value is the user's.
    """
    try:
        values = inside.read_yaml(path)
    except FileNotFoundError as error:
        raise CheckpointError("the run has no configuration", str(path), "use another run") from error
    if not isinstance(values, dict):
        raise CheckpointError("the run's configuration is not a mapping", str(path), "use another run")
    chosen = values.get("chosen")
    if isinstance(chosen, list) and chosen and isinstance(noted := _noted(path).get("chosen"), dict):
        edited = {key for key, value in noted.items() if not same(value, _value(values, key))}
        values["chosen"] = [key for key in chosen if not (isinstance(key, str) and key in edited)]
    return values


def from_dict(values: Any) -> RunConfig:
    """Build the settings from plain data. Raises ConfigError for an unknown name, an unknown key or a wrong type."""
    if not isinstance(values, dict):
        raise ConfigError("the configuration is not a mapping", "config.yaml", "use a run folder that rltrain wrote")
    values = dict(values)
    named = values.get("plugins") or []
    plugin_modules.require(named if _matches(named, list[str]) else [])
    for group in ("algo", "env", "network", "runtime"):
        if not isinstance(values.get(group) or {}, dict):
            raise ConfigError(f"{group} is not a mapping", group, "use a run folder that rltrain wrote")
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


def ray_launcher(values: dict[str, Any]) -> RayLauncherConfig:
    """Build the settings of `hydra/launcher=rltrain_ray` from plain data. Raises ConfigError."""
    return cast(RayLauncherConfig, _build(RayLauncherConfig, values, "hydra.launcher."))


def _build(schema: Any, values: dict[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(schema)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError("unknown key", f"{prefix}{key}", nearest(str(key), hints))
        if not _matches(value, hints[key]):
            if type(value) is int and abs(value) > LARGEST:
                raise ConfigError(f"{value} is out of range", f"{prefix}{key}", f"give a value of at most {LARGEST}")
            fix = f"give a value of type {inspect.formatannotation(hints[key])}"
            raise ConfigError(f"{value!r} has the wrong type", f"{prefix}{key}", fix)
    for field in dataclasses.fields(schema):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ConfigError("the key is missing", f"{prefix}{field.name}", "use a run folder that rltrain wrote")
    return schema(**values)


def _matches(value: Any, hint: Any) -> bool:
    """Return True if plain data fits a type annotation. An int fits float; a bool fits neither int nor float."""
    if hint is Any:  # a free value of the user's, or a part that is built already
        return dataclasses.is_dataclass(value) or is_plain(value)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_matches(value, option) for option in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin is list:
        return isinstance(value, list) and all(_matches(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:
        of_value = typing.get_args(hint)[1]
        named = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        return named and all(_matches(item, of_value) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    return isinstance(value, hint)


def is_plain(value: Any, names: Collection[type] = (str, int)) -> bool:
    """Return True for a value of JSON, or of YAML with whole numbers as names of a mapping, if all are numbers.

    YAML also knows dates, bytes and sets, which no setting takes. names: the types that names may have.
    """
    if isinstance(value, dict):
        kinds = {type(key) for key in value}
        return len(kinds) <= 1 and kinds <= {*names} and all(is_plain(item, names) for item in value.values())
    if isinstance(value, list):
        return all(is_plain(item, names) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
