"""Which files Hydra composes, in which order, and what each of them sets. Hydra itself is asked, not their text.

A file of the user's may be chosen on the command line, in another file, or in one for the whole run (`+exp=mine`). It
may lie in any place that Hydra searches. Only Hydra's list of defaults knows them all.
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.defaults_list import DefaultsList
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

from rltrain import plugins
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS, config_class
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RUNTIMES, RayLauncherConfig
from rltrain.errors import ConfigError

_of_environments: list[Any] = []
"""Hydra as the environments have left it. A module initialises it perhaps when it is imported, for all jobs."""


@contextlib.contextmanager
def hydra_aside() -> Iterator[None]:
    """Let an environment compose with Hydra by itself inside. Hydra and OmegaConf's resolvers are put back afterwards.

    Hydra refuses to be used twice at a time, and an environment may clear what it finds.
    """
    hydra, config, resolvers = GlobalHydra.instance().hydra, HydraConfig.instance().cfg, dict(BaseContainer._resolvers)
    ours = config_loader_impl.create_defaults_list, ConfigLoaderImpl.load_configuration
    config_loader_impl.create_defaults_list = _create_defaults_list
    ConfigLoaderImpl.load_configuration = _load_configuration  # type: ignore[method-assign]
    GlobalHydra.instance().hydra = _of_environments[0] if _of_environments else None
    try:
        yield
    finally:
        _of_environments[:] = [GlobalHydra.instance().hydra]
        config_loader_impl.create_defaults_list = ours[0]
        ConfigLoaderImpl.load_configuration = ours[1]  # type: ignore[method-assign]
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, config
        BaseContainer._resolvers.update(resolvers)  # those that a module registered when it was imported stay


_GROUPS = ("algo", "env", "network", "runtime")
_NOT_OWN = ("main", "hydra", "schema")
"""What provides the files of rltrain, those of Hydra, and the settings classes."""


class Files:
    """Files that Hydra composes, in its order: of two that set a key, the later one wins."""

    def __init__(self, defaults: Sequence[ResultDefault] = (), repository: IConfigRepository | None = None) -> None:
        """Take Hydra's list of defaults, and what loads the files."""
        self._repository = repository
        self.defaults = [each for each in defaults if each.config_path and not each.config_path.startswith("hydra/")]

    def exists(self, path: str) -> bool:
        """Return True if Hydra finds a file, such as `hparams/ppo_doom`, in any place that it searches."""
        return self._repository is not None and self._repository.config_exists(path)

    def is_own(self, default: ResultDefault) -> bool:
        """Return True for a file of the user's: neither rltrain's nor a settings class."""
        found = self._load(default)
        return found.provider not in _NOT_OWN and not self._is_class(default)

    def own(self) -> list[dict[str, Any]]:
        """Return what each of the user's own files sets, such as `env.id`."""
        return [self.values(default) for default in self.defaults if self.is_own(default)]

    def value(self, key: str) -> Any:
        """Return the value of a key in the last file that sets it; None without."""
        place = self.place(key)
        return None if place is None else self.values(self.defaults[place])[key]

    def place(self, key: str) -> int | None:
        """Return the place of the last file that sets a key; None without."""
        for place in range(len(self.defaults) - 1, -1, -1):
            found = self.values(self.defaults[place])
            if key in found and not (found[key] is None and self._is_class(self.defaults[place])):
                return place
        return None

    def tuned(self) -> list[ResultDefault]:
        """Return the files of tuned settings that the run itself takes, not those from which such files are made."""
        inside = [each for each in self.defaults if str(each.config_path).startswith("hparams/")]
        return [each for each in inside if each.parent == "config"]

    def name(self, default: ResultDefault) -> str:
        """Return the path of a file, one of rltrain's relative to its folder of YAML."""
        found = self._load(default)
        file = f"{default.config_path}.yaml"
        return file if found.provider == "main" else f"{found.path.removeprefix('file://')}/{file}"

    def until(self, place: int) -> "Files":
        """Return the files up to a place, and the one there."""
        return Files(self.defaults[: place + 1], self._repository)

    def after(self, place: int) -> "Files":
        """Return the files behind a place."""
        return Files(self.defaults[place + 1 :], self._repository)

    def refuse_two_choices(self) -> None:
        """Raise Hydra's error for a second choice of a group also if both are the same.

        Its settings class would stand behind the tuned settings, and undo them.
        """
        for group in _GROUPS:
            inside = [each for each in self.defaults if str(each.config_path).startswith(f"{group}/")]
            complete = {each.config_path for each in inside if self._is_class(each)}
            while more := {each.parent for each in inside if each.config_path in complete} - complete:
                complete |= more
            parts = {each.config_path for each in inside}
            if sum(each.config_path in complete and each.parent not in parts for each in inside) > 1:
                raise ConfigCompositionException(f"Multiple values for {group}.")

    def values(self, default: ResultDefault) -> dict[str, Any]:
        """Return what one file sets, with the group before a name: `env.id`."""
        content = ConfigLoaderImpl._embed_result_config(self._load(default), default.package).config
        nested: Any = OmegaConf.to_container(content)
        found: dict[str, Any] = {}
        for key, value in nested.items() if isinstance(nested, dict) else ():
            is_group = key in _GROUPS and isinstance(value, dict)
            found |= {f"{key}.{name}": item for name, item in value.items()} if is_group else {key: value}
        return {key: value for key, value in found.items() if value != "???"}

    def _is_class(self, default: ResultDefault) -> bool:
        """Return True for a settings class, whose null says nothing."""
        return self._load(default).path.startswith("structured://")

    def _load(self, default: ResultDefault) -> ConfigResult:
        assert self._repository is not None and default.config_path is not None
        found = self._repository.load_config(default.config_path)
        assert found is not None
        return found


