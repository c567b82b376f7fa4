"""The user's own modules and .cfg file that a run needs: where they were, and a copy of them in the run folder.

A run folder may come from somebody else. So a module is looked for only if the command line names it, and nothing is
imported from inside a run folder unless Python's own search path leads there.
"""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rltrain.config import plugin_modules, saved
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, ConfigError
from rltrain.run import folder as run_folder
from rltrain.run import own_libraries
from rltrain.system import inside, notices

COPY = "code"
"""The folder in the run folder with the copy."""
_CFG = "game.cfg"
"""The copy of the `env.cfg`."""
_LARGEST_BYTES = 5_000_000
"""The largest copy. Code is smaller; what is larger holds data."""


def copy(config: RunConfig, folder: Path) -> None:
    """Copy the Python files of the user's modules, and of what they import beside them, and a .cfg file of the user's.

    Call it when the environments were made, so that most of it is imported. Raises OSError, CheckpointError.
    """
    files = _files(config)
    if not (files or _roots(config)) or os.path.lexists(folder / COPY):
        return
    if _are_too_large(files):
        notices.warn(f"your own modules have more than {_LARGEST_BYTES:,} bytes: the run keeps no copy")
        return
    inside.make_folder(folder / COPY)
    _copy(files, folder)
    own_libraries.note(_roots(config), folder / COPY)


def complete(config: RunConfig, folder: Path) -> None:
    """Add to a copy of this process what was imported since, such as by an import inside of `step`. Raises OSError."""
    if not inside.is_folder(folder / COPY):
        return
    files = _files(config)
    if not _are_too_large(files):
        _copy({path: place for path, place in files.items() if not os.path.lexists(folder / COPY / place)}, folder)
        with contextlib.suppress(CheckpointError):
            own_libraries.note(_roots(config), folder / COPY)


def _files(config: RunConfig) -> dict[Path, Path]:
    """Return the user's own files that this process uses, each with its place in a copy."""
    roots = _roots(config)
    cfg = getattr(config.env, "cfg", None)
    files: dict[Path, Path] = {Path(cfg): Path(_CFG)} if cfg else {}
    for module in list(sys.modules.values()) if roots else []:
        name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py") or str(name).split(".")[0] == "rltrain":
            continue
        if plugin_modules.is_library(file):
            continue
        # Python leaves `..` in the places of its search path: only a real path tells what lies below a folder.
        path = Path(os.path.realpath(file))
        for root in roots:
            if path.is_relative_to(root):
                files[path] = path.relative_to(root)
    return files


def _roots(config: RunConfig) -> set[Path]:
    return {Path(root) for root in run_folder.own_modules(config).values()}


def _are_too_large(files: Iterable[Path]) -> bool:
    return sum(path.stat().st_size for path in files if path.is_file()) > _LARGEST_BYTES


def _copy(files: Mapping[Path, Path], folder: Path) -> None:
    for path, place in sorted(files.items()):
        if path.is_file():
            (folder / COPY / place).parent.mkdir(parents=True, exist_ok=True)
            if (source := plugin_modules.SOURCES.get(str(path))) is not None:  # the file may have been edited since
                (folder / COPY / place).write_bytes(source)
            else:
                shutil.copyfile(path, folder / COPY / place)


def find(words: Iterable[str]) -> None:
    """Let Python find the modules that a command line names where the run that it names was trained.

    words: the arguments of a command. A module that Python finds by itself is left alone. What differs from the run's
    copy is told on stderr. Raises ConfigError, with the command that uses the copy, for a module that is nowhere else.
    """
    words = list(words)
    names = sorted(plugin_modules.named(words))
    for folder in (run for word in words for run in _runs(word)) if names else ():
        for name in names:
            if plugin_modules.can_find(name):
                continue
            if place := place_of(name, folder):
                plugin_modules.look_in(place)
                notices.tell(f"the module '{name}' is imported from {place}, where the run was trained")
            elif _is_in(folder / COPY, name):
                command = f"PYTHONPATH={shlex.quote(str(folder / COPY))} {shlex.join(['rltrain', *sys.argv[1:]])}"
                what = f"there is no module '{name}' here or where the run was trained, but the run has a copy of it"
                raise ConfigError(what, str(folder / COPY), f"if you trust it, use: {command}")
        _tell_changes(names, folder)


def tell_of_first_weights(config: RunConfig, folder: Path) -> None:
    """Warn if this run has other code, or another content of its .cfg file, than the run of its `init_from`."""
    _tell_changes(sorted(run_folder.own_modules(config)), folder, "the run of init_from")
    cfg = getattr(config.env, "cfg", None)
    if cfg and saved.read(folder / "config.yaml")["env"].get("cfg") == cfg:  # another file may be meant as another task
        tell_other_cfg(cfg, folder, "the run of init_from")


def tell_other_code(words: Iterable[str], folder: Path, run: str = "the run") -> bool:
    """Warn if the modules that a command line names are others than a run's copy. Returns True if they are."""
    return _tell_changes(sorted(plugin_modules.named(words)), folder, run)


def tell_other_cfg(cfg: str | None, folder: Path, run: str = "the run") -> bool:
    """Warn if the .cfg file of a saved configuration is another than the run's copy: edited, or in another folder.

    Returns True if it is.
    """
    copied = folder / COPY / _CFG
    with contextlib.suppress(OSError, CheckpointError):  # a run whose copy cannot be read
        if cfg and inside.is_file(folder / "meta.json") and inside.is_file(copied) and _differ(Path(cfg), copied):
            _tell(Path(cfg), copied, run)
            return True
    return False


