"""The groups of settings: their classes, and what tells two jobs of a sweep apart."""

from collections.abc import Mapping
from typing import Any

from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import ENVIRONMENTS
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RUNTIMES


def settings_classes() -> dict[str, dict[str, type]]:
    """Return the settings classes of each group by name; those of every run stand under an empty text.

    A function, because plug-ins add classes.
    """
    return {
        "": {"run": RunConfig},
        "algo": {**ALGOS},
        "env": {**ENVIRONMENTS},
        "network": {"network": NetworkConfig},
        "runtime": {**RUNTIMES},
    }


def with_varied(flat: dict[str, Any], varies: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a run, with dotted keys, and what varies in its sweep where they do not tell it.

    An algorithm or environment of the user's has the name of the one that it is made from, the choice of tuned settings
    is no setting, and of a mapping each entry has a key of its own.
    """
    return flat | {key: text for key, text in varies.items() if key in ("algo", "env", "network") or key not in flat}
