"""TAB completion. Hydra completes settings; this module completes the commands and their arguments."""

import ast
import contextlib
import glob
import io
import os
import re
from collections.abc import Callable

from rltrain.app import usage
from rltrain.app.paths import PACKAGE

_IS_PLAIN = re.compile(r"[\w./:=+@%,~^-]+").fullmatch
"""True for words in which a shell sees nothing but text.

The script that Hydra gives to bash expands each completion, so `$(...)` in the name of a folder, which may be somebody
else's, would run while the user only presses TAB. Without a completion of ours, bash completes the name itself.
"""


def query(hydra: Callable[[list[str]], int]) -> int:
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
            hydra(["-sc", "query=fish"])  # which gives each completion a line of its own
        found = [word for word in said.getvalue().splitlines() if not word.endswith("_schema")]
        if len(words) == 1:
            found += usage.COMMANDS
    for word in found:
        if word.startswith(words[-1]) and _IS_PLAIN(word):
            print(word)
    return 0


def _after_command(command: str, typed: str) -> list[str]:
    """Return `last`, folders and the command's keys, read from its USAGE without importing the command."""
    tree = ast.parse((PACKAGE / "commands" / f"{command}.py").read_text())
    named = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USAGE"]
    text = str(ast.literal_eval(named[0].value))
    found = [f"{key}=" for key in re.findall(r"\[([\w.]+)=", text)]
    if "RUN" in text:
        found += ["last", *sorted(glob.glob(f"{glob.escape(typed)}*/"))]
    if command == "list":
        found += ["algos", "envs", "networks", "hparams"]
    return found
