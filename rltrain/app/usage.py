"""What `rltrain --help` and `--version` say; read from the sources, so that help comes at once, without torch."""

import ast
import dataclasses
import inspect
import textwrap
import tomllib
from importlib import metadata
from typing import Any

from rltrain.app.paths import PACKAGE
from rltrain.config import plugin_modules

COMMANDS = {
    "resume": "go on with a run",
    "eval": "evaluate a run's checkpoint in fresh environments",
    "play": "watch a run's agent in a window, or film it where there is no display",
    "runs": "a table of runs: state, steps, score, speed, age",
    "plot": "learning curves over seeds, as PNG and CSV",
    "export": "a run's network as ONNX, TorchScript or pt2, for use without rltrain",
    "list": "what there is: algorithms, environments, networks, tuned settings",
    "doctor": "what works on this machine, what is missing, and how to mend it",
}

_START = """rltrain trains deep reinforcement learning agents.

  rltrain algo=dqn env=doom                       train; settings are key=value
  rltrain -m algo=dqn,ppo env=cartpole seed=0,1   sweep: every combination is a run
"""

_KEYS = """
RUN is a run folder, a checkpoint in one, the name that name=... gave it, or `last`. `rltrain COMMAND --help` shows a
command's keys.

Settings are written key=value, without spaces and dashes: total_steps=1e6 algo.gamma=0.95 env.frame_skip=4

  rltrain list                              the choices of algo, env and network
  rltrain algo=ppo env=doom --help          the keys of a pair, explained, with its tuned values
  rltrain algo=ppo env=doom --cfg job       their values, tuned ones included
  rltrain algo=ppo env=doom dry_run=true    try it: build everything, learn once, keep nothing
  eval "$(rltrain -sc install=bash)"        completion with TAB
  rltrain --hydra-help                      the options of Hydra, which reads the settings
"""


def version() -> str:
    """rltrain's version: of the installed package, or of the checkout."""
    try:
        return metadata.version("rltrain")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["version"])


def short() -> str:
    """What to type: for `rltrain` alone."""
    return _START + "".join(f"\n  rltrain {command:<10} {text}" for command, text in COMMANDS.items())


def text(argv: list[str]) -> str:
    """For `rltrain [algo=...] [env=...] --help`: every key of a run and, where a choice is given, the keys of that."""
    schemas, chosen = _chosen(argv)
    what = "what this command line makes of them" if chosen else "what they are by themselves"
    parts = [short(), _KEYS, f"Keys of every run, with {what}:", ""]
    parts += _keys((PACKAGE / "config" / "run.py").read_text(), "RunConfig", "", chosen).values()
    for prefix, schema in schemas.items():
        group = prefix.removesuffix(".")
        parts += ["", f"Keys of {group}:", ""]
        values = {field.name: field.default for field in dataclasses.fields(schema)} | chosen.get(group, {})
        keys: dict[str, str] = {}
        for owner in reversed(schema.__mro__[:-1]):
            keys |= _keys(inspect.getsource(inspect.getmodule(owner) or owner), owner.__name__, prefix, values)
        parts += keys.values()
    return "\n".join(parts)


def _chosen(argv: list[str]) -> tuple[dict[str, type], dict[str, Any]]:
    """The schemas of what the command line chooses, by prefix, and its values. Raises ConfigError where there is no
    such choice."""
    if not any(arg.startswith(("algo=", "env=")) for arg in argv):
        return {}, {}
    from rltrain.app import hydra_app

    plugin_modules.load(plugin_modules.given(argv))
    hydra_app.refuse_unknown_choices(argv)
    return hydra_app.chosen_schemas(argv), hydra_app.composed(argv)


def _keys(source: str, class_name: str, prefix: str, values: dict[str, Any] | None = None) -> dict[str, str]:
    """`key=default` and the docstring under each field of a dataclass, by key; fields without one explain themselves.

    values: what stands for the defaults, where a class that inherits these fields or a command line has others.
    """
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == class_name)
    lines = {}
    for field, doc in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(doc, ast.Expr):
            continue
        if ast.unparse(field.annotation).startswith("ClassVar"):  # of the class, and no setting
            continue
        assert isinstance(field.target, ast.Name) and isinstance(doc.value, ast.Constant)
        if values and field.target.id not in values:
            continue  # a ClassVar, which tells of the class and is no key
        default = _default(field.value)
        if values and values[field.target.id] is not dataclasses.MISSING:
            default = _written(values[field.target.id])
        head = f"  {prefix}{field.target.id}={default}"
        words = " ".join(str(doc.value.value).split())
        lines[field.target.id] = textwrap.fill(words, 118, initial_indent=f"{head:<36} ", subsequent_indent=" " * 37)
    return lines


def _default(value: ast.expr | None) -> str:
    if isinstance(value, ast.Constant):
        return _written(value.value)
    return "..." if value is None or isinstance(value, ast.Call) else ast.unparse(value)


def _written(value: Any) -> str:
    """As the command line has it."""
    text = str(value).replace("'", "").replace(", ", ",")
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)
