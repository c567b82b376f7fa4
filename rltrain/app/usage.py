"""Text of `rltrain --help` and `--version`. It is read from the sources without importing torch, so it is fast."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import tomllib
from importlib import metadata
from typing import Any

from rltrain.app.paths import PACKAGE
from rltrain.config import plugin_modules
from rltrain.system import terminal

COMMANDS = {
    "resume": "continue a run from its last checkpoint, or the jobs of a sweep that are not done",
    "reproduce": "train a new run with the settings of an earlier one",
    "eval": "evaluate a checkpoint in new environments",
    "play": "watch an agent in a window, or record a video if there is no display",
    "runs": "show a table of runs: state, steps, score, speed, age",
    "plot": "plot learning curves over seeds, as PNG and CSV",
    "export": "write an agent's network as ONNX, TorchScript or pt2, for use without rltrain",
    "list": "list algorithms, environments, networks and tuned settings",
    "doctor": "check what works on this machine, what is missing, and how to fix it",
}

_START = """rltrain trains deep reinforcement learning agents.

  rltrain algo=dqn env=doom                       train; settings are key=value
  rltrain -m algo=dqn,ppo env=cartpole seed=0,1   sweep: one run for each combination
"""

_KEYS = """
RUN is a run folder, a checkpoint in it, the name given with name=..., or `last`. `rltrain COMMAND --help` shows the
keys of a command.

Write settings as key=value, without spaces or dashes: total_steps=1e6 algo.gamma=0.95 env.frame_skip=4

  rltrain list                              list the choices for algo, env and network
  rltrain algo=ppo env=doom --help          explain the keys of a pair, with its tuned values
  rltrain algo=ppo runtime=torchrun --help  explain the keys of a training in several processes
  rltrain algo=impala runtime=ray --help    explain the keys of a training with actors on a Ray cluster
  rltrain algo=ppo env=doom --cfg job       show all values, including the tuned ones
  rltrain config=FILE                       take settings from a YAML file, such as a run's config.yaml
  rltrain algo=ppo env=doom dry_run=true    build everything, make one update, keep nothing
  eval "$(rltrain -sc install=bash)"        turn on TAB completion
  rltrain --hydra-help                      show the options of Hydra, which reads the settings
"""


def version() -> str:
    """Return the version of the installed package, or of the checkout."""
    try:
        return metadata.version("rltrain")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["version"])


def short() -> str:
    """Return the text that `rltrain` prints without arguments."""
    text = _START + "".join(f"\n  rltrain {command:<10} {what}" for command, what in COMMANDS.items())
    return fitted(text)


def fitted(text: str) -> str:
    """Return a text whose lines are broken between words on a terminal that is too narrow for them."""
    lines = []
    for line in text.splitlines():
        columns = re.match(r" *\S.*? {2,}(?=\S)| *", line)
        lines.append(terminal.wrapped(line, sys.stdout, indent=columns.end() if columns else 0))
    return "\n".join(lines)


def text(argv: list[str]) -> str:
    """Return the text of `rltrain [algo=...] [env=...] --help`.

    It explains the keys of every run and, if the command line chooses algo or env, the keys of these choices.
    """
    schemas, chosen = _chosen(argv)
    what = "the values of this command line" if chosen else "their defaults"
    parts = [short(), fitted(_KEYS), "", f"Keys of every run, with {what}:", ""]
    parts += _keys((PACKAGE / "config" / "run.py").read_text(), "RunConfig", "", chosen).values()
    for prefix, schema in schemas.items():
        group = prefix.removesuffix(".")
        if len(dataclasses.fields(schema)) == 1:  # only its name: runtime=local
            continue
        parts += ["", f"Keys of {group}:", ""]
        values = {field.name: field.default for field in dataclasses.fields(schema)} | chosen.get(group, {})
        lines: dict[str, str] = {}  # a class can replace the text of a key of its base class
        for owner in reversed(schema.__mro__[:-1]):
            lines |= _keys(inspect.getsource(inspect.getmodule(owner) or owner), owner.__name__, prefix, values)
        parts += lines.values()
    return "\n".join(parts)


def _chosen(argv: list[str]) -> tuple[dict[str, type], dict[str, Any]]:
    """Return the settings classes that the command line chooses, by prefix, and all values.

    Raises ConfigError for an unknown choice.
    """
    if not any(arg.startswith(("algo=", "env=", "runtime=")) for arg in argv):
        return {}, {}
    from rltrain.app import hydra_app

    plugin_modules.load(plugin_modules.given(argv))
    hydra_app.refuse_unknown_choices(argv)
    return hydra_app.chosen_schemas(argv), hydra_app.composed(argv)


def _keys(source: str, class_name: str, prefix: str, values: dict[str, Any] | None = None) -> dict[str, str]:
    """Return `key=default` with the docstring of each field of a dataclass, by field; fields without one are left out.

    values: values that replace the defaults, from a derived class or a command line.
    """
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == class_name)
    lines = {}
    for field, doc in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(doc, ast.Expr):
            continue
        if ast.unparse(field.annotation).startswith("ClassVar"):  # no setting
            continue
        assert isinstance(field.target, ast.Name) and isinstance(doc.value, ast.Constant)
        default = _default(field.value)
        if values and values[field.target.id] is not dataclasses.MISSING:
            default = _written(values[field.target.id])
        head = f"  {prefix}{field.target.id}={default}"
        words = " ".join(str(doc.value.value).split())
        width = min(118, terminal.width(sys.stdout))
        lines[field.target.id] = textwrap.fill(words, width, initial_indent=f"{head:<36} ", subsequent_indent=" " * 37)
    return lines


def _default(value: ast.expr | None) -> str:
    if isinstance(value, ast.Constant):
        return _written(value.value)
    return "..." if value is None or isinstance(value, ast.Call) else ast.unparse(value)


def _written(value: Any) -> str:
    """Return a value as it is written on the command line."""
    text = str(value).replace("'", "").replace(", ", ",")
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)
