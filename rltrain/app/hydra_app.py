"""The Hydra application that trains. Only this module, hydra_sweep and overrides know Hydra; others get dataclasses."""

import contextlib
import copy
import dataclasses
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from rltrain import plugins
from rltrain.app import composition, hydra_sweep
from rltrain.app.hparams import SAVED, UNTUNED, base_hparams, composed_env
from rltrain.app.overrides import (
    accept_whole_floats,
    normalise,
    options_first,
    quote,
    refuse_general,
    replace_whole_mappings,
    tell_what_stays,
)
from rltrain.app.paths import CONFIGS, config_folders, schema_name, yaml_names
from rltrain.app.resolve import EVERY_STEPS, resolve
from rltrain.config import plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.config.groups import settings_classes
from rltrain.config.network import NetworkConfig
from rltrain.config.run import SHORTHANDS, RunConfig
from rltrain.config.runtime import RUNTIMES, LocalConfig, RayLauncherConfig
from rltrain.config.saved import is_plain
from rltrain.errors import ConfigError, nearest
from rltrain.system import inside, notices, process

_ELSEWHERE = {
    "lr": "learning_rate",
    "total_timesteps": "total_steps",
    "n_timesteps": "total_steps",
    "n_envs": "num_envs",
    "n_steps": "num_steps",
    "n_epochs": "num_epochs",
    "update_epochs": "num_epochs",
    "minibatch_size": "batch_size",
    "ent_coef": "entropy_weight",
    "vf_coef": "value_weight",
    "clip_coef": "clip_range",
    "buffer_size": "replay_capacity",
    "train_freq": "train_every_steps",
    "target_update_interval": "target_period_updates",
    "eval_freq": "eval_every_steps",
    "n_eval_episodes": "eval_episodes",
    "hidden_size": "hidden_sizes",
    "net_arch": "hidden_sizes",
    "env_id": "id",
    "logdir": "run_dir",
    "log_dir": "run_dir",
}
"""Names that other libraries use, and what they are called here."""

_VALUES = 100_000
"""The most values of a YAML file of the user's. 27 lines of aliases can stand for 4**27."""

_UNEXPECTED = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
"""What Hydra and OmegaConf raise for values that they do not expect, beside errors of their own types."""

_failures: list[Exception] = []
_typed: list[str] = []
"""The command line as it was typed."""


def register_schemas(argv: Sequence[str] = ()) -> None:
    """Register every settings class in Hydra's store under the name that the YAML files use in their defaults.

    argv: the command line; its `--config-dir` may have tuned settings too.
    """
    folders = [folder.absolute() for folder in config_folders(argv)]
    for (group, name), option in plugins.OPTIONS.items():
        _check_registered(group, name, option.settings, folders)
    composition.register()
    composition.put_own_files_last()
    accept_whole_floats()
    replace_whole_mappings()
    OmegaConf.register_new_resolver("base_hparams", base_hparams, replace=True)
    OmegaConf.register_new_resolver("tuned_env", composed_env, replace=True)


def _check_registered(group: str, name: str, settings: Any, folders: Sequence[Path]) -> None:
    """Raise ConfigError for a choice of a plugin that a file shadows, or with values that no file can hold."""
    choice = f"{group}={name}"
    if any(os.path.isfile(folder / group / f"{name}.yaml") for folder in (CONFIGS, *folders)):
        raise ConfigError(f"{choice} already exists as a file", "plugins", "register it by another name")
    foreign = _foreign(getattr(settings, "kwargs", None), "kwargs") if group == "env" else None
    if foreign is None:
        try:
            foreign = _foreign(OmegaConf.to_container(OmegaConf.structured(settings)), "")
        except OmegaConfBaseException as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"the settings of {choice}: {reason}", f"plugins, {error.full_key}", _PLAIN) from error
    if foreign is not None:
        key, kind = foreign
        fix = _PLAIN + ("; gymnasium.register(..., kwargs=...) takes any object" if key.startswith("kwargs") else "")
        raise ConfigError(f"the settings of {choice} have a value of type {kind}", f"plugins, {key}", fix)


