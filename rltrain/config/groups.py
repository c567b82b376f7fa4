"""The settings classes of each group of settings."""

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
