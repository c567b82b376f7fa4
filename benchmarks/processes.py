"""Compare one run in one and in several processes (`runtime=torchrun`): its numbers, and its speed.

    python benchmarks/processes.py same                     parameters and episodes of PPO on CartPole, 4,096 steps
    python benchmarks/processes.py speed algo=ppo env=pong  steps/s of one process, and of several
    python benchmarks/processes.py curves algo=ppo env=pong total_steps=100_000   learning curves over five seeds

Prints a table. The processes share this machine's cores.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from rltrain.math.statistics import bootstrap_interval, mean
from rltrain.run import checkpoint

STEPS = 4096


def rltrain(*words: object) -> None:
    """Run a command. Raises CalledProcessError."""
    command = [sys.executable, "-m", "rltrain", *map(str, words), "progress=false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def processes(number: int) -> list[str]:
    """Return the settings of a run in so many processes."""
    return ["runtime=torchrun", f"runtime.processes={number}"]


def trained(place: Path, *words: str) -> Path:
    """Train a new run below `place` and return its folder."""
    rltrain(*words, f"run_dir={place}", "device=cpu")
    return (place / "latest").resolve()


def resumed(run: Path, place: Path, number: int) -> Path:
    """Resume a copy of a run from the middle, in so many processes, and return its folder."""
    copy = Path(shutil.copytree(run, place, symlinks=True))
    rltrain("resume", copy / "checkpoints" / f"step_{STEPS // 2:09d}", *processes(number))
    return copy


def arrays(run: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the agent in a run's last checkpoint: parameters and moments of the optimizer."""
    found: dict[str, np.ndarray] = {}

    def collect(path: str, value: object) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                collect(f"{path}/{key}", inner)
        elif not isinstance(value, str | int | float | None):
            found[path] = np.asarray(value)

    collect("", checkpoint.read(checkpoint.find(run))["agent"])
    return found


def same() -> None:
    """Print how far the parameters of runs in one and several processes are apart, and whether episodes are equal."""
    words = ["algo=ppo", "env=cartpole", f"total_steps={STEPS}", "eval_every_steps=0", "final_eval_episodes=1"]
    words += [f"checkpoint_every_steps={STEPS // 2}", "network.hidden_sizes=[64,64]"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = {name: trained(root / name, *words, *processes(number))
                for name, number in (("one", 1), ("two", 2), ("two again", 2), ("four", 4))}  # fmt: skip
        for number in (1, 2, 4):
            runs[f"two, resumed by {number}"] = resumed(runs["two"], root / f"resumed-{number}", number)
        for one, other in (("one", "two"), ("one", "four"), ("two", "two again"), ("two", "two, resumed by 2"),
                           ("two", "two, resumed by 1"), ("two", "two, resumed by 4")):  # fmt: skip
            ours, theirs = arrays(runs[one]), arrays(runs[other])
            assert ours.keys() == theirs.keys()
            apart = max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours)
            bitwise = all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)
            texts = [(runs[name] / "episodes.csv").read_text() for name in (one, other)]
            what = "bitwise equal" if bitwise else f"at most {apart:.1e} apart"
            episodes = "identical" if texts[0] == texts[1] else "different"
            print(f"| {one} and {other} | {what} | {texts[0].count(chr(10)) - 1} episodes, {episodes} |", flush=True)


def speed(words: list[str], numbers: list[int]) -> None:
    """Print the steps/s of a training with runtime=local and in several processes."""
    for name, settings in [("local", []), *((f"{number} processes", processes(number)) for number in numbers)]:
        with tempfile.TemporaryDirectory() as folder:
            run = trained(Path(folder), *words, *settings, "eval_every_steps=0", "final_eval_episodes=1")
            result = json.loads((run / "result.json").read_text())
        print(f"| {' '.join(words)} | {name} | {result['fps']:,.0f} steps/s |", flush=True)


PARTS = 8
"""Equal parts of a training, of whose episodes `curves` compares the mean returns."""


def curve(run: Path) -> list[float]:
    """Return the mean return of the episodes that ended in each part of a training, [PARTS]; NaN where none did."""
    with (run / "episodes.csv").open() as file:
        episodes = [(int(row["step"]), float(row["reward"])) for row in csv.DictReader(file)]
    total = json.loads((run / "result.json").read_text())["steps"]
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for step, reward in episodes:
        parts[min(PARTS - 1, (step - 1) * PARTS // total)].append(reward)
    return [float(np.mean(part)) if part else math.nan for part in parts]


def curves(words: list[str], numbers: list[int], seeds: int) -> None:
    """Print the mean return in each part of a training, with its 95% interval over seeds, locally and in processes."""
    local = None
    for name, settings in [("local", []), *((f"{number} processes", processes(number)) for number in numbers)]:
        rows = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                quiet = [f"seed={seed}", "eval_every_steps=0", "final_eval_episodes=1"]
                rows.append(curve(trained(Path(folder), *words, *settings, *quiet)))
        values = np.array(rows)
        local = values if local is None else local
        low, high = bootstrap_interval(values, mean, np.random.default_rng(0))
        for part in range(PARTS):
            reached = f"{values[:, part].mean():.2f} ({low[part]:.2f} to {high[part]:.2f})"
            apart = values[:, part].mean() - local[:, part].mean()
            print(f"| {' '.join(words)} | {name} | {part + 1} of {PARTS} | {reached} | {apart:+.2f} |", flush=True)


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("same", "speed", "curves"))
    parser.add_argument("settings", nargs="*", help="settings of the training, for `speed` and `curves`")
    parser.add_argument("--seeds", type=int, default=5, help="for `curves`")
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    options = parser.parse_args()
    if options.what == "same":
        same()
    elif options.what == "curves":
        curves(options.settings or ["algo=ppo", "env=cartpole"], options.processes, options.seeds)
    else:
        speed(options.settings or ["algo=ppo", "env=cartpole"], options.processes)


if __name__ == "__main__":
    main()