_PLAIN = "use texts, numbers, lists and mappings, which config.yaml can hold"


def _foreign(value: Any, key: str) -> tuple[str, str] | None:
    """Return key and type of the first value that config.yaml cannot hold as it is, such as a tuple; None without."""
    if type(value) in (dict, list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return next(filter(None, (_foreign(each, f"{key}.{name}".lstrip(".")) for name, each in items)), None)
    return None if type(value) in (type(None), bool, int, float, str) else (key, type(value).__name__)


def run(argv: list[str], typed: list[str] | None = None) -> int:
    """Compose and train; a sweep ends with the ranked table. Returns the exit code. Raises the error of the job.

    typed: the command line as it was typed, if `argv` has the settings of a file in their place.
    """
    plugin_modules.load(plugin_modules.given(argv))
    refuse_unknown_choices(argv, groups=["hparams"])  # hparams are optional: Hydra would ignore a misspelt name
    _refuse_schemas(argv)
    _refuse_no_names(argv)
    _refuse_tuned_as(argv)
    _refuse_two_sizes(argv)
    _refuse_sweeper_params(argv)
    _refuse_files(argv)
    register_schemas(argv)
    _failures.clear()
    _typed[:] = argv if typed is None else typed
    os.environ["HYDRA_FULL_ERROR"] = "1"  # without it Hydra prints its own report and exits with code 1
    hydra_sweep.install(normalise(_typed), settings)
    sys.argv = ["rltrain", *options_first(normalise(argv))]
    os.environ["RLTRAIN_SWEEP_TIME"] = f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")(_job)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _config_error(error, argv) from error
    except yaml.YAMLError as error:
        what = " ".join(f"a file of settings is no YAML: {error}".split())[:300]
        raise ConfigError(what, "--config-dir", "correct the file: indent with spaces, and close brackets") from error
    except _UNEXPECTED as error:
        if not _is_of_hydra(error):
            raise
        raise _config_error(error, argv) from error
    finally:
        sys.argv = ["rltrain", *_typed]
    if _failures:
        raise _failures[0]
    return max(hydra_sweep.exit_codes, default=0)


def _is_of_hydra(error: BaseException) -> bool:
    """Return True for an error that was raised in Hydra or OmegaConf, or in what they call of Python's own library."""
    names = [str(frame.f_globals.get("__name__")).split(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [name for name in names if name not in sys.stdlib_module_names][-1] in ("hydra", "omegaconf", "antlr4")


def _job(composed: DictConfig) -> None:
    """Train a single run. Its error is stored for `run`, because Hydra would print it."""
    sys.argv = ["rltrain", *_typed]  # what command.txt records
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ConfigError("rltrain has no other sweeper", "hydra/sweeper", "leave it out; use choice() and range()")
        config = settings(composed, sys.argv[1:])
        for key in ("skip_done", "fail_fast"):
            if getattr(config, key):
                raise ConfigError(f"{key} is for a sweep", key, "start a sweep with -m, or leave it out")
        from rltrain.app.train import train  # imports TensorBoard, so only after composing

        with composition.hydra_aside():
            train(resolve(config))
    except Exception as error:
        _failures.append(error)


def settings(composed: DictConfig, argv: list[str]) -> RunConfig:
    """Return the settings of a composed configuration, before `resolve`. Raises ConfigError."""
    try:
        values: Any = OmegaConf.to_object(composed)
    except (OmegaConfBaseException, RecursionError) as error:
        raise _config_error(error, argv) from error
    _refuse_additions(values, argv)
    config = cast(RunConfig, values)
    refuse_general(str(HydraConfig.get().runtime.choices.get("env")), config.env)
    own = {field.name: getattr(config.env, field.name) for field in dataclasses.fields(config.env)}
    if not is_plain(own):  # no command could read the run's own config.yaml
        what = "a name in a mapping is no text and no whole number, or a value is a block of settings"
        raise ConfigError(what, "env.kwargs", "use texts as names, or whole numbers for all")
    _refuse_unknown_tuned_settings(argv)
    _refuse_unknown_like(str(config.algo.like or ""), argv)
    # `reproduce` gives the files of the earlier run, whose settings win over those of the files that are composed here.
    typed = _typed_keys()
    config = dataclasses.replace(config, tuned_by=config.tuned_by if "tuned_by" in typed else _tuned_files())
    filled_in = _filled_in(composed, config)
    config = dataclasses.replace(config, chosen=[*config.chosen, *filled_in])
    for key in (*filled_in, *(key for key in EVERY_STEPS if getattr(config, key) is None)):
        group, _, name = key.rpartition(".")
        value = getattr(getattr(config, group), name) if group else config.total_steps
        _refuse_reference(composed, key, value, "it is null, and rltrain chooses one later", f"give {key} a value")
    given = [*(values.keys() for values in composition.last().own()), typed]
    config = dataclasses.replace(config, env=_renamed(_without_instead(config.env, given), typed))
    task: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)  # with `${...}` as text
    tell_what_stays(config.env, _typed, task, _of_its_file)
    for key in SHORTHANDS:  # else the run's key, in another file of the user's, would win over what is given later
        last = next((keys for keys in reversed(given) if keys & {key, f"algo.{key}"}), set())
        is_of_algo = f"algo.{key}" in last and key not in last
        if is_of_algo:
            config = dataclasses.replace(config, **{key: getattr(config.algo, key)})
        unset = getattr(config, key) is None
        open_, counts = (key, f"algo.{key}") if is_of_algo or unset else (f"algo.{key}", key)
        value = getattr(config.algo, key, None) if unset else getattr(config, key)
        _refuse_reference(composed, open_, value, f"{counts} has it", f"write ${{{counts}}}")
    if config.init_from is not None:  # now: each job of a sweep becomes the last run, and may stand in another folder
        config.init_from = str(_first_checkpoint(config.init_from))
    if cfg := getattr(config.env, "cfg", None):  # now: the plan of a sweep may be continued from another folder
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, cfg=str(process.absolute(cfg))))
    return config


