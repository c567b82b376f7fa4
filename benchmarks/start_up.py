"""Measure the start-up time of `rltrain --help`, and of trainings up to their first environment step.

The evaluation at step 0 is switched off: its time is that of every evaluation.

    python benchmarks/start_up.py

Starts each command several times. Prints the median and the extremes, and writes them to
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
from rltrain.run.run import Run
from rltrain.cli import main
def first(run, *args):
    print("first step", time.time(), flush=True)
    os._exit(0)
Run.advance = first
main()
"""
"""A training that ends after its first environment step, with which `Run.advance` is called."""


def help_s() -> float:
    """Return the time of `rltrain --help`, in seconds."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", MAIN, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start_s


def first_step_s(*keys: str) -> float:
    """Return the time from the start of a command to the end of its first environment step, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.time()
        settings = [f"run_dir={folder}", "progress=false", "eval_every_steps=0"]  # without the evaluation at step 0
        command = [sys.executable, "-c", FIRST_STEP, *keys, *settings]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(output.split()[-1]) - start_s


def main() -> None:
    """Measure all commands, and print and write the times."""
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
        measure()  # fills the file cache, as for a user who works with rltrain
        times = [measure() for _ in range(TRIES)]
        result[name] = {"median_s": round(statistics.median(times), 2), "least_s": round(min(times), 2),
                        "most_s": round(max(times), 2)}  # fmt: skip
        print(name, result[name], flush=True)
    (HERE / "results" / "start_up.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
