"""Paths of the package and of the YAML files: rltrain's own, in a checkout or an installed wheel, and the user's."""

import importlib.util
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""Folder of the package."""

CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""Folder of the YAML files: inside the package in a wheel, next to it in a checkout."""

FOLDER_OPTIONS = ("--config-dir", "-cd")
"""Hydra's option for a folder of the user's YAML files; the next word is the folder."""


def config_folders(argv: Iterable[str]) -> list[Path]:
    """Return the user's config folders: `--config-dir DIR`, `-cd DIR` or `hydra.searchpath=[DIR,pkg://PACKAGE,...]`."""
    argv = list(argv)
    given = [word for before, word in itertools.pairwise(argv) if before in FOLDER_OPTIONS]
    given += [arg.partition("=")[2] for arg in argv if arg.startswith("--config-dir=")]
    lists = [arg.partition("=")[2].strip("[]") for arg in argv if arg.startswith("hydra.searchpath=")]
    searched = [path.strip("'\"").removeprefix("file://") for text in lists for path in text.split(",")]
    given += [path for text in searched for path in _folders_of(text)]
    return [Path(path).expanduser() for path in given]


def _folders_of(place: str) -> list[str]:
    """Return the folder of one place of a search path; none for a place that is no folder, which Hydra alone knows."""
    scheme, _, name = place.rpartition("://")
    if not scheme:
        return [name] if name else []
    try:
        found = importlib.util.find_spec(name.replace("/", ".").rstrip(".")) if scheme == "pkg" else None
    except Exception:  # of the package that it lies in, which this imports; Hydra reports it
        found = None
    return list(found.submodule_search_locations or ())[:1] if found else []


def yaml_names(group: Path) -> dict[str, Path]:
    """Return the YAML files of a group's folder by the names that choose them: `ppo_doom`, `quick/ppo_doom`."""
    files = sorted(path for path in group.rglob("*.yaml") if path.is_file())  # opening a pipe would wait for ever
    return {path.relative_to(group).with_suffix("").as_posix(): path for path in files}


def schema_name(group: str, name: str, folders: Iterable[Path]) -> str:
    """Return the settings class name of a YAML file, which is the first entry of its defaults (followed recursively).

    folders: the user's config folders, which may hold the file. If there is no file, the name itself is a settings
    class or a plugin.
    """
    folders = [CONFIGS, *folders]
    path = next((path for folder in folders if os.path.isfile(path := folder / group / f"{name}.yaml")), None)
    first = (
        re.search(r"^defaults:\s*(?:\[|-)\s*(\w+)", path.read_text(errors="replace"), re.MULTILINE) if path else None
    )
    if first is None or first[1] == name:
        return name
    return first[1].removesuffix("_schema") if first[1].endswith("_schema") else schema_name(group, first[1], folders)