def _refuse_reference(composed: DictConfig, key: str, value: Any, reason: str, fix: str) -> None:
    """Raise ConfigError if a setting was read from `key`, as by `${num_envs}`, before the value of `key` was known.

    OmegaConf has many notations for a reference, such as `${algo[num_envs]}` and `${oc.select:num_envs}`. So all
    settings are resolved again, beside the value that `key` will have. value: that one, or any other than null.
    """
    if "${" not in str(OmegaConf.to_container(composed)):
        return
    later = copy.deepcopy(composed)
    with flag_override(later, ["readonly", "struct"], [False, False]):
        OmegaConf.update(later, key, value, force_add=True)
    # Twice as it is: a resolver of the user's may draw random numbers.
    first, again = (_flat(OmegaConf.to_container(composed, resolve=True)) for _ in range(2))
    try:
        other = _flat(OmegaConf.to_container(later, resolve=True))
        readers = [name for name in first.keys() - {key} if first[name] == again[name] != other[name]]
    except (OmegaConfBaseException, KeyError):  # the reference leads elsewhere, or nowhere
        readers = ["a setting"]
    if readers:
        what = f"{min(readers)} refers to {key}, which is not the value of this run: {reason}"
        raise ConfigError(what, key, fix)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested values by their dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _typed_keys() -> set[str]:
    """Return the keys of the settings on the command line of this job, such as `env.id`."""
    return {word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task}


def _filled_in(composed: DictConfig, config: RunConfig) -> list[str]:
    """Return the keys that were null, and that their settings class has filled in from others, as of `env.protocol`."""
    groups: dict[str, Any] = {key: OmegaConf.to_container(composed[key]) for key in ("algo", "env", "network")}
    return [
        f"{group}.{key}"
        for group, values in groups.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value is None and getattr(getattr(config, group), key) is not None
    ]