def first_difference(folders: Iterable[Path]) -> str | None:
    """Return the first file of which runs have different copies, such as `code/mine.py`, or None."""
    seen: dict[str, bytes] = {}
    for folder in folders:
        content: dict[str, bytes] = {}
        with contextlib.suppress(OSError, CheckpointError):  # a run without a copy, or one that cannot be read
            copied = _copied(folder / COPY)
            copied += [folder / COPY / _CFG] if inside.is_file(folder / COPY / _CFG) else []
            content |= {str(path.relative_to(folder)): inside.read_bytes(path, _LARGEST_BYTES) for path in copied}
            noted = own_libraries.hashes(folder / COPY)
            content |= {f"{COPY}/{own_libraries.HASHES} ({name})": value.encode() for name, value in noted.items()}
        for name in sorted(content):
            if seen.setdefault(name, content[name]) != content[name]:  # what only one has was imported later
                return name
    return None


def _tell_changes(names: list[str], folder: Path, run: str = "the run") -> bool:
    """Warn if a file of the modules, or one beside them, is another than the run's copy: edited, or in another folder.

    Returns True if it is.
    """
    changed = []
    with contextlib.suppress(OSError, CheckpointError):  # a run whose copy cannot be read
        changed = _changes(names, folder)
    if changed:
        (own, copied), more = changed[0], f" (and {len(changed) - 1} more)" if changed[1:] else ""
        _tell(own, copied, run, more)
    return bool(changed)


def _changes(names: list[str], folder: Path) -> list[tuple[Path, Path]]:
    """Return the files that differ from a run's copy of them, each with that copy. Raises CheckpointError, OSError."""
    places = {name: Path(place) for name in names if (place := plugin_modules.folder_of(name))}
    if not inside.is_file(folder / "meta.json"):  # the folder of a user's `config=FILE`
        return []
    changed = []
    for copied in _copied(folder / COPY):
        part = copied.relative_to(folder / COPY)
        top = part.parts[0].removesuffix(".py")
        # A helper may lie elsewhere now. What Python finds counts, unless its name is one of a library's, too.
        helper = None if top in places else plugin_modules.own_folder(top)
        folders = [Path(helper)] if helper else [places[top]] if top in places else [*places.values()]
        found = [path for place in folders if (path := _first(place, part))]
        if found and all(_differ(path, copied) for path in found):
            changed.append((found[0], copied))
    with contextlib.suppress(CheckpointError):  # what is known of the modules counts all the same
        libraries = own_libraries.changed(places.values(), folder / COPY)
        changed += [(path, folder / COPY / own_libraries.HASHES) for path in libraries]
    return changed


def _first(place: Path, part: Path) -> Path | None:
    """Return the file of a module in a folder. Since the run began, it may have become a package, or the reverse.

    part: its file in the copy. Python takes the package if there are both.
    """
    module = part.parent if part.name == "__init__.py" else part.with_suffix("")
    found = [part] if module == Path() else [module / "__init__.py", module.with_suffix(".py")]
    return next((place / each for each in found if os.path.isfile(place / each)), None)


def _tell(own: Path, copied: Path, run: str, more: str = "") -> None:
    kind = "settings of the game" if copied.name == _CFG else "code"
    what = "what {} tells of the run's" if copied.name == own_libraries.HASHES else "{}, the run's copy"
    notices.warn(f"{run} began with other {kind}: {own} differs from {what.format(copied)}{more}")


def _differ(own: Path, copied: Path) -> bool:
    """Return True for other content. A copy of another size is not read: it may be a large file with a hole.

    Raises CheckpointError, OSError.
    """
    if inside.is_file(copied) and own.stat().st_size != copied.lstat().st_size:
        return True
    return own.read_bytes() != inside.read_bytes(copied, _LARGEST_BYTES)


def _copied(folder: Path) -> list[Path]:
    """Return the Python files below the folder of the copy. Raises CheckpointError."""
    found, left = [], [folder]
    while left:
        for path in inside.entries(left.pop()):
            if path.suffix == ".py":
                found.append(path)
            elif inside.is_folder(path):
                left.append(path)
    return found


def place_of(name: str, folder: Path) -> str | None:
    """Return the folder from which a run imported the module `name`; None if it is unknown, gone, or in a run.

    The folder must be written without links: /proc/self/cwd would lead to whatever came with the run.
    """
    with contextlib.suppress(OSError, CheckpointError, ValueError):  # a name with a zero byte
        meta = inside.read_json(folder / "meta.json")
        modules = meta.get("modules")
        # Older runs tell only where they were started.
        place = modules.get(name) if isinstance(modules, dict) else meta.get("working_directory")
        if isinstance(place, str) and os.path.realpath(place) == place and _is_in(Path(place), name):
            is_in_a_run = Path(place).is_relative_to(os.path.realpath(folder)) or inside.lies_in_a_run(place)
            return None if is_in_a_run else place
    return None


def _is_in(place: Path, name: str) -> bool:
    return os.path.isfile(place / f"{name}.py") or os.path.isdir(place / name)  # unlike Path.is_file, if it is hidden


def _runs(word: str) -> list[Path]:
    """Return the run that a word of the command line names, or the first run of the sweep that it names; else none."""
    path = Path(word.removeprefix("config=").strip("'\""))
    if word.startswith("config="):
        return [path if os.path.isdir(path) else path.parent]
    if "=" in word and not os.path.lexists(word):
        return []
    with contextlib.suppress(CheckpointError, OSError):
        return [run_folder.find(word)[0]]
    with contextlib.suppress(CheckpointError, OSError):
        return [found.parent for found in sorted(path.glob("*/meta.json"))[:1]]
    return []
