"""`rltrain list [algos|envs|networks|hparams] [WORD]`: list the choices, one per line."""

import difflib
import re
from pathlib import Path

from rltrain.errors import ConfigError, nearest

USAGE = "rltrain list [algos|envs|networks|hparams] [WORD]"

GROUPS = {"algos": "algo", "envs": "env", "networks": "network", "hparams": "hparams"}
_PACKAGE = "@package"


def main(argv: list[str]) -> int:
    """Print each choice whose name or description contains WORD, from one list or from all lists.

    Returns the exit code. Raises ConfigError.
    """
    titles, words = (argv[:1], argv[1:]) if argv and argv[0] in GROUPS else (list(GROUPS), argv)
    if words == argv and words and (len(words) > 1 or difflib.get_close_matches(words[0], GROUPS)):
        raise ConfigError(f"unknown list '{argv[0]}'", "rltrain list", nearest(argv[0], GROUPS))
    if len(words) > 1:
        raise ConfigError(f"list takes at most 2 words, but got {len(argv)}", "command line", f"usage: {USAGE}")
    word = words[0].lower() if words else ""
    choices = {title: _choices(GROUPS[title]) for title in titles}
    num_found = 0
    for title, lines in choices.items():
        found = {name: text for name, text in lines.items() if word in f"{name} {text}".lower()}
        num_found += len(found)
        width = max(map(len, found), default=0)
        for name, text in found.items():
            print(f"{GROUPS[title]:<8} {name:<{width}}  {text}".rstrip())
    if word and not num_found:
        what = GROUPS[titles[0]] if len(titles) == 1 else "choice"
        known = {name for lines in choices.values() for name in lines}
        raise ConfigError(f"no {what} contains '{word}'", "rltrain list", nearest(word, known))
    return 0


def _choices(group: str) -> dict[str, str]:
    """Return the descriptions of a group's choices by name, from rltrain's YAML files and from plugins."""
    from rltrain.app.paths import CONFIGS
    from rltrain.plugins import OPTIONS

    lines = {path.stem: description(path) for path in sorted((CONFIGS / group).glob("*.yaml"))}
    if group == "hparams":
        for name, envs in _borrowers(list(lines)).items():
            lines[name] += f" (also for {', '.join(envs)})"
    return lines | {name: option.text for (of, name), option in OPTIONS.items() if of == group}


def _borrowers(tuned: list[str]) -> dict[str, list[str]]:
    """Return the environments that use a file of tuned settings through `tuned_as`, by the file's name."""
    from rltrain.app.hparams import tuned_as, tuned_env
    from rltrain.config.algorithms import ALGOS

    taken: dict[str, list[str]] = {}
    for env in _choices("env"):
        family = tuned_as(env)
        for algo in ALGOS if family else ():
            if f"{algo}_{family}" in tuned and tuned_env(algo, env) == family:
                taken.setdefault(f"{algo}_{family}", []).append(env)
    return taken


def description(path: Path) -> str:
    """Return the first comment line of a YAML file, which describes the choice, or "" if there is none.

    If the last sentence continues on the next line, the description ends with the last part that can stand alone.
    """
    for line in path.read_text().splitlines():
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
