"""Import the user's modules that register algorithms, environments or networks.

Only modules named on the command line are imported. A saved configuration names them too, but it may come from
somebody else, so rltrain never imports a module because of it.
"""

import builtins
import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from rltrain.config.user_code import LIBRARIES, describe
from rltrain.errors import (
    ConfigError,
    EnvironmentFailure,
    Halt,
    OutOfMemory,
    RltrainError,
    lacking,
    of_a_file,
)
from rltrain.system import inside, out_of_memory, terminal

LOADED: list[str] = []
"""Names of the imported plugins, in order of import."""

NAMED: set[str] = set()
"""Names of the modules that an `env.id` named."""

SOURCES: dict[str, bytes] = {}
"""What the files of the user's modules held when this process imported them, by their paths without links."""
_given: dict[str, bytes] = {}
"""The same in the trainer, for a process that it started. The user may have edited a file since."""

_BUILTINS = {name: value for name, value in vars(builtins).items() if not name.startswith("_") and callable(value)}
"""Python's own functions, such as `print`, before a module of the user's could replace one."""
_PATH, _RECURSION_LIMIT = list(sys.path), sys.getrecursionlimit()
"""Where Python looks for modules, and how deep it calls, before a module of the user's could change that."""


def given(argv: Iterable[str]) -> list[str]:
    """Return the module names in the `plugins=[a,b]` argument of a command line."""
    return [name for arg in argv if arg.startswith("plugins=") for name in re.findall(r"[^\[\],\s'\"]+", arg[8:])]


def load(names: Iterable[str]) -> None:
    """Import modules that are installed or in the working directory, each once. Raises ConfigError."""
    for name in names:
        if name in LOADED:
            continue
        look_in_working_directory()
        try:
            importlib.import_module(name)
        except (ConfigError, Halt, KeyboardInterrupt):
            raise
        except BaseException as error:
            what = f"the plugin '{name}' cannot be imported: {describe(error)}"
            fix = f"give a module that is installed, as plugins=[my_package.my_module], or {where_to_start()}"
            raise ConfigError(what, "plugins", fix) from error
        LOADED.append(name)
        terminal.guard()  # in case it has replaced a stream


def run_as_in_trainer(sources: Mapping[str, bytes], plugins: Iterable[str]) -> None:
    """Import plugins in a process of a run. They, and what is imported later, are as the trainer has imported them.

    sources: the trainer's `SOURCES`.
    """
    _given.update(sources)
    look_in_working_directory()
    load(plugins)


def part(
    name: str, of: str, functions: Mapping[str, str], like: str, optional: Mapping[str, str] | None = None
) -> ModuleType:
    """Return the module of what a plugin has registered. Raises ConfigError if there is none, or without functions.

    of: what it is the module of, in words. functions: those that it must have, with their arguments. like: the file of
    rltrain's own that shows how it is written. optional: functions that it may have.
    """
    fix = f"write {' and '.join(functions)} there, as in {like}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(f"the module '{name}' of {of} does not exist", "plugins", fix) from error
    for function in functions:
        if not callable(getattr(module, function, None)):
            raise ConfigError(f"the module '{name}' of {of} has no {function}", "plugins", fix)
    for function, arguments in {**functions, **(optional or {})}.items():
        if hasattr(module, function) and not takes(module, function, arguments):
            what = f"the module '{name}' of {of} has another {function} than {function}({arguments}), which is called"
            raise ConfigError(what, "plugins", f"write it so{'' if function in functions else ', or rename it'}")
    return module


def missing(owner: Any, methods: Mapping[str, str]) -> list[str]:
    """Return which methods an object lacks or has with other arguments. methods: their arguments in words."""
    found = [name for name in methods if callable(getattr(owner, name, None))]
    others = [f"{name}({methods[name]})" for name in found if not takes(owner, name, methods[name])]
    return [name for name in methods if name not in found] + others


def takes(owner: Any, function: str, arguments: str) -> bool:
    """Return True if a function of a module or an object can be called with so many arguments, in words `a, b`."""
    return accepts(getattr(owner, function), arguments)


def accepts(function: Any, arguments: str) -> bool:
    """Return True if something can be called with so many arguments, in words `a, b`."""
    if not callable(function):
        return False
    try:
        is_cached = isinstance(function, functools._lru_cache_wrapper)  # another decorator may take other arguments
        signature = inspect.signature(function, follow_wrapped=is_cached)
    except (TypeError, ValueError):  # a function that does not tell
        return True
    try:
        signature.bind(*filter(None, arguments.split(", ")))
    except TypeError:
        return False
    return True


