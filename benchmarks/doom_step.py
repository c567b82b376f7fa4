"""Measure the time of a step of a Doom pool and of its parts. Prints microseconds and ratios.

    python benchmarks/doom_step.py --envs 8
    taskset -c 1 python benchmarks/doom_step.py --envs 16

Compares `rltrain.envs.threads` with `concurrent.futures`, in blocks of random order over the same engines. Prints the
ratios of wall time and of the trainer's CPU time. On a busy machine the ratio of CPU time is more reliable.
"""

import argparse
import functools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import cv2
import numpy as np
import psutil

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.scenario import make_pool

STEPS = 25


class Futures:
    """The interface of rltrain.envs.threads.Threads, implemented with the standard library."""

    def __init__(self, num_threads: int) -> None:
        self.executor = ThreadPoolExecutor(num_threads)
        self.pending: list = []

    def submit(self, number: int, job) -> None:
        """Let any free thread run the job."""
        self.pending.append(self.executor.submit(job))

    def wait(self, while_waiting) -> None:
        """Wait for all jobs."""
        pending, self.pending = self.pending, []
        wait_for(pending)
        for future in pending:
            future.result()


def engines_s() -> float:
    """Return the CPU time of the engines so far, in seconds."""
    engines = [child for child in psutil.Process().children(recursive=True) if child.name() == "vizdoom"]
    return sum(sum(engine.cpu_times()[:2]) for engine in engines)


def block(pool, actions: np.ndarray) -> tuple[float, float, float]:
    """Return wall time, trainer's CPU time and engines' CPU time of one agent step, in microseconds."""
    before = time.perf_counter(), time.process_time(), engines_s()
    for action in actions:
        pool.step(action)
    after = time.perf_counter(), time.process_time(), engines_s()
    return tuple((b - a) / actions.size * 1e6 for a, b in zip(before, after, strict=True))


def per_call_us(call, repetitions: int = 2000) -> float:
    """Return the CPU time of one call in this thread, in microseconds: the best of five measurements."""
    times = []
    for _ in range(5):
        start_s = time.thread_time()
        for _ in range(repetitions):
            call()
        times.append((time.thread_time() - start_s) / repetitions * 1e6)
    return min(times)


def main() -> None:
    """Measure and print the times of the parts, then the times and ratios of steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=60)
    args = parser.parse_args()
    screen = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    for width, height in ((80, 60), (84, 84), (120, 100)):
        resize = functools.partial(cv2.resize, screen, (width, height), interpolation=cv2.INTER_AREA)
        print(f"160 x 120 to {width} x {height}: {per_call_us(resize):.1f} us")
    pool = make_pool(DoomConfig("doom_basic"), args.envs)
    pool.reset(0)
    kinds = {"threads": pool._threads, "futures": Futures(args.envs)}
    random = np.random.default_rng(0)
    measured: dict[str, list] = {kind: [] for kind in kinds}
    for number in range(-1, args.blocks):
        for kind in random.permutation(list(kinds)):
            pool._threads = kinds[kind]
            times = block(pool, random.integers(pool.action_space.n, size=(STEPS, args.envs)))
            if number >= 0:
                measured[kind].append(times)
    pool._threads = kinds["threads"]
    pool.close()
    for kind, blocks in measured.items():
        wall, trainer, engines = (statistics.median(values) for values in zip(*blocks, strict=True))
        print(f"{kind}: {wall:.0f} us per agent step; CPU time: trainer {trainer:.0f} us, engines {engines:.0f} us")
    for index, name in enumerate(("wall", "trainer's CPU")):
        ratios = [
            futures[index] / threads[index]
            for threads, futures in zip(measured["threads"], measured["futures"], strict=True)
        ]
        draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
        print(f"{name} time, futures / threads: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
