"""Read from the source: nothing in a run folder is opened, replaced or removed but by `system/inside` and `atomic`."""

import ast
from pathlib import Path

import pytest

import rltrain

PACKAGE = Path(rltrain.__file__).parent
ROOMS = ("run", "algos", "commands", "app", "watching")
CALLS = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "touch", "unlink", "rename", "rmtree",
         "symlink_to", "iterdir", "safe_load", "load_file", "savefig"}  # fmt: skip
"""Calls that open, change or list something. `np.load` and `np.save` count too."""

ALLOWED = {
    "run/checkpoint_files.py": {"write", "read", "sync"},  # in a new folder; members that `verify` has checked
    "run/checkpoint.py": {
        "save",
        "_remove_old",
        "point",
        "sweep",
    },  # names in `checkpoints`
    "run/own_code.py": {"_copy", "_differ"},  # in the folder of a new run; the user's own modules
    "run/own_libraries.py": {"_loaded", "_digest"},  # /proc/self/maps; the user's own libraries
    "run/folder.py": {"create", "_point_latest", "_processor"},  # a new folder, and run_dir, which is the user's
    "run/panel.py": {"_earlier"},  # the folder of the runs beside, which is the user's
    "commands/plot.py": {"main"},  # the user's out=FILE
    "commands/export.py": {"main"},  # the user's out=FILE
    "commands/resume.py": {"_plain"},  # values of the command line
    "commands/list.py": None,  # YAML of rltrain and of the user, not of runs
    "commands/doctor.py": None,
    "watching/screens.py": None,  # a path of the caller, with a new name in a folder that was checked
}
"""Functions that may use such calls, or None for a whole file."""
NOT_RUNS = {"app/completion.py", "app/paths.py", "app/usage.py", "app/hparams.py", "app/hydra_app.py",
            "app/hydra_sweep.py", "app/keeper.py", "app/side_by_side.py", "app/sweep.py",
            "commands/help.py"}  # fmt: skip
"""Files about the source, about configurations, and about sweeps, whose folders hold runs."""


def opened(source: str) -> set[tuple[str, str]]:
    """The (function, call) pairs of a file that touch a file other than by `inside` or `atomic`."""
    found = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            owner, _, name = ast.unparse(node.func).rpartition(".")
            numpy = owner == "np" and name in ("load", "save", "savez", "memmap")
            if numpy or (name in CALLS and owner not in ("inside", "atomic", "os")):
                found.add((function.name, f"{owner}.{name}"))
    return found


def test_files_of_a_run_are_opened_in_one_way():
    """Bug: a new reader or writer follows links, waits for pipes, or reads without end."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if (name.split("/")[0] not in ROOMS and name != "config/saved.py") or name in NOT_RUNS:
            continue
        allowed = ALLOWED.get(name, set())
        if allowed is not None:
            rest = {(function, call) for function, call in opened(path.read_text()) if function not in allowed}
            assert not rest, f"{name}: use rltrain.system.inside or atomic instead of {rest}"


@pytest.mark.parametrize(
    "line", ["(folder / 'a').read_text()", "open(path)", "path.open()", "np.load(path)", "shutil.rmtree(path)"]
)
def test_a_planted_call_is_found(line):
    assert opened(f"def f():\n    {line}\n    inside.read_text(path)\n    atomic.write_text(path, '')") != set()
    assert opened("def f():\n    inside.read_text(path)\n    atomic.write_text(path, '')") == set()