def _without_instead(env: Any, given: Sequence[Set[str]]) -> Any:
    """Return the settings of an environment without a key that stands instead of one that was given.

    `env.action_set=combinations` wins over the `actions` of tuned settings, as anything that is typed. given: the keys
    that each file of the user's sets, and the typed ones; later ones win.
    """
    for key, others in getattr(env, "INSTEAD_OF", {}).items():
        names = {f"env.{name}" for name in (key, *others)}
        last = next((keys for keys in reversed(given) if keys & names), set())
        if getattr(env, key) is not None and last and f"env.{key}" not in last:
            word = next(other for other in others if f"env.{other}" in last)
            notices.tell(f"env.{word} is given, so env.{key}, which is not, is left out")
            env = dataclasses.replace(env, **{key: None})
    return env


def _of_its_file(key: str) -> Any:
    """Return the value of a key in the YAML file of the environment; None for an earlier run, which has none."""
    return None if HydraConfig.get().runtime.choices.get("env") == SAVED else composition.last().value(key)


def _renamed(env: Any, typed: Set[str]) -> Any:
    """Return the settings of an environment, named by its id, game or scenario if these are given after its name.

    env=cartpole env.id=Acrobot-v1 plays Acrobot: its runs must not stand among those of CartPole.
    """
    files = composition.last()
    place = files.place("env.name")
    if place is None or "env.name" in typed:
        return env
    named = files.until(place)
    for key in ("id", "game", "scenario", "cfg"):
        is_given = f"env.{key}" in typed or files.after(place).place(f"env.{key}") is not None
        if is_given and _in_full(key, named.value(f"env.{key}")) != _in_full(key, vars(env).get(key)):
            return dataclasses.replace(env, name=env.family)  # `resolve` makes a name of the family's
    return env


def _in_full(key: str, value: Any) -> Any:
    """Return the value of a key of an environment, a path of a .cfg file as an absolute one."""
    return os.path.abspath(os.path.expanduser(value)) if key == "cfg" and isinstance(value, str) else value


def _first_checkpoint(run: str) -> Path:
    """Return the checkpoint that `init_from` names. Raises CheckpointError."""
    from rltrain.run import checkpoint, folder

    place, which = folder.find_trained(run)
    return checkpoint.find(place, which or "last")


def _tuned_files() -> list[str]:
    """Return the files of tuned settings that Hydra has composed, rltrain's own relative to its folder of YAML."""
    files = composition.last()
    names = dict.fromkeys(files.name(each) for each in files.tuned())
    return [name for name in names if name != f"hparams/{UNTUNED}.yaml"]


def _refuse_unknown_tuned_settings(argv: list[str]) -> None:
    """Raise ConfigError for tuned settings that a file of the user's chooses and that do not exist.

    Hydra passes over them, because those of a pair may be missing.
    """
    choices = HydraConfig.get().runtime.choices
    algo = str(choices.get("algo"))
    of_the_pair = f"_{composed_env(algo, str(choices.get('env')))}"
    for chosen in (choices.get("hparams"), choices.get("hparams@_global_")):
        if not isinstance(chosen, str) or chosen.endswith(of_the_pair):
            continue
        if not composition.last().exists(f"hparams/{chosen}"):
            names = {name for folder in (CONFIGS, *config_folders(argv)) for name in yaml_names(folder / "hparams")}
            raise _unknown_choice("hparams", chosen, names)


def _refuse_unknown_like(like: str, argv: list[str]) -> None:
    """Raise ConfigError for an algorithm of the user's that is like no other one: it would be trained untuned."""
    tuned = {name for folder in (CONFIGS, *config_folders(argv)) for name in yaml_names(folder / "hparams")}
    if like and like not in ALGOS and not any(name.startswith(f"{like}_") for name in tuned):
        what = f"there are no tuned settings of '{like}', which an algorithm of yours is like"
        raise ConfigError(what, "algo.like", nearest(like, ALGOS))