def named(words: Iterable[str]) -> set[str]:
    """Return the top-level names of the modules that `plugins=` and `env.id=` of a command line name."""
    ids = [word.removeprefix("env.id=").strip("'\"") for word in words if word.startswith("env.id=")]
    modules = [*given(words), *(env_id.partition(":")[0] for env_id in ids if ":" in env_id)]
    return {name.split(".")[0] for name in modules} - {"rltrain"}


def must_be_named_again(env_id: str) -> bool:
    """Return True for an `env.id` that a saved configuration alone must not choose, because it may import a module.

    Those of gymnasium's that wrap an environment of the older gym import the module that their `env_id` names.
    """
    return (":" in env_id and not env_id.startswith("rltrain.")) or env_id.startswith(("GymV21", "GymV26"))


def look_in_working_directory() -> None:
    """Let Python find modules in the working directory, after installed packages, unless it lies in a run or sweep.

    That may be somebody else's, with a module of the name that is typed, or what libraries look for in the places of
    modules and import. From now on, each module of the user's that is imported draws the same numbers in each process.
    """
    if not any(isinstance(finder, _Alike) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alike())
    with contextlib.suppress(FileNotFoundError):  # an environment may have deleted it
        if not inside.stands_in_a_run():
            look_in(os.getcwd())


def where_to_start() -> str:
    """Return advice for a module that is not found."""
    here = "; one of a run or sweep does not count, unless PYTHONPATH names it" if inside.stands_in_a_run() else ""
    return f"start rltrain in the folder of your module{here}"


def look_in(folder: str) -> None:
    """Let Python find modules in a folder, after all others."""
    if folder not in sys.path:  # append, so that no local file shadows an installed package
        sys.path.append(folder)
        importlib.invalidate_caches()


_OF_FILES = (importlib.machinery.SourceFileLoader, importlib.machinery.SourcelessFileLoader)
"""Loaders that are made for one module each, unlike that of pytest."""


