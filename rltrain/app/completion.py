"""TAB completion. Hydra completes settings; this module completes the commands and their arguments."""

import ast
import contextlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

from rltrain.app import usage
from rltrain.app.paths import PACKAGE


def query(argv: list[str], hydra: Callable[[list[str]], int]) -> int:
    """Answer `-sc query=SHELL` for the line in COMP_LINE; `hydra` completes settings. Always returns 0.

    It prints only the completions, because the shell would insert any message into the command line.
    """
    words = os.environ.get("COMP_LINE", "").split(" ")[1:] or [""]
    words = [word for word in words[:-1] if word] + words[-1:]
    if words[0] in usage.COMMANDS and len(words) > 1:
        found = _after_command(words[0], words[-1])
    else:
        said = io.StringIO()
        with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(said):
            hydra(argv)
        found = [word for word in said.getvalue().split() if not word.endswith("_schema")]
        if len(words) == 1:
            found += usage.COMMANDS
    print(" ".join(word for word in found if word.startswith(words[-1])))
    return 0


def _after_command(command: str, typed: str) -> list[str]:
    """Return `last`, folders and the command's keys, read from its USAGE without importing the command."""
    tree = ast.parse((PACKAGE / "commands" / f"{command}.py").read_text())
    named = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USAGE"]
    text = str(ast.literal_eval(named[0].value))
    found = [f"{key}=" for key in re.findall(r"\[([\w.]+)=", text)]
    if "RUN" in text:
        found += ["last", *(f"{path}/" for path in sorted(Path().glob(f"{typed}*")) if path.is_dir())]
    if command == "list":
        found += ["algos", "envs", "networks", "hparams"]
    return found