def _refuse_no_names(argv: list[str]) -> None:
    """Raise ConfigError for a path in place of a choice, and for a choice that is taken away, such as `~algo`."""
    for group in ("algo", "env", "network", "runtime"):
        lists = f"`rltrain list {group}s` shows all" if group != "runtime" else "use runtime=local, torchrun or ray"
        for name in _chosen(argv, group):
            if re.search(r"^[/~]|(^|/)\.\.?(/|$)", name):
                fix = f"{lists}; for a folder of your own YAML files use --config-dir"
                raise ConfigError(f"'{name}' is a path and no name", group, fix)
        if typed := next((word for word in argv if re.match(rf"~{group}(=|$)", word)), None):
            raise ConfigError(f"'{typed}' would take away what every run needs", group, f"leave it out; {lists}")


def _refuse_schemas(argv: list[str]) -> None:
    """Raise ConfigError for a settings class as a choice, which Hydra has beside the files: it has nothing tuned."""
    for group in ("algo", "env", "network", "runtime"):
        if wrong := next((name for name in _chosen(argv, group) if name.endswith("_schema")), None):
            raise ConfigError(f"'{wrong}' is no choice", group, f"use {group}={wrong.removesuffix('_schema')}")


def _refuse_tuned_as(argv: list[str]) -> None:
    """Raise ConfigError for env.tuned_as and algo.like: Hydra chooses tuned settings before the typed ones."""
    for key, file in (("env.tuned_as", "the environment's"), ("algo.like", "your algorithm's")):
        if typed := next((arg for arg in argv if re.match(rf"[+~]*{re.escape(key)}(=|$)", arg)), None):
            what = f"'{typed}' cannot be set on the command line"
            raise ConfigError(what, key, f"set it in {file} YAML file, or choose with hparams=...")


def _refuse_two_sizes(argv: list[str]) -> None:
    """Raise ConfigError for `num_envs=2 algo.num_envs=4`: the run's key would win over the algorithm's in silence."""
    given = dict(arg.lstrip("+").split("=", 1) for arg in argv if "=" in arg)
    for key in SHORTHANDS:
        values = [given.get(name, "null") for name in (key, f"algo.{key}")]
        if "null" not in values and values[0] != values[1]:
            what = f"{key}={values[0]} and algo.{key}={values[1]} are two values of one setting"
            raise ConfigError(what, key, f"leave out one of them: {key}= is short for algo.{key}=")


def _refuse_sweeper_params(argv: list[str]) -> None:
    """Raise ConfigError for typed values of Hydra's sweeper, which only a file can give: Hydra merges none to null."""
    if typed := next((word for word in argv if re.match(r"[+~]*hydra\.sweeper\.params\b", word)), None):
        what = f"'{typed}' cannot be set on the command line"
        raise ConfigError(what, "hydra.sweeper.params", "give the values as settings: rltrain -m ... seed=0,1")


def _refuse_files(argv: list[str]) -> None:
    """Raise ConfigError for a file of the user's with aliases that multiply, or with the name of one of rltrain's.

    Hydra would read rltrain's own in its place.
    """
    for folder in config_folders(argv):
        for path in folder.rglob("*"):
            is_read = path.suffix == ".yaml"  # Hydra passes over the other endings
            # If it cannot be read, Hydra says so when it needs it.
            with contextlib.suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
                if is_read and path.is_file() and b"*" in path.read_bytes():
                    _refuse_many_values(path)
            # A config.yml beside the groups can be of something else than rltrain.
            if is_read or (path.suffix.lower() in (".yaml", ".yml") and path.parent != folder):
                _refuse_our_name(path, folder)


