"""Train with actors of a Ray cluster (`runtime=ray`): what is learned, how fast, and while actors are lost.

    python benchmarks/actors.py learn [--kill]               IMPALA and Ape-X on CartPole, two nodes, three seeds
    python benchmarks/actors.py scale algo=impala env=doom   steps/s with 1 to 4 actors, and with runtime=local
    python benchmarks/actors.py lose algo=impala env=doom    kill an actor: seconds until another plays, and the speed

The nodes of the cluster are Ray's own processes on this machine (`ray.cluster_utils`), and share its cores. `--kill`
kills the second node in the middle of each run. Prints a table.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ACTORS = 2
WORKS = {"impala": ("algo=impala", "env=cartpole", "total_steps=150_000"),
         "Ape-X": ("algo=dqn", "env=cartpole", "total_steps=60_000")}  # fmt: skip


@contextlib.contextmanager
def cluster() -> Iterator[tuple[str, Callable[[], None]]]:
    """Give the address of a cluster of two nodes, and a function that kills the second one."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    from ray.cluster_utils import Cluster

    settings: dict[str, Any] = {"num_cpus": ACTORS, "object_store_memory": 200_000_000}
    started = Cluster(initialize_head=True, head_node_args=settings | {"include_dashboard": False})
    node = started.add_node(**settings)
    started.wait_for_nodes()
    try:
        yield started.address, lambda: started.remove_node(node, allow_graceful=False)
    finally:
        started.shutdown()


def start(place: Path, *words: object) -> subprocess.Popen[bytes]:
    """Start a training below a folder."""
    command = [sys.executable, "-m", "rltrain", *map(str, words), f"run_dir={place}", "device=cpu", "progress=false"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def lines(place: Path) -> list[dict[str, float]]:
    """Return the lines of metrics of the run below a folder: those that tell its speed."""
    path = place / "latest" / "metrics.jsonl"
    found = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [line for line in map(json.loads, filter(lambda text: text.endswith("\n"), found)) if "time/fps" in line]


def wait(process: subprocess.Popen[bytes], place: Path, done: Callable[[dict[str, float]], bool]) -> None:
    """Wait for a line of metrics. Ends this program if the training ends before."""
    while not any(map(done, lines(place))):
        if process.poll() is not None:
            sys.exit(f"the training has ended with code {process.returncode}")
        time.sleep(0.05)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a training. Ends this program if it has failed."""
    if process.wait():
        sys.exit(f"the training has ended with code {process.returncode}")


def learn(works: list[str], seeds: int, kill: bool) -> None:
    """Print the scores of the final evaluations, and the seconds from the first step to the last."""
    for name in works:
        words = WORKS[name]
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder, cluster() as (address, kill_node):
                place = Path(folder)
                settings = ("runtime=ray", f"runtime.actors={ACTORS}", f"runtime.address={address}", f"seed={seed}")
                process = start(place, *words, *settings, "log_every_steps=1000", "log_every_s=0.05")
                half = float(words[-1].partition("=")[2]) / 2
                wait(process, place, lambda line: line["step"] > half)  # noqa: B023  (called before the next turn)
                if kill:
                    kill_node()
                ended(process)
                result = json.loads((place / "latest" / "result.json").read_text())
                score, found = result["final"]["mean_reward"], lines(place)
            seconds, restarts = found[-1]["time_s"] - found[0]["time_s"], found[-1]["runtime/restarts"]
            lag = np.median([line["train/policy_lag"] for line in found])
            print(f"| {name} | seed {seed} | {score:.1f} | {seconds:.0f} s | lag {lag:.0f} | "
                  f"{restarts} actors replaced |", flush=True)  # fmt: skip


def scale(words: list[str], numbers: list[int], seconds: float) -> None:
    """Print the steps/s of a training for each number of actors: the median over its lines of metrics."""
    settings = ["total_steps=1e9", "eval_every_steps=0", "log_every_steps=500"]
    sides = {f"{number} actors": ["runtime=ray", f"runtime.actors={number}"] for number in numbers}
    for name, runtime in {"local": ["runtime=local"], **sides}.items():
        with tempfile.TemporaryDirectory() as folder:
            process = start(Path(folder), *words, *settings, *runtime)
            wait(process, Path(folder), lambda line: bool(line["step"]))
            time.sleep(seconds)
            found = lines(Path(folder))[2:]
            process.terminate()
            process.wait()
        values = [f"{np.median([line['time/fps'] for line in found]):,.0f} steps/s"]
        values.append(f"waits {np.median([line['time/env_fraction'] for line in found]):.0%}")
        if "runtime/bytes_per_s" in found[-1]:
            values.append(f"{found[-1]['runtime/bytes_per_s'] / 1e6:.2f} MB/s")
            values.append(f"lag {np.median([line['train/policy_lag'] for line in found]):.0f}")
        print(f"| {' '.join(words)} | {name} | {' | '.join(values)} |", flush=True)


def lose(words: list[str], tries: int) -> None:
    """Print how long an actor is missing after it was killed, and the speed of the learner before and meanwhile."""
    settings = ["total_steps=1e9", "eval_every_steps=0", "log_every_steps=500"]
    settings += ["runtime=ray", f"runtime.actors={ACTORS}"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        process = start(place, *words, *settings)
        for count in range(tries):
            wait(process, place, lambda line: line["runtime/actors"] == ACTORS and line["runtime/restarts"] == count)  # noqa: B023
            time.sleep(15)
            before = lines(place)[-20:]
            killed_s = time.monotonic()
            children = psutil.Process(process.pid).children(recursive=True)
            next(child for child in children if child.name().startswith("ray::Host")).kill()
            wait(process, place, lambda line: line["runtime/actors"] == ACTORS and line["runtime/restarts"] > count)  # noqa: B023
            taken_s = time.monotonic() - killed_s
            meanwhile = [line for line in lines(place) if line["time_s"] > before[-1]["time_s"]]
            rates = [(part[-1]["step"] - part[0]["step"]) / (part[-1]["time_s"] - part[0]["time_s"])
                     for part in (before, [before[-1], *meanwhile])]  # fmt: skip
            print(f"| {' '.join(words)} | replaced after {taken_s:.1f} s | {rates[0]:,.0f} steps/s before | "
                  f"{rates[1]:,.0f} meanwhile | {rates[1] / rates[0]:.0%} |", flush=True)  # fmt: skip
        process.terminate()
        process.wait()


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learn", "scale", "lose"))
    parser.add_argument("settings", nargs="*", help="settings of the training, for `scale` and `lose`")
    parser.add_argument("--kill", action="store_true", help="kill the second node in the middle, for `learn`")
    parser.add_argument("--only", choices=list(WORKS), help="one algorithm, for `learn`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--seconds", type=float, default=60, help="length of a measurement, for `scale`")
    parser.add_argument("--tries", type=int, default=3, help="actors that are killed, for `lose`")
    options = parser.parse_args()
    words = options.settings or ["algo=impala", "env=cartpole"]
    if options.what == "learn":
        learn([options.only] if options.only else list(WORKS), options.seeds, options.kill)
    elif options.what == "scale":
        scale(words, options.actors, options.seconds)
    else:
        lose(words, options.tries)


if __name__ == "__main__":
    main()
