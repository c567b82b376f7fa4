"""`rltrain list [algos|envs|networks|hparams] [WORD]`: list the choices in groups, one per line."""

import difflib
import re
import sys
from pathlib import Path
from typing import Any

from rltrain.app.composition import of_an_environment
from rltrain.app.hparams import tuned_env
from rltrain.app.paths import CONFIGS, FOLDER_OPTIONS, config_folders, schema_name, yaml_names
from rltrain.config.algorithms import ALGOS, DISCRETE
from rltrain.config.environments import ENVIRONMENTS
from rltrain.errors import ConfigError, nearest, printable
from rltrain.plugins import OPTIONS
from rltrain.system import terminal

USAGE = "rltrain list [algos|envs|networks|hparams] [WORD] [--config-dir DIR] (with the choices in your folder DIR)"

GROUPS = {"algos": "algo", "envs": "env", "networks": "network", "hparams": "hparams"}
_PACKAGE = "@package"

_HEADINGS = {
    "tables": "tables (for a small number of states)",
    "values": "values (a network estimates the return of each action)",
    "policies": "policies (a network chooses the actions)",
    "gym": "Gymnasium",
    "atari": "Atari games",
    "doom": "Doom",
    "retro": "console games",
}
"""Headings of groups of algorithms and of families of environments, in the order of the list."""


def main(argv: list[str]) -> int:
    """Print each choice whose name or description contains WORD, from one list or from all lists.

    Several groups have a heading each, which begins with `#`. Returns the exit code. Raises ConfigError.
    """
    folders = config_folders(argv)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"there is no folder '{folder}'", "--config-dir", "give the folder of your YAML files")
    argv = _without_folders(argv)
    titles, words = (argv[:1], argv[1:]) if argv and argv[0] in GROUPS else (list(GROUPS), argv)
    if words == argv and words and (len(words) > 1 or difflib.get_close_matches(words[0], GROUPS)):
        raise ConfigError(f"unknown list '{argv[0]}'", "rltrain list", nearest(argv[0], GROUPS))
    if len(words) > 1:
        raise ConfigError(f"list takes at most 2 words, but got {len(argv)}", "command line", f"usage: {USAGE}")
    word = words[0].lower() if words else ""
    choices = {title: _choices(GROUPS[title], folders) for title in titles}
    sections: dict[str, dict[str, str]] = {}
    for title, lines in choices.items():
        found = {name: text for name, text in lines.items() if word in f"{name} {text}".lower()}
        sections |= _sections(GROUPS[title], found, folders)
    for number, (heading, lines) in enumerate(sections.items()):
        if len(sections) > 1:
            print(("\n" if number else "") + terminal.styled(f"# {heading}", "bold", sys.stdout))
        width = max(map(len, lines))
        for name, text in lines.items():
            line = f"{heading.partition(':')[0]:<8} {name:<{width}}  {text}".rstrip()
            print(terminal.wrapped(printable(line), sys.stdout, indent=width + 11))
    if word and not sections:
        what = GROUPS[titles[0]] if len(titles) == 1 else "choice"
        known = {name for lines in choices.values() for name in lines}
        raise ConfigError(f"no {what} contains '{word}'", "rltrain list", nearest(word, known))
    return 0


def _without_folders(argv: list[str]) -> list[str]:
    """Leave out what names the user's config folders."""
    words = zip(["", *argv], argv, strict=False)
    kept = [word for before, word in words if before not in FOLDER_OPTIONS and word not in FOLDER_OPTIONS]
    return [word for word in kept if not word.startswith(("--config-dir=", "hydra.searchpath="))]


def _sections(group: str, lines: dict[str, str], folders: list[Path]) -> dict[str, dict[str, str]]:
    """Return the choices of a group by the heading that they stand below, `algo: tables, for ...`."""
    kinds = {name: _kind(group, name, folders) for name in lines}
    order = {kind: number for number, kind in enumerate(_HEADINGS)}
    sections: dict[str, dict[str, str]] = {}
    for kind in sorted(set(kinds.values()), key=lambda kind: (order.get(kind, len(order)), kind)):
        heading = f"{group}: {_HEADINGS.get(kind, kind)}" if kind else group
        sections[heading] = {name: text for name, text in lines.items() if kinds[name] == kind}
    return sections


def _kind(group: str, name: str, folders: list[Path]) -> str:
    """Return the kind of an algorithm, the family of an environment, or the algorithm of tuned settings, else ""."""
    option = OPTIONS.get((group, name))
    schema = schema_name(group, name, folders)
    if group == "algo":
        settings: Any = option.settings if option else ALGOS.get(schema, ALGOS["ppo"])
        return "tables" if settings.is_tabular else "values" if settings.action_kinds == (DISCRETE,) else "policies"
    if group == "env":
        family = str(option.settings.family) if option else schema
        return family if option or family in ENVIRONMENTS else "gym"
    if group == "hparams":
        own = [path.stem for folder in folders for path in (folder / "algo").glob("*.yaml")]
        algos = [algo for algo in (*ALGOS, *own) if name.rpartition("/")[2].startswith(f"{algo}_")]
        return max(algos, key=len, default="")
    return ""


def _choices(group: str, folders: list[Path]) -> dict[str, str]:
    """Return the descriptions of a group's choices by name: from YAML files, rltrain's and the user's, and plugins."""
    lines = {name: description(path) for name, path in yaml_names(CONFIGS / group).items()}
    for name, path in (found for folder in folders for found in yaml_names(folder / group).items()):
        if name not in lines:
            lines[name] = f"{description(path)} ({path})".lstrip()
    if group == "hparams":
        for name, envs in _borrowers(list(lines), folders).items():
            lines[name] += f" (also for {', '.join(envs)})"
    return lines | {name: option.text for (of, name), option in OPTIONS.items() if of == group}


def _borrowers(tuned: list[str], folders: list[Path]) -> dict[str, list[str]]:
    """Return the environments that use a file of tuned settings through `tuned_as`, by the file's name."""
    taken: dict[str, list[str]] = {}
    for env in _choices("env", folders):
        files = of_an_environment(env, [CONFIGS, *folders])
        family = files.value("env.tuned_as")
        for algo in ALGOS if family else ():
            if f"{algo}_{family}" in tuned and tuned_env(algo, env, files) == family:
                taken.setdefault(f"{algo}_{family}", []).append(env)
    return taken


def description(path: Path) -> str:
    """Return the first comment line of a YAML file, which describes the choice, or "" if there is none.

    If the last sentence continues on the next line, the description ends with the last part that can stand alone.
    """
    for line in path.read_text(errors="replace").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith(_PACKAGE):
            return _whole(text)
    return ""


def _whole(text: str) -> str:
    """Cut an unfinished sentence: `First, second; third, and` becomes `First, second`."""
    if text.endswith("."):
        return text
    for ends in (r"(?<=[.])\s", r"[;:](\s|$)", r",(\s|$)"):
        found = list(re.finditer(ends, text))
        if found:
            return text[: found[-1].start()]
    return text