def _refuse_our_name(path: Path, folder: Path) -> None:
    """Raise ConfigError if the user's file has the name of one of rltrain's, in the same group, and another text."""
    ours = CONFIGS / path.relative_to(folder).with_suffix(".yaml")
    if ours.is_file() and not (path.is_file() and ours.read_bytes() == path.read_bytes()):
        what = f"rltrain has a {ours.relative_to(CONFIGS)} of its own, so yours would not be read"
        raise ConfigError(what, str(path), f"rename it: {path.stem}_mine.yaml, and choose it by that name")


def _refuse_additions(values: Any, argv: list[str]) -> None:
    """Raise ConfigError for an unknown key: Hydra accepts `+key=value` for any key, but nothing reads it."""
    for group in ("algo", "env", "network"):
        node = getattr(values, group)
        if not dataclasses.is_dataclass(node):
            name = [*_chosen(argv, group), "your file"][0]
            what = f"{group}={name} does not say which settings it has"
            file = _nearest_file(group, node or {})
            fix = f"add this line to its YAML file: defaults: [{file}, _self_]"
            fix += f", where NAME is the {group} that it changes" if file == "NAME" else ""
            raise ConfigError(what, group, fix)
    groups = ("algo", "env", "network", "runtime")
    for prefix, node in (("", values), *((f"{group}.", getattr(values, group)) for group in groups)):
        for key in vars(node).keys() - {field.name for field in dataclasses.fields(node)} - {"filled_in"}:
            raise ConfigError(f"unknown key '{prefix}{key}'", prefix + key, _nearest_key(prefix + key, argv))


def _nearest_file(group: str, values: dict[str, Any]) -> str:
    """Return the schema that has the most of the given keys; of several, the one that they name, else NAME."""
    schemas = settings_classes()[group]
    named = {str(values.get(key)) for key in ("name", "family", "like")}

    def fit(name: str) -> tuple[int, bool]:
        return len(values.keys() & {field.name for field in dataclasses.fields(schemas[name])}), name in named

    fits = sorted(map(fit, schemas), reverse=True)
    return "NAME" if fits[:1] == fits[1:2] else f"{max(schemas, key=fit)}_schema"


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
    if twice := re.search(r"Multiple values for (\w+)\.", text):
        fix = f"write `override /{twice[1]}: NAME` in the list of defaults of your file, with the word override"
        return ConfigError(f"{twice[1]} is chosen a second time", twice[1], fix)
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", f"{text}\n{cause}")
    if "is not in struct" in cause or "not in '" in cause:
        name = key[1] if key else ""
        if place := next((folder / name for folder in config_folders(argv) if name and (folder / name).is_dir()), None):
            what = f"a file in {place} has its settings below '{name}'"
            return ConfigError(what, name, "begin the file with the line: # @package _global_")
        return ConfigError(f"unknown key '{name}'", name, _nearest_key(name, argv))
    if several := re.search(r"Ambiguous value for argument '([^'=]+)", text):
        return ConfigError(f"{several[1]} has several values", several[1], "to start a sweep use: rltrain -m ...")
    if unread := re.search(r"Error parsing override '([^'=]+)'", text):
        return ConfigError(f"'{unread[1]}' has no value", "command line", "write settings as key=value")
    if isinstance(error, RecursionError):
        return ConfigError("a value is nested too deep", "command line", "use lists and mappings of fewer levels")
    if isinstance(error, OverrideParseException):
        unread_key, equals, value = error.override.partition("=")
        if not equals or not re.fullmatch(r"[+~]*[a-z][\w.@/:-]*", unread_key, re.ASCII | re.IGNORECASE):
            fix = "write settings as key=value, without spaces around ="
            return ConfigError(f"'{error.override}' is no setting", "command line", fix)
        fix = f"put it in two pairs of quotes: {shlex.quote(unread_key + '=' + quote(value))}"
        return ConfigError(f"Hydra cannot read the value '{value}'", unread_key, fix)
    reason = _reason(cause) or type(error).__name__
    if text.startswith("Unexpected type for root"):
        reason = "Hydra cannot set a key of a value that is null"
    elif isinstance(error, KeyError):
        reason = f"there is no {text}"
    fix = "see `rltrain --help` for the keys"
    if wrong := re.search(r"Value '([^']*)' of type '\w+' could not be converted to (Integer|Float)", reason):
        fix = "give an integer, such as 1000000 or 1e6" if wrong[2] == "Integer" else "give a number, such as 1e-3"
    for sign, kind, name in _KINDS:
        if key and sign in reason:
            reason, fix = f"{key[1]} {kind}", f"write {key[1]}={name}"
    return ConfigError(reason, key[1] if key else "command line", fix)


