"""Random numbers: one stream for each consumer, derived from the run's seed."""

import zlib
from typing import Any

import numpy as np


class Streams:
    """The random number generators of a run, by consumer."""

    def __init__(self, seed: int, states: dict[str, Any]) -> None:
        """states: saved states of generators; each is restored when its consumer first asks for the generator.

        Raises ValueError, TypeError or LookupError for the state of another kind of generator.
        """
        for state in states.values():  # now, while another checkpoint can still be tried
            np.random.default_rng(0).bit_generator.state = state
        self._seed = seed
        self._saved = states
        self._generators: dict[str, np.random.Generator] = {}

    def generator(self, consumer: str) -> np.random.Generator:
        """Return the generator of a consumer."""
        if consumer not in self._generators:
            generator = np.random.default_rng([self._seed, zlib.crc32(consumer.encode())])
            if consumer in self._saved:
                generator.bit_generator.state = self._saved[consumer]
            self._generators[consumer] = generator
        return self._generators[consumer]

    def seed_of(self, consumer: str) -> int:
        """Return a seed for a consumer with its own random numbers, such as an emulator or the initial weights."""
        sequence = np.random.SeedSequence([self._seed, zlib.crc32(consumer.encode())])
        return int(sequence.generate_state(1)[0] >> 1)

    def states(self) -> dict[str, Any]:
        """Return the state of every generator."""
        return {name: generator.bit_generator.state for name, generator in self._generators.items()}

    def rewind(self, states: dict[str, Any]) -> None:
        """Reset the generators in use to `states`."""
        for name, generator in self._generators.items():
            if name in states:
                generator.bit_generator.state = states[name]