def last() -> Files:
    """Return the files of the composition that Hydra has made last; while it makes one, those that it knows so far."""
    return _last


_last = Files()


def of_an_environment(env: str, folders: Iterable[Path]) -> Files:
    """Return the files of `env=...`, in folders of YAML files; none if Hydra cannot read them.

    Hydra reports the reason where the environment is trained with.
    """
    for kind in (FileConfigSource, StructuredConfigSource):  # as Hydra does when an application starts
        SourcesRegistry.instance().register(kind)
    path = ConfigSearchPathImpl()
    for folder in folders:
        path.append("main", f"file://{folder.absolute()}")
    path.append("schema", "structured://")
    repository = CachingConfigRepository(ConfigRepository(ConfigSearchPathImpl()))
    repository.initialize_sources(path)
    try:
        register()
        chosen = OverridesParser.create().parse_overrides([f"+env='{env}'"])
        found = _create_defaults_list(repository, None, chosen, prepend_hydra=False, skip_missing=False)
        return Files(found.defaults, repository)
    except (HydraException, OmegaConfBaseException, OSError, ValueError, RecursionError, yaml.YAMLError):
        return Files([], repository)


def put_own_files_last() -> None:
    """Let Hydra compose the user's own files after rltrain's tuned settings, which they would else lose against.

    Also let it refuse folders of its own, in which it would replace files.
    """
    config_loader_impl.create_defaults_list = _in_our_order
    ConfigLoaderImpl.load_configuration = _without_folders_of_hydra  # type: ignore[method-assign]


_create_defaults_list = config_loader_impl.create_defaults_list
_load_configuration = ConfigLoaderImpl.load_configuration


def _without_folders_of_hydra(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
    """Return the configuration that Hydra composes. Raises ConfigError."""
    composed = _load_configuration(self, *args, **kwargs)
    fix = "leave it out: each run has a config.yaml, and run_dir=DIR says where runs go"
    if composed.hydra.output_subdir is not None:
        raise ConfigError("Hydra would replace files in a folder of its own", "hydra.output_subdir", fix)
    if os.path.normpath(str(composed.hydra.run.dir)) != ".":
        raise ConfigError("Hydra would make a folder of its own", "hydra.run.dir", fix)
    if composed.hydra.job.env_set:
        what = "jobs side by side, and `resume`, would not have these variables"
        raise ConfigError(what, "hydra.job.env_set", "set them in the shell: NAME=VALUE rltrain ...")
    return composed


def _in_our_order(
    repo: IConfigRepository,
    config_name: str | None,
    overrides_list: list[Override],
    prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:
    """Return Hydra's list of defaults. Hydra makes it twice: the first one tells which tuned settings are meant."""
    global _last
    _last = Files([], repo)
    for _ in range(2):
        found = _create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        _last = Files(found.defaults, repo)
    _last.refuse_two_choices()
    found.defaults = _own_last(found.defaults, _last)
    _last = Files(found.defaults, repo)
    return found


def _own_last(defaults: list[ResultDefault], files: Files) -> list[ResultDefault]:
    """Return the list with the user's own files behind rltrain's, of which the tuned settings of the pair come last.

    Tuned settings of the user's own stay behind the own files of algo, env and network, with all that they are made
    from, which may be a file of rltrain's.
    """
    theirs = {each.config_path for each in files.defaults if files.is_own(each) and not each.primary}
    made_from = set(theirs)
    while more := {each.config_path for each in files.defaults if each.parent in made_from} - made_from:
        made_from |= more

    def is_of_hparams(default: ResultDefault) -> bool:
        return str(default.config_path).startswith("hparams/")

    def is_theirs(default: ResultDefault) -> bool:
        return default.config_path in theirs or (is_of_hparams(default) and default.parent in made_from)

    groups = tuple(f"{group}/" for group in ("algo", "env", "network", "hparams"))
    ours = [str(each.config_path).startswith(groups) and not is_theirs(each) for each in defaults]
    end = max((place for place, is_ours in enumerate(ours, 1) if is_ours), default=0)
    return [*sorted(defaults[:end], key=is_theirs), *defaults[end:]]


def register() -> None:
    """Register every settings class in Hydra's store, and what plugins have registered."""
    _register_classes(tuple(ALGOS.items()), tuple(ENVIRONMENTS))
    for (group, name), option in plugins.OPTIONS.items():
        ConfigStore.instance().store(group=group, name=name, node=option.settings)


@functools.lru_cache(maxsize=1)  # a tenth of a second: once in a process, unless a plugin adds to them
def _register_classes(algos: tuple[tuple[str, type], ...], families: tuple[str, ...]) -> None:
    """Register settings classes under the names that the YAML files use in their defaults."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    store.store(group="network", name="network_schema", node=NetworkConfig)
    for name, runtime in RUNTIMES.items():
        store.store(group="runtime", name=f"{name}_schema", node=runtime)
    store.store(group="hydra/launcher", name="rltrain_ray_schema", node=RayLauncherConfig)
    for name, node in algos:
        store.store(group="algo", name=f"{name}_schema", node=node)
    for family in families:
        store.store(group="env", name=f"{family}_schema", node=config_class(family))
