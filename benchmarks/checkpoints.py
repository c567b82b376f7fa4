"""Measure how long a checkpoint of a replay buffer of Atari-size frames stops the training.

    python benchmarks/checkpoints.py --frames 200000 --every 12500 --place /tmp

Fills a replay buffer with frames of 84 x 84 bytes and saves five checkpoints, `--every` new frames apart. Prints the
seconds and the written bytes of each. Needs `--frames` times 7 KB of memory, and three times as much disk space, which
is freed at the end.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from rltrain.buffers.batch import Transition
from rltrain.buffers.replay import Replay
from rltrain.run import checkpoint

NUM_ENVS = 8


def play(replay: Replay, frames: int, rng: np.random.Generator, first: bool) -> None:
    """Store `frames` random frames, which cannot be compressed."""
    frame = rng.integers(256, size=(NUM_ENVS, 1, 84, 84), dtype=np.uint8)
    no, yes = np.zeros(NUM_ENVS, bool), np.ones(NUM_ENVS, bool)
    for _ in range(frames // NUM_ENVS):
        following = np.roll(frame, 1, axis=-1)
        zeros = np.zeros(NUM_ENVS, np.int64)
        reward = zeros.astype(np.float32)
        replay.add(Transition(frame, zeros, reward, no, no, following, yes if first else no, no))
        frame, first = following, False


def main() -> None:
    """Print one line for each checkpoint, and one for loading the last one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--every", type=int, default=12_500)
    parser.add_argument("--place", default=None)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    replay = Replay(args.frames, NUM_ENVS, (1, 84, 84), np.uint8, (), np.int64, 4, 1, 0.99, rng)
    play(replay, args.frames, rng, first=True)
    previous = None
    with tempfile.TemporaryDirectory(dir=args.place) as place:
        for number in range(1, 6):
            start_ns, start_s = time.time_ns(), time.perf_counter()
            saved = checkpoint.save(Path(place), number, {"replay": replay.state_dict()}, previous=previous)
            took_s = time.perf_counter() - start_s
            new = sum(path.stat().st_size for path in saved.iterdir() if path.stat().st_mtime_ns >= start_ns)
            print(f"checkpoint {number}: {took_s:.2f} s, {new / 1e6:,.0f} MB written")
            previous = number
            play(replay, args.every, rng, first=False)
        start_s = time.perf_counter()
        state = checkpoint.load(Path(place))[1]
        replay.load_state_dict(state["replay"])
        print(f"load: {time.perf_counter() - start_s:.2f} s")


if __name__ == "__main__":
    main()