class _Alike(importlib.abc.MetaPathFinder):
    """Finds what the others find. A module of the user's is executed with fixed generators.

    It may draw a world when it is imported, which each process does at another time, also inside of a `step`.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return what the first of the other finders finds, or None."""
        others = [finder.find_spec for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next((found for find in others if (found := find(name, path, target)) is not None), None)
        loader: Any = getattr(spec, "loader", None)
        _refuse_hidden_code(name, loader)
        if isinstance(loader, _OF_FILES) and not is_library(loader.path) and name.split(".")[0] != "rltrain":
            execute: Any = functools.partial(_executed_alike, loader, loader.exec_module)
            loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _refuse_hidden_code(name: str, loader: Any) -> None:
    """Raise ImportError for a module in the folder of a run that is no text. rltrain copies only texts there."""
    path = getattr(loader, "path", None)
    if isinstance(loader, importlib.machinery.SourceFileLoader) or not isinstance(path, str) or is_library(path):
        return
    if _lies_in_a_run(path):
        raise ImportError(f"{path} lies in a run and is no .py file, so nobody can read what it does", name=name)


def _lies_in_a_run(path: str) -> bool:
    """Return True if a file, or what it is a link to, lies in the folder of a run or sweep."""
    places = (os.path.abspath(path), os.path.realpath(path))
    return any(inside.lies_in_a_run(os.path.dirname(place)) for place in places)


def _executed_alike(loader: Any, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    from rltrain.system import global_random

    path = os.path.realpath(loader.path)
    source = _given.get(path)
    # In a run, compiled code beside a text may be that of another text: the run may be somebody else's.
    is_text = source is not None or _lies_in_a_run(loader.path)
    if source is None and isinstance(loader, importlib.machinery.SourceFileLoader):
        with contextlib.suppress(OSError):
            source = loader.get_data(loader.path)
    if source is not None:
        SOURCES[path] = source
        if is_text:
            loader.get_code = lambda name: loader.source_to_code(source, loader.path)
    # The generators are the process's: in another thread, the main one would draw from fixed ones meanwhile.
    is_main = threading.current_thread() is threading.main_thread()
    with global_random.fixed() if is_main else contextlib.nullcontext():
        execute(module)


def can_find(name: str) -> bool:
    """Return True if Python finds a top-level module: it is installed, or in the working directory or PYTHONPATH."""
    look_in_working_directory()
    return _spec(name) is not None


def own_folder(name: str) -> str | None:
    """Return the absolute folder that holds a top-level module of the user's; None for an installed or missing one."""
    file = _file(name)
    return None if file is None or is_library(file) else os.path.dirname(os.path.realpath(file))


def folder_of(name: str) -> str | None:
    """Return the absolute folder in which Python finds a top-level module, installed or not; None for a missing one."""
    file = _file(name)
    return None if file is None else os.path.dirname(os.path.abspath(file))


def _file(name: str) -> str | None:
    """Return the file of a top-level module, or the folder of a package; None for a missing one."""
    spec = _spec(name)
    places = list(spec.submodule_search_locations or []) if spec else []
    file = places[0] if places else spec.origin if spec else None
    return file if file is not None and os.path.exists(file) else None


def is_library(file: str) -> bool:
    """Return True for a file of Python's own or of an installed package."""
    return file.startswith(LIBRARIES) or bool({"site-packages", "dist-packages"} & set(file.split(os.sep)))


def _spec(name: str) -> Any:
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        return importlib.util.find_spec(name)
    return None


def require(names: Iterable[str]) -> None:
    """Raise ConfigError if a plugin of a saved configuration has not been imported."""
    missing = [name for name in names if name not in LOADED]
    if missing:
        what = f"the run needs {', '.join(missing)}, which only the command line can import"
        raise ConfigError(what, "plugins", f"if you trust it, add plugins=[{','.join(missing)}] to the command")


def fault_of(error: BaseException) -> EnvironmentFailure | None:
    """Return the error line for an exception that passed through a plugin or a module of `env.id`; None for others."""
    if isinstance(error, Halt | KeyboardInterrupt):  # Ctrl-C is nobody's fault
        return None
    named = _of_the_user()
    running = [
        str(frame.f_globals.get("__name__")).split(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    module = next((name for name in reversed(running) if name in named), None)
    if module is not None:
        what = f"your module '{module}' raised {describe(error)}"
        return EnvironmentFailure(what, "plugins", "the fault is in its code")
    if named and (changed := put_back_builtins() + _put_back_limits(error)):
        modules, things = ", ".join(sorted(named)), ", ".join(changed)
        what = f"a module of yours ({modules}) changed Python's {things}, which ended in {describe(error)}"
        return EnvironmentFailure(what, "plugins, env.id", "leave what belongs to Python as it is")
    return None


def explain(error: BaseException) -> RltrainError | None:
    """Return the error line of an exception whose cause is known: rltrain's own error, the user's module, what the
    system lacks, a file. None for what may be a bug of rltrain's: see `unclear`.
    """
    if isinstance(error, RltrainError):
        return error
    fault = fault_of(error)
    if fault is None and out_of_memory.is_shortage(error):
        fix = "use fewer environments or workers, a smaller network, or stop other programs"
        return OutOfMemory(out_of_memory.describe(error), "num_envs, algo.num_workers, network", fix)
    return fault or lacking(error) or of_a_file(error)


def unclear(error: BaseException) -> EnvironmentFailure | None:
    """Return the error line for an exception of rltrain's own lines while modules of the user's are in use, else None.

    What they handed over before, such as a method or a value, may be at fault, and no traceback tells it.
    """
    names = ", ".join(sorted(_of_the_user()))
    if not names or isinstance(error, Halt | KeyboardInterrupt):
        return None
    fix = f"see what {names} hands over to the lines above; if that is right, it is a bug in rltrain: report them"
    return EnvironmentFailure(f"{describe(error)}, outside of your module {names}", "plugins, env.id", fix)


def _of_the_user() -> set[str]:
    """Return the top-level names of the modules of plugins and of `env.id` that this process has imported."""
    return {name.split(".")[0] for name in (*LOADED, *NAMED)} - {"rltrain"}


def put_back_builtins() -> list[str]:
    """Put back what the user's modules replaced of Python's functions, to tell an error. Returns their names.

    Some replacements, such as a `print` with colours, do no harm, so this is left until then.
    """
    replaced = [name for name, value in _BUILTINS.items() if getattr(builtins, name, None) is not value]
    for name in replaced:
        setattr(builtins, name, _BUILTINS[name])
    return replaced


def _put_back_limits(error: BaseException) -> list[str]:
    """Put back what the user's modules took from sys.path or from the recursion limit if it led to this error.

    Returns its names.
    """
    if isinstance(error, RecursionError) and sys.getrecursionlimit() < _RECURSION_LIMIT:
        sys.setrecursionlimit(_RECURSION_LIMIT)
        return ["recursion limit"]
    if isinstance(error, ImportError) and (removed := [folder for folder in _PATH if folder not in sys.path]):
        sys.path += removed
        return ["sys.path"]
    return []
