"""`rltrain list [algos|envs|networks|hparams] [WORD]`: what there is, one line each."""

from pathlib import Path

from rltrain.errors import ConfigError, nearest

USAGE = "rltrain list [algos|envs|networks|hparams] [WORD]"

GROUPS = {"algos": "algo", "envs": "env", "networks": "network", "hparams": "hparams"}
_PACKAGE = "@package"


def main(argv: list[str]) -> int:
    """One line for each YAML file whose name or description holds WORD. Returns the exit code. Raises ConfigError."""
    from rltrain.hydra_app import CONFIGS
    from rltrain.plugins import OPTIONS

    if argv and argv[0] not in GROUPS:
        raise ConfigError(f"there is no list of '{argv[0]}'", "rltrain list", nearest(argv[0], GROUPS))
    if len(argv) > 2:
        raise ConfigError(f"{len(argv)} words where at most 2 belong", "command line", f"usage: {USAGE}")
    word = argv[1].lower() if len(argv) == 2 else ""
    for title in argv[:1] or GROUPS:
        lines = {path.stem: description(path) for path in sorted((CONFIGS / GROUPS[title]).glob("*.yaml"))}
        lines |= {name: option.text for (group, name), option in OPTIONS.items() if group == GROUPS[title]}
        found = {name: text for name, text in lines.items() if word in f"{name} {text}".lower()}
        if word and not found:
            raise ConfigError(f"no {GROUPS[title]} has '{word}' in it", "rltrain list", nearest(word, lines))
        width = max(map(len, found), default=0)
        for name, text in found.items():
            print(f"{GROUPS[title]:<8} {name:<{width}}  {text}".rstrip())
    return 0


def description(path: Path) -> str:
    """The first comment line of a YAML file, which says to a person what the choice is; empty where there is none."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith(_PACKAGE):
            return text
    return ""
