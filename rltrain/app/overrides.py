"""The command line in Hydra's own words: options first, quotes where Hydra needs them or would read a number."""

import functools
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, IntegerNode, OmegaConf

from rltrain.app.paths import CONFIGS, FOLDER_OPTIONS, yaml_names
from rltrain.config.groups import settings_classes
from rltrain.errors import ConfigError
from rltrain.system import notices

_WITH_VALUE = (*FOLDER_OPTIONS, "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c")
"""Options of Hydra whose value is the next word."""

_OWN_FILES = {"doom": ("scenario", "doom_"), "atari": ("game", "")}
"""What names a game in `env=doom` and `env=atari`, and what stands before it in the name of the game's own file."""

_SETTING = re.compile(r"([+~]*[A-Za-z_][\w.@/:-]*)=(.*)", re.DOTALL)


def normalise(argv: list[str]) -> list[str]:
    """Rewrite settings for Hydra.

    `+algo=dqn` becomes `algo=dqn`. `env=doom env.scenario=X` becomes `env=doom_X` if it exists. `~` of a config folder
    becomes the home. A value that Hydra cannot read gets quotes if it is one plain text, such as a path with `=`, `&`,
    `(` or an accent. So does that of a setting which is a text if Hydra would read a number, such as `name=2026_11`.
    Keys of a mapping get the prefix `++`, because Hydra adds no new name to a mapping without it.
    """
    argv = [_kept_as_text(arg) for arg in without_plus(argv)]
    argv = [_at_home(arg, before) for before, arg in zip(["", *argv], argv, strict=False)]
    argv = [_quoted_if_needed(arg) for arg in argv]
    mappings = "|".join(sorted(_mappings()))
    argv = [f"++{arg}" if re.match(rf"env\.({mappings})[.=]", arg) else arg for arg in argv]
    for family, (name_key, prefix) in _OWN_FILES.items():
        general, key = f"env={family}", f"env.{name_key}="
        chosen = [arg.removeprefix(key).strip("'\"") for arg in argv if arg.startswith(key)]
        names = [f"{prefix}{name}" for name in re.findall(r"\w+", chosen[-1])] if general in argv and chosen else []
        named = [name for name in names if os.path.isfile(CONFIGS / "env" / f"{name}.yaml")]
        if named and chosen[-1].isidentifier():
            argv[argv.index(general)] = f"env={named[0]}"
        elif named:  # several: each has a file and tuned settings of its own, which this would not take
            what = f"{key}{chosen[-1]} would leave out the settings of env={named[0]}"
            raise ConfigError(what, key.rstrip("="), f"vary the environment: env={','.join(names)}")
    return argv


def without_plus(argv: Iterable[str]) -> list[str]:
    """Rewrite `+algo=dqn` as `algo=dqn`, `hparams@_global_=` as `hparams=`, and `hparams=[]` as `hparams=none`.

    Every run has a choice of each group, which Hydra would take a second time. Without one of hparams, a preset would
    keep the tuned settings of its base.
    """
    argv = [re.sub(r"^(~hparams(=.*)?|\+*hparams=\[\s*\])$", "hparams=none", arg) for arg in argv]
    argv = [re.sub(r"^(\+*)hparams@_global_=", r"\1hparams=", arg) for arg in argv]
    return [re.sub(r"^\+*(?=(algo|env|network|runtime|hparams)=)", "", arg) for arg in argv]


def refuse_general(choice: str, env: Any) -> None:
    """Raise ConfigError for `env=doom` with a scenario that has a file, wherever that was set: it has other settings.

    `normalise` has changed what was typed. This is for a scenario in a file of the user's, and for other ways of typing
    it. choice: the environment that Hydra has composed. env: its settings.
    """
    key, prefix = _OWN_FILES.get(choice, ("", ""))
    name = f"{prefix}{getattr(env, key)}" if key else ""
    if name not in ("", "doom_basic") and name in yaml_names(CONFIGS / "env"):  # env=doom is the basic scenario
        what = f"env={choice} with env.{key}={getattr(env, key)} would leave out the settings of env={name}"
        raise ConfigError(what, f"env.{key}", f"use env={name}; in a file of yours `override /env: {name}`")


