"""PPO or DQN on Pong, ours against Stable-Baselines3: the same game rules, network, batch and updates per step.

    python benchmarks/against_sb3.py ppo --peer ../peer-sb3/bin/python

Blocks run ours, peer, peer, ours; each skips its own start-up. Prints the median of the per-pair ratios with a
bootstrap interval and writes benchmarks/results/<name>.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
STEPS = {"ppo": (2048, 8192), "dqn": (2000, 4000)}
"""Warm-up and measured agent steps of a block."""


def ours(algo: str, precision: str) -> float:
    """Agent steps/s of rltrain between the lines of metrics.jsonl that bound the measured part."""
    warm_up, steps = STEPS[algo]
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            f"algo={algo}",
            "env=pong",
            "network=nature_cnn",
            f"total_steps={warm_up + steps}",
            f"precision={precision}",
        ]
        argv += [f"run_dir={folder}", "eval_every_steps=0", "checkpoint_every_steps=0", "final_eval_episodes=1"]
        argv += ["progress=false", "log_every_steps=1024"]
        if algo == "ppo":
            argv += ["algo.learning_rate_end=null"]
        else:
            argv += [f"algo.learning_starts={warm_up // 2}", "algo.replay_capacity=20000"]
        subprocess.run([sys.executable, "-c", "from rltrain.cli import main; main()", *argv], check=True)
        lines = [json.loads(line) for line in next(Path(folder).rglob("metrics.jsonl")).read_text().splitlines()]
    lines = [line for line in lines if "time/fps" in line]
    first = next(line for line in lines if line["step"] >= warm_up)
    return (lines[-1]["step"] - first["step"]) / (lines[-1]["time_s"] - first["time_s"])


def peer(algo: str, python: str) -> float:
    """Agent steps/s of Stable-Baselines3."""
    command = [python, str(HERE / "sb3_block.py"), algo, *map(str, STEPS[algo])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.strip().splitlines()[-1])["steps_per_s"])


def main() -> None:
    """Run the blocks and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algo", choices=STEPS)
    parser.add_argument("--peer", required=True, help="python of the peer's virtual environment")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for block in range(options.pairs):
        sides = ["ours", "peer"] if block % 2 == 0 else ["peer", "ours"]
        for side in sides:
            rate = ours(options.algo, options.precision) if side == "ours" else peer(options.algo, options.peer)
            rates[side].append(rate)
            print(f"block {block} {side} {rate:.0f} steps/s", flush=True)
    ratio = np.array(rates["ours"]) / np.array(rates["peer"])
    draws = np.random.default_rng(0).choice(ratio, (10_000, len(ratio)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    result = {
        "algo": options.algo,
        "precision": options.precision,
        **{side: [round(rate, 1) for rate in values] for side, values in rates.items()},
        "ratio": round(float(np.median(ratio)), 3),
        "interval_95": [round(float(low), 3), round(float(high), 3)],
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"pong_{options.algo}_{options.precision}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
