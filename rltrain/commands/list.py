"""`rltrain list [algos|envs|networks|hparams] [WORD]`: what there is, one line each."""

from typing import Any

import yaml

from rltrain.errors import ConfigError, nearest

GROUPS = {"algos": "algo", "envs": "env", "networks": "network", "hparams": "hparams"}


def main(argv: list[str]) -> int:
    """Returns the exit code. Raises ConfigError."""
    from rltrain.hydra_app import CONFIGS

    if argv and argv[0] not in GROUPS:
        raise ConfigError(f"there is no list of '{argv[0]}'", "rltrain list", nearest(argv[0], GROUPS))
    for title in argv[:1] or GROUPS:
        for path in sorted((CONFIGS / GROUPS[title]).glob("*.yaml")):
            if len(argv) < 2 or argv[1] in path.stem:
                print(f"{title[:-1]:<8} {path.stem:<32} {_summary(path.read_text())}")
    return 0


def _summary(text: str) -> str:
    """The file's first comment, or its values."""
    if text.startswith("#"):
        lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        lines = [line for line in lines if not line.startswith("@package")]
        if lines:
            return lines[0]
    values: dict[str, Any] = {key: value for key, value in (yaml.safe_load(text) or {}).items() if key != "defaults"}
    return ", ".join(f"{key}={value}" for key, value in values.items() if key != "name")
