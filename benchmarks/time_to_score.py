"""Measure the seconds of training until a score, for rltrain and for Stable-Baselines3 with RL Zoo's settings.

    python benchmarks/time_to_score.py ppo --peer ../peer-sb3/bin/python
    python benchmarks/time_to_score.py dqn_doom --seeds 3

The scores are 475 for CartPole and 75 for Doom, which runs for rltrain only. Both sides evaluate in the same way
(score_side.py). Writes benchmarks/results/time_to_score_<goal>.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_STEPS = {
    "ppo": {"ours": 40_960, "peer": 100_000},
    "dqn": {"ours": 50_000, "peer": 50_000},
    "dqn_doom": {"ours": 25_000},
}
"""The most agent steps. The settings are tuned for these lengths, at which their schedules end."""


def main() -> None:
    """Train every seed on both sides in turn, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goal", choices=MAX_STEPS)
    parser.add_argument("--peer", help="python of the peer's virtual environment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keys", nargs="*", default=[], help="more keys for our side")
    options = parser.parse_args()
    if "peer" in MAX_STEPS[options.goal] and not options.peer:
        parser.error("--peer is needed for this goal")
    pythons = {"ours": sys.executable, "peer": options.peer}
    runs: dict[str, list[dict]] = {side: [] for side in MAX_STEPS[options.goal]}
    for seed in range(options.seeds):
        for side in list(runs) if seed % 2 == 0 else list(runs)[::-1]:
            command = [pythons[side], str(HERE / "score_side.py"), side, options.goal, str(seed)]
            command += [str(MAX_STEPS[options.goal][side]), *(options.keys if side == "ours" else [])]
            env = os.environ | ({"PYTHONPATH": str(HERE.parent)} if side == "ours" else {})
            output = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
            runs[side].append(json.loads(output.strip().splitlines()[-1]))
            print(seed, side, runs[side][-1], flush=True)
    result = {"goal": options.goal, "keys": options.keys}
    for side, tries in runs.items():
        reached = [each["train_s"] for each in tries if each["reached"]]
        result[side] = {"runs": tries, "reached": len(reached)}
        result[side]["median_s"] = statistics.median(reached) if reached else None
    (HERE / "results" / f"time_to_score_{options.goal}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
