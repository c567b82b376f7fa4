"""Modules of a user's own that register algorithms, environments or networks: named, imported, remembered.

Only the command line names them. A run's saved configuration does too, but nothing is ever imported because of it.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterable

from rltrain.errors import ConfigError

LOADED: list[str] = []
"""Modules that were imported as plugins, in order."""


def given(argv: Iterable[str]) -> list[str]:
    """The modules that `plugins=[a,b]` names on a command line."""
    return [name for arg in argv if arg.startswith("plugins=") for name in re.findall(r"[^\[\],\s'\"]+", arg[8:])]


def load(names: Iterable[str]) -> None:
    """Import modules that are not yet: installed ones, or files in the working directory. Raises ConfigError."""
    for name in names:
        if name in LOADED:
            continue
        if os.getcwd() not in sys.path:  # last, so that no file there stands in for a package
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except ConfigError:
            raise
        except Exception as error:
            what = f"the plugin '{name}' cannot be imported: {type(error).__name__}: {error}"
            fix = "give modules that are installed or lie in this folder: plugins=[my_package.my_module]"
            raise ConfigError(what, "plugins", fix) from error
        LOADED.append(name)


def require(names: Iterable[str]) -> None:
    """Raise ConfigError unless all were imported already: for what a saved configuration names."""
    missing = [name for name in names if name not in LOADED]
    if missing:
        what = f"the run needs {', '.join(missing)}, and nothing is imported because a saved configuration says so"
        raise ConfigError(what, "plugins", f"add plugins=[{','.join(missing)}] to the command, if you trust them")
