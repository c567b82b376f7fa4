"""Seconds that a user waits: `rltrain --help`, and a command up to its first environment step.

    python benchmarks/start_up.py

Each is started anew several times; the median and the extremes are printed and written to
benchmarks/results/start_up.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRIES = 7
MAIN = "from rltrain.cli import main; main()"
FIRST_STEP = """
import os, sys, time
from rltrain.run import Run
from rltrain.cli import main
def first(run, *args):
    print("first step", time.time(), flush=True)
    os._exit(0)
Run.advance = first
main()
"""
"""The first `advance` comes right after the first step."""


def help_s() -> float:
    """`rltrain --help`, from the command to its end."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", MAIN, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start_s


def first_step_s(*keys: str) -> float:
    """From the command to the end of the first step of the environments."""
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.time()
        command = [sys.executable, "-c", FIRST_STEP, *keys, f"run_dir={folder}", "progress=false"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(output.split()[-1]) - start_s


def main() -> None:
    """Measure and report."""
    os.environ["PYTHONPATH"] = str(HERE.parent)
    works = {
        "rltrain --help": help_s,
        "algo=q_learning env=taxi": lambda: first_step_s("algo=q_learning", "env=taxi"),
        "algo=ppo env=cartpole": lambda: first_step_s("algo=ppo", "env=cartpole"),
        "algo=ppo env=pong": lambda: first_step_s("algo=ppo", "env=pong"),
        "algo=dqn env=doom": lambda: first_step_s("algo=dqn", "env=doom"),
    }
    result = {}
    for name, measure in works.items():
        measure()  # files that were read once are in memory, as for anyone who works with it
        times = [measure() for _ in range(TRIES)]
        result[name] = {"median_s": round(statistics.median(times), 2), "least_s": round(min(times), 2),
                        "most_s": round(max(times), 2)}  # fmt: skip
        print(name, result[name], flush=True)
    (HERE / "results" / "start_up.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