def options_first(argv: list[str]) -> list[str]:
    """Move Hydra's options before the settings, because its parser reads no setting after a later option."""
    options, settings = [], []
    words = iter(argv)
    for word in words:
        if word.startswith("-") and not _SETTING.fullmatch(word):
            options.append(word)
            if word in _WITH_VALUE:
                options += [value for value in [next(words, None)] if value is not None]
        else:
            settings.append(word)
    return options + settings


def quote(text: str) -> str:
    """Return a text in single quotes, as Hydra's grammar reads it."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def written(value: Any) -> str:
    """Return a plain value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    return repr(value) if isinstance(value, int | float) else quote(str(value))


def written_under(key: str, value: Any) -> list[str]:
    """Return the overrides that set a key to a plain value, for a mapping perhaps one for each of its keys.

    Hydra's grammar has no quotes around keys: it reads `{1: 5}` with a number. Raises ConfigError for a key that no
    override can have.
    """
    override = f"{key}={written(value)}"
    try:
        if repr(OverridesParser.create().parse_override(override).value()) == repr(value):
            return [override]
    except HydraException:
        pass
    if not isinstance(value, dict) or not value or any("." in str(name) for name in value):  # it would be two keys
        what = f"the setting {key} cannot be handed on: a name in it is no plain word"
        raise ConfigError(what, key, "use names of letters, digits, - and _, which begin with a letter")
    return [f"{key}={{}}", *(word for name, item in value.items() for word in written_under(f"{key}.{name}", item))]


def replace_whole_mappings() -> None:
    """Let `env.shaping={...}` replace what tuned settings pay for. Hydra itself merges a mapping with an earlier one.

    A mapping of `env.kwargs` is merged: an environment's own file has arguments that belong to it. One line says what
    stays of an earlier one.
    """

    def apply(overrides: list[Override], config: DictConfig) -> None:
        for override in overrides:
            if override.key_or_group == "env.shaping" and isinstance(override.value(), dict):
                OmegaConf.update(config, "env.shaping", {}, merge=False, force_add=True)
            _apply_overrides([override], config)

    ConfigLoaderImpl._apply_overrides_to_config = staticmethod(apply)  # type: ignore[method-assign, assignment]


_apply_overrides = ConfigLoaderImpl._apply_overrides_to_config


def tell_what_stays(
    env: Any, typed: Iterable[str], composed: Iterable[str], of_its_file: Callable[[str], dict[str, Any] | None]
) -> None:
    """Say on stderr what of an earlier run or a file of settings stays beside a typed `env.kwargs={size: 3}`.

    typed: the command line. composed: the words that Hydra has composed; those of a file stand before the typed ones.
    of_its_file: returns what the YAML file of the environment sets.
    """
    keys = [word.lstrip("+").partition("=")[0] for word in typed]
    mappings = tuple(f"env.{mapping}" for mapping in _mappings() - {"shaping"})
    for key in dict.fromkeys(each for each in keys if f"{each}.".startswith(tuple(f"{each}." for each in mappings))):
        parsed = OverridesParser.create().parse_overrides(list(composed))
        whole = [each.value() for each in parsed if each.key_or_group == key][-keys.count(key) :]
        if not any(isinstance(value, dict) for value in whole):
            continue
        _, mapping, *inner = key.split(".")
        now, known = getattr(env, mapping, {}), of_its_file(f"env.{mapping}") or {}
        for name in inner:
            now, known = (each.get(name, {}) if isinstance(each, Mapping) else {} for each in (now, known))
        beside = [word[len(key) + 1 :].split(".") for word in keys if word.startswith(f"{key}.")]
        if stays := list(_left(now, [value for value in whole if isinstance(value, dict)], beside, known)):
            told = ", ".join(f"{name}={value}" for name, value in stays)
            what = f"of {key}={{...}} and what was set before all entries count, so {told} stays"
            fix = f"to leave it out add ~{key}.{stays[0][0]}"
            notices.tell(f"{what}; {key}; {fix}")


