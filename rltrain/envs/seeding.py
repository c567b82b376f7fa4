"""One seed for each environment of a pool."""

import numpy as np


def env_seed(seed: int, index: int) -> int:
    """The seed of environment `index`, a function of (seed, index) alone: more environments leave it as it was.

    Neighbouring seeds share no environment, which adding the index would do. Below 2^31, as ALE takes an int32.
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) & 0x7FFFFFFF
