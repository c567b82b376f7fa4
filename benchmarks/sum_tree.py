"""Compare rltrain's sum tree with a plain Python one, as most prioritized replay buffers use it.

    python benchmarks/sum_tree.py

One round does the tree's work of one update: sample 64 of a million transitions, then read and set their priorities.
Both trees do the same rounds in turn, so that a busy machine slows both. Prints the ratio of their times.
"""

import json
import statistics
import time
from pathlib import Path

import numpy as np

from rltrain.buffers.sum_tree import SumTree

CAPACITY, BATCH_SIZE, NUM_ROUNDS = 1_000_000, 64, 300


class PlainTree:
    """The textbook version: Python loops over one list of sums."""

    def __init__(self, priority: np.ndarray) -> None:
        self.num_leaves = 1 << (len(priority) - 1).bit_length()
        self.nodes = [0.0] * self.num_leaves + priority.tolist() + [0.0] * (self.num_leaves - len(priority))
        for node in range(self.num_leaves - 1, 0, -1):
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: float) -> int:
        """Return the index of the priority that contains `mass`."""
        node = 1
        while node < self.num_leaves:
            node *= 2
            if mass >= self.nodes[node]:
                mass -= self.nodes[node]
                node += 1
        return node - self.num_leaves

    def update(self, index: int, priority: float) -> None:
        """Set one priority."""
        node = self.num_leaves + index
        change = priority - self.nodes[node]
        while node >= 1:
            self.nodes[node] += change
            node >>= 1


def main() -> None:
    """Print and write the median time of a round for both trees, and the median ratio of paired rounds."""
    random = np.random.default_rng(0)
    initial = random.random(CAPACITY)
    ours, plain = SumTree(CAPACITY), PlainTree(initial)
    ours.load(initial)
    ours_s, plain_s = [], []
    for _ in range(NUM_ROUNDS):
        share = (np.arange(BATCH_SIZE) + random.random(BATCH_SIZE)) / BATCH_SIZE
        priority = random.random(BATCH_SIZE)
        start_s = time.perf_counter()
        index = ours.find(share * ours.total)
        _ = ours.priorities[index]
        ours.update(index, priority)
        middle_s = time.perf_counter()
        found = [plain.find(mass) for mass in (share * plain.nodes[1]).tolist()]
        _ = [plain.nodes[plain.num_leaves + i] for i in found]
        for i, value in zip(found, priority.tolist(), strict=True):
            plain.update(i, value)
        ours_s.append(middle_s - start_s)
        plain_s.append(time.perf_counter() - middle_s)
    ratio = np.array(plain_s[10:]) / np.array(ours_s[10:])
    draws = np.random.default_rng(0).choice(ratio, (2000, len(ratio)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    result = {
        "priorities": CAPACITY,
        "batch": BATCH_SIZE,
        "ours_us": round(statistics.median(ours_s) * 1e6, 1),
        "plain_us": round(statistics.median(plain_s) * 1e6, 1),
        "ratio": round(float(np.median(ratio)), 1),
        "interval_95": [round(float(low), 1), round(float(high), 1)],
    }
    (Path(__file__).resolve().parent / "results" / "sum_tree.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