def _left(now: Any, given: list[Any], beside: list[list[str]], known: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name, dotted, and the value of each entry of a mapping that no typed mapping gives.

    given: the typed mappings, or what they have at this place. beside: keys that are typed by themselves. known: what
    the environment's own file sets.
    """
    for name, value in now.items() if isinstance(now, Mapping) else ():
        inside = [each[key] for each in given for key in each if str(key) == str(name)]
        below = known.get(name) if isinstance(known, Mapping) else None
        if inside and all(isinstance(each, dict) for each in inside):
            deeper = [words[1:] for words in beside if words[0] == str(name) and words[1:]]
            yield from ((f"{name}.{more}", left) for more, left in _left(value, inside, deeper, below))
        elif not inside and all(words[0] != str(name) for words in beside) and below != value:
            yield str(name), value


def accept_whole_floats() -> None:
    """Let every integer setting take `1e6`, wherever it stands: in YAML, in choice(), in range().

    YAML and Hydra read 1e6 as a float, which OmegaConf's integers refuse.
    """
    original = _convert_integer

    def convert(self: Any, value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d[\d_]*(\.\d+)?[eE]\+?\d+", value):
            value = float(value.replace("_", ""))
        return original(self, int(value) if isinstance(value, float) and value.is_integer() else value)

    IntegerNode._validate_and_convert_impl = convert  # type: ignore[method-assign]


_convert_integer = IntegerNode._validate_and_convert_impl


def _quoted_if_needed(arg: str) -> str:
    """Return a setting with quotes around its value if Hydra can read it only with quotes."""
    setting = _SETTING.fullmatch(arg)
    # Several values, a list or quotes of the user's: the user means Hydra's grammar.
    if setting is None or re.search(r"[,\[\]{}'\"]", setting[2]) or not setting[2] or _is_readable(arg):
        return arg
    quoted = f"{setting[1]}={quote(setting[2])}"
    return quoted if _is_readable(quoted) else arg


def _at_home(arg: str, before: str) -> str:
    """Return a word with `~` expanded if it names a config folder. before: the word before it."""
    if before in FOLDER_OPTIONS:
        return os.path.expanduser(arg)
    if arg.startswith("--config-dir="):
        return f"--config-dir={os.path.expanduser(arg.partition('=')[2])}"
    if arg.startswith("hydra.searchpath="):
        return re.sub(r"([\[,'\"]|file://)~(?=/)", lambda match: match[1] + os.path.expanduser("~"), arg)
    return arg


def _is_readable(arg: str) -> bool:
    try:
        OverridesParser.create().parse_override(arg)
    except HydraException:
        return False
    return True


def _kept_as_text(arg: str) -> str:
    """Return a setting with quotes around each value that is meant as a text, and that Hydra would read as a number."""
    setting = _SETTING.fullmatch(arg)
    if setting is None or setting[1].lstrip("+~") not in _texts() or not re.fullmatch(r"[\w.+,-]+", setting[2]):
        return arg
    values = setting[2].split(",")
    return f"{setting[1]}={','.join(quote(value) if _is_number(value) else value for value in values)}"


def _is_number(text: str) -> bool:
    """Return True if Hydra reads a text as a number, or as true or false."""
    try:
        return isinstance(OverridesParser.create().parse_override(f"key={text}").value(), bool | int | float)
    except HydraException:
        return False


@functools.cache
def _texts() -> set[str]:
    """Return the keys of the settings that are texts, such as `name` and `env.id`."""
    return {
        f"{group}.{name}" if group else name
        for group, schemas in settings_classes().items()
        for schema in schemas.values()
        for name, hint in typing.get_type_hints(schema).items()
        if hint in (str, str | None)
    }


def _mappings() -> set[str]:
    """Return the environment settings that are mappings: `shaping`, `kwargs`."""
    hints = [item for schema in settings_classes()["env"].values() for item in typing.get_type_hints(schema).items()]
    return {name for name, hint in hints if typing.get_origin(hint) is dict}