_KINDS = (
    ("is not a ListConfig, list or tuple", "is a list", "[A,B]"),
    ("to Dict[", "is a mapping", "{NAME: VALUE}"),
    ("is not a valid bool", "is true or false", "true"),
    ("is not Optional", "cannot be null", "VALUE"),
)
"""Parts of OmegaConf's errors for values of a wrong kind, what the key is in words, and how it is written."""


def _reason(text: str) -> str:
    """Return what an error of several lines says, without its headings and its notes on OmegaConf's types."""
    heading = re.compile(r"(In '.*': )?\w+ raised while composing config:$|Error (merging|in call) .*")
    note = re.compile(r"\s*(full_key|reference_type|object_type|set env HYDRA_FULL_ERROR)\b.*", re.IGNORECASE)
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not heading.fullmatch(line) and not note.fullmatch(line)]
    return " ".join(told or lines[:1])


def _known_keys(argv: list[str]) -> list[str]:
    """Return every key of a run and of the chosen groups, such as `algo.gamma`."""
    nodes = {"": RunConfig, **chosen_schemas(argv)}
    return [prefix + field.name for prefix, node in nodes.items() for field in dataclasses.fields(node)]


def _nearest_key(name: str, argv: list[str]) -> str:
    """Return a hint for an unknown key: what another library's name is called here, the same key of another group,
    which algorithms or environments have it, or the most similar keys."""
    if name.startswith("hydra.launcher."):
        of_ray = [f"hydra.launcher.{field.name}" for field in dataclasses.fields(RayLauncherConfig)]
        return "it needs hydra/launcher=rltrain_ray" if name in of_ray else nearest(name, of_ray)
    known = _known_keys(argv)
    last = name.rpartition(".")[2]
    meant = _ELSEWHERE.get(last, last)
    same = [key for key in known if key.rpartition(".")[2] == meant and key != name]
    if same:
        return f"did you mean {' or '.join(map(repr, same))}?"
    of = name.rpartition(".")[0]
    for group in ("algo", "env", "runtime"):
        classes = settings_classes()[group].items() if of in ("", group) else ()
        owners = [choice for choice, schema in classes if meant in {each.name for each in dataclasses.fields(schema)}]
        if owners:
            return "it is a key of " + ", ".join(f"{group}={choice}" for choice in owners)
    hint = nearest(name, known)
    own = [key for key in known if key.rpartition(".")[0] == of]
    return hint if hint.endswith("?") or not own else nearest(name, own)


def chosen_schemas(argv: list[str]) -> dict[str, Any]:
    """Return the settings classes that a command line chooses, by the prefix of their keys."""
    algo, env = [*_chosen(argv, "algo"), "dqn"][0], [*_chosen(argv, "env"), "cartpole"][0]
    if ("env", env) in plugins.OPTIONS:
        family = plugins.OPTIONS["env", env].settings.family
    else:
        family = schema_name("env", env, config_folders(argv))
    return {
        "network.": NetworkConfig,
        "runtime.": RUNTIMES.get([*_chosen(argv, "runtime"), "local"][0], LocalConfig),
        "algo.": ALGOS.get(schema_name("algo", algo, config_folders(argv)), ALGOS["dqn"]),
        "env.": config_class(family if family in ENVIRONMENTS else "gym"),
    }


