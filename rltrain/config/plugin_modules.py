"""Import the user's modules that register algorithms, environments or networks.

Only modules named on the command line are imported. A saved configuration names them too, but it may come from
somebody else, so rltrain never imports a module because of it.
"""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable

from rltrain.config.user_code import describe
from rltrain.errors import ConfigError, EnvironmentFailure

LOADED: list[str] = []
"""Names of the imported plugins, in order of import."""

NAMED: set[str] = set()
"""Names of the modules that an `env.id` named."""


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
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            what = f"the plugin '{name}' cannot be imported: {describe(error)}"
            fix = "give a module that is installed or in this folder: plugins=[my_package.my_module]"
            raise ConfigError(what, "plugins", fix) from error
        LOADED.append(name)


def look_in_working_directory() -> None:
    """Let Python find modules in the working directory, after installed packages."""
    if os.getcwd() not in sys.path:  # append, so that no local file shadows an installed package
        sys.path.append(os.getcwd())


def require(names: Iterable[str]) -> None:
    """Raise ConfigError if a plugin of a saved configuration has not been imported."""
    missing = [name for name in names if name not in LOADED]
    if missing:
        what = f"the run needs {', '.join(missing)}, which only the command line can import"
        raise ConfigError(what, "plugins", f"if you trust it, add plugins=[{','.join(missing)}] to the command")


def fault_of(error: BaseException) -> EnvironmentFailure | None:
    """Return the error line for an exception that passed through a plugin or a module of `env.id`; None for others."""
    if not isinstance(error, Exception | SystemExit):  # Ctrl-C is nobody's fault
        return None
    named = {name.split(".")[0] for name in (*LOADED, *NAMED)} - {"rltrain"}
    running = [
        str(frame.f_globals.get("__name__")).split(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    module = next((name for name in reversed(running) if name in named), None)
    if module is None:
        return None
    return EnvironmentFailure(f"your module '{module}' raised {describe(error)}", "plugins", "the fault is in its code")
