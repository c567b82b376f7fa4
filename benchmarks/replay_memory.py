"""Compare the memory of a replay buffer of Atari frames with Stable-Baselines3's.

    python benchmarks/replay_memory.py --peer ../peer-sb3/bin/python

Measures the growth of the process while 20,000 frames are stored, and predicts the memory for a million frames. (A
million frames of Stable-Baselines3 would not fit in most machines.) Writes benchmarks/results/replay_memory.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

FULL, MEASURED = 1_000_000, 20_000

OURS = """
import sys, numpy as np, psutil
from rltrain.buffers.batch import Transition
from rltrain.buffers.replay import Replay, bytes_per_transition
size = int(sys.argv[1])
before = psutil.Process().memory_info().rss
replay = Replay(size, 1, (1, 84, 84), np.uint8, (), np.int64, 4, 1, 0.99, np.random.default_rng(0))
no, frame = np.zeros(1, bool), np.ones((1, 1, 84, 84), np.uint8)
for step in range(size):
    action, reward, first = np.zeros(1, np.int64), np.zeros(1, np.float32), ~no if step == 0 else no
    replay.add(Transition(frame, action, reward, no, no, frame, first, no))
print(psutil.Process().memory_info().rss - before, bytes_per_transition((1, 84, 84), np.uint8, (), np.int64))
"""
PEER = """
import sys, numpy as np, psutil
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
size = int(sys.argv[1])
before = psutil.Process().memory_info().rss
replay = ReplayBuffer(size, spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), "cpu", 1)
stack = np.ones((1, 4, 84, 84), np.uint8)
for _ in range(size):
    replay.add(stack, stack, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
arrays = (replay.observations, replay.next_observations, replay.actions, replay.rewards, replay.dones, replay.timeouts)
print(psutil.Process().memory_info().rss - before, sum(array.nbytes for array in arrays) / size)
"""


def side(python: str, code: str) -> dict:
    """Return the measured memory for MEASURED frames, and the predicted memory for MEASURED and FULL frames, in GB."""
    output = subprocess.run([python, "-c", code, str(MEASURED)], check=True, capture_output=True, text=True).stdout
    grown, each = map(float, output.split())
    return {
        "measured_gb": round(grown / 1e9, 3),
        "predicted_at_measured_size_gb": round(each * MEASURED / 1e9, 3),
        "predicted_for_a_million_gb": round(each * FULL / 1e9, 2),
    }


def main() -> None:
    """Measure both replay buffers, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="python of the peer's virtual environment")
    options = parser.parse_args()
    result = {"frames_measured": MEASURED, "ours": side(sys.executable, OURS), "peer": side(options.peer, PEER)}
    result["ratio"] = round(
        result["peer"]["predicted_for_a_million_gb"] / result["ours"]["predicted_for_a_million_gb"], 2
    )
    out = Path(__file__).resolve().parent / "results" / "replay_memory.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