def file_values(path: Path) -> dict[str, Any]:
    """Return the settings in a YAML file, with `${...}` as text. Raises ConfigError."""
    try:
        _refuse_many_values(path)
        values: Any = inside.plain_numbers(get_yaml_loader())(path.read_text()).get_single_data()
        values = OmegaConf.to_container(OmegaConf.create(values), resolve=False) if isinstance(values, dict) else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        what = "the file of settings cannot be read: " + " ".join(str(error).split())[:200]
        raise ConfigError(what, str(path), "give a YAML file with lines such as `total_steps: 1e6`") from error
    if not values:
        raise ConfigError("the file has no settings", str(path), "write lines such as `total_steps: 1e6`")
    return {str(key): value for key, value in values.items()}


def _refuse_many_values(path: Path) -> None:
    """Raise ConfigError for a YAML file whose aliases (`*name`) stand for more values than the memory holds.

    The parser keeps one object for all uses of an alias, but OmegaConf makes one for each. Raises OSError, ValueError,
    RecursionError and yaml.YAMLError for a file that cannot be read.
    """
    if os.path.getsize(path) > inside.YAML_BYTES:
        what = f"the file of settings has more than {inside.YAML_BYTES:,} bytes"
        raise ConfigError(what, str(path), "keep large values in a file of your own and give its path")
    counts: dict[int, float] = {}

    def count(node: Any) -> float:
        """Return the number of values in a node; infinity for one that holds itself."""
        if isinstance(node, tuple):  # a key and its value
            return sum(map(count, node))
        if id(node) not in counts:
            counts[id(node)] = math.inf
            counts[id(node)] = 1 + sum(map(count, node.value if isinstance(node, yaml.CollectionNode) else ()))
        return counts[id(node)]

    if count(yaml.compose(path.read_text(), yaml.SafeLoader)) > _VALUES:
        what = f"the aliases (*name) in the file of settings stand for more than {_VALUES:,} values"
        raise ConfigError(what, str(path), "write out what they stand for")


def composed(argv: list[str]) -> dict[str, Any]:
    """Return the nested values of a command line, with null unresolved; empty for a sweep or a wrong command line."""
    register_schemas(argv)
    settings = [arg for arg in normalise(argv) if re.match(r"[+~]*[A-Za-z][\w.@/]*=", arg)]
    folders = ",".join(f"file://{folder.absolute()}" for folder in config_folders(argv))
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            found = hydra.compose("config", [*settings, f"hydra.searchpath=[{folders}]"])
        values: Any = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError, ConfigError):
        return {}
    except _UNEXPECTED as error:
        if not _is_of_hydra(error):
            raise
        return {}
    return dict(values)


def refuse_unknown_choices(argv: list[str], groups: Iterable[str] = ("algo", "env", "hparams")) -> None:
    """Raise ConfigError if a command line chooses a name of neither rltrain, a plugin nor a folder of the user."""
    folders = [CONFIGS, *config_folders(argv)]
    for group in groups:
        names = {name for folder in folders for name in yaml_names(folder / group)}
        names |= {name for of, name in plugins.OPTIONS if of == group}
        for name in _chosen(argv, group):
            if name not in names and re.fullmatch(r"[\w./-]+", name):  # skip Hydra's choice(a,b) and glob(*)
                raise _unknown_choice(group, name, names)


def _chosen(argv: list[str], group: str) -> list[str]:
    """Return the names that a command line gives for a group; a sweep gives several. The last argument wins."""
    given = [arg.partition("=")[2] for arg in argv if re.match(rf"\+*{group}=", arg)]
    if not given:
        return []
    value = given[-1].strip("'\"")
    listed = re.fullmatch(r"\[(.*)\]|choice\((.*)\)", value)
    names = (listed[1] or listed[2] or "") if listed else value
    return [name.strip(" '\"") for name in names.split(",")]


def _unknown_choice(group: str, name: str, names: Iterable[str]) -> ConfigError:
    if group == "hydra/sweeper":
        fix = "leave it out: -m with several values, choice() and range() tries every combination"
        return ConfigError(f"rltrain comes without the sweeper '{name}'", group, fix)
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
