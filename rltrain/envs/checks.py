"""What every family checks alike: numbers of the configuration, and one seed for each environment."""

import numpy as np

from rltrain.errors import ConfigError


def at_least(minimum: float, where: str, value: float) -> None:
    """Raise ConfigError if `value` of the field `where` (`env.stack_num`, say) lies below `minimum`."""
    if value < minimum:
        raise ConfigError(f"{where}={value} is too small", where, f"give at least {minimum}")


def one_of(known: tuple[str, ...], where: str, value: str) -> None:
    """Raise ConfigError if `value` of the field `where` is none of `known`."""
    if value not in known:
        raise ConfigError(f"{where}='{value}' is unknown", where, "use " + " or ".join(f"'{word}'" for word in known))


def env_seed(seed: int, index: int) -> int:
    """The seed of environment `index`, a function of (seed, index) alone: more environments leave it as it was.

    Neighbouring seeds share no environment, which adding the index would do. Below 2^31, as ALE takes an int32.
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) & 0x7FFFFFFF
