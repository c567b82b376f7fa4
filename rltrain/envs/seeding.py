"""The seeds of a pool's environments."""

import numpy as np


def env_seed(seed: int, index: int) -> int:
    """Return the seed of environment `index`, a number below 2^31 (ALE needs an int32).

    It depends only on (seed, index), not on the number of environments. It is a hash and not seed + index, so that
    neighbouring seeds share no environment.
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) & 0x7FFFFFFF
