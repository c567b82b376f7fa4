"""Random numbers: one stream for each consumer, all of them from the run's seed."""

import zlib
from typing import Any

import numpy as np


class Streams:
    """The generators of a run, by the name of who draws from them."""

    def __init__(self, seed: int, states: dict[str, Any]) -> None:
        """`states` of an earlier process are taken up when their consumer first asks."""
        self._seed = seed
        self._saved = states
        self._generators: dict[str, np.random.Generator] = {}

    def generator(self, consumer: str) -> np.random.Generator:
        """The stream of one consumer."""
        if consumer not in self._generators:
            generator = np.random.default_rng([self._seed, zlib.crc32(consumer.encode())])
            if consumer in self._saved:
                generator.bit_generator.state = self._saved[consumer]
            self._generators[consumer] = generator
        return self._generators[consumer]

    def seed_of(self, consumer: str) -> int:
        """A seed for a consumer with random numbers of its own: an emulator, a network's first weights."""
        sequence = np.random.SeedSequence([self._seed, zlib.crc32(consumer.encode())])
        return int(sequence.generate_state(1)[0] >> 1)

    def states(self) -> dict[str, Any]:
        """Where every stream stands."""
        return {name: generator.bit_generator.state for name, generator in self._generators.items()}

    def rewind(self, states: dict[str, Any]) -> None:
        """Put the streams that have begun back to `states`."""
        for name, generator in self._generators.items():
            if name in states:
                generator.bit_generator.state = states[name]
