"""Compare the speed of rltrain with another package in alternating blocks on one machine, without start-up.

    python benchmarks/paired.py ppo_pong --peer ../peer-sb3/bin/python
    python benchmarks/paired.py ppo_pong --source ../before     # with another checkout of rltrain; this one gives A/A
    python benchmarks/paired.py ppo_pong --without prepare      # with this checkout without one twin of `fast`

The order of the blocks is ours, peer, peer, ours, ... Both sides keep running and wait for their turn. The result is:

- the ratio of agent steps/s: the median over pairs of blocks, with a 95% bootstrap interval
- the same ratio for CPU time per step, and the memory of both sides
- the noise: ratios of neighbouring blocks of the same side

`--keys` adds keys of rltrain to our side (`--keys precision=fp32`). Writes benchmarks/results/<name>.json; with
--source or --without only if --name is given.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from works import WORKS, Work

HERE = Path(__file__).resolve().parent


class Side:
    """The process of one side, which trains one block per request."""

    def __init__(self, command: list[str], source: Path | None = None) -> None:
        self.command, self.blocks = command, []
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (read after the process has ended)
        env = os.environ | ({"PYTHONPATH": str(source)} if source else {})
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env,
            start_new_session=True,
        )  # fmt: skip
        self._answer()

    def block(self) -> None:
        """Train one block."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.blocks.append(self._answer())

    def _answer(self) -> dict:
        for line in self._process.stdout:
            if line.startswith("GATE "):
                return json.loads(line[5:])
        self._errors.seek(0)
        sys.exit(f"{shlex.join(self.command)} ended:\n{self._errors.read()[-3000:]}")

    def close(self) -> None:
        """Kill the process and its child processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def rate(self) -> np.ndarray:
        """Agent steps per second of each block."""
        return np.array([block["steps"] / block["seconds"] for block in self.blocks])

    @property
    def cpu_ms(self) -> np.ndarray:
        """CPU time per agent step of each block, in milliseconds."""
        return np.array([1e3 * block["cpu_s"] / block["steps"] for block in self.blocks])

    def summary(self) -> dict:
        """Return the part of the results file for this side."""
        return {
            "steps_per_s": round(float(np.median(self.rate)), 1),
            "blocks_steps_per_s": self.rate.round(1).tolist(),
            "cpu_ms_per_step": round(float(np.median(self.cpu_ms)), 4),
            "peak_memory_mb": round(max(block["memory_mb"] for block in self.blocks)),
        }


def median_interval(values: np.ndarray) -> dict:
    """Return the median and its 95% percentile bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return {"median": round(float(np.median(values)), 3), "interval_95": [round(float(low), 3), round(float(high), 3)]}


def noise(sides: list[Side]) -> dict:
    """Return the ratio of two neighbouring blocks of the same side (A/A), which would be 1 without noise."""
    # In the order ours, peer, peer, ours, ours, ... neighbours start at our second block and at the peer's first.
    ratios = [b / a for side, first in zip(sides, (1, 0), strict=True)
              for a, b in zip(side.rate[first::2], side.rate[first + 1 :: 2], strict=False)]  # fmt: skip
    return median_interval(np.array(ratios)) | {"smallest": round(min(ratios), 3), "largest": round(max(ratios), 3)}


def commands(work: Work, name: str, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the commands of both sides."""
    lengths = [str(work.warm_up), str(work.steps)]
    base = [sys.executable, str(HERE / "side_rltrain.py"), *lengths, *work.ours]
    if options.source:
        return base + options.keys, base + options.peer_keys
    if options.without:
        return base + options.keys, [*base, f"without={options.without}", *options.keys]
    return base + options.keys, [options.peer, str(HERE / work.peer), *lengths, *work.peer_args]


def machine() -> dict:
    """Return a description of this machine."""
    models = {
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    }
    return {"processor": sorted(models), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
            "torch": metadata.version("torch")}  # fmt: skip


def main() -> None:
    """Run the blocks, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORKS)
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--peer", help="python of the peer's virtual environment")
    against.add_argument("--source", type=Path, help="another checkout of rltrain")
    against.add_argument("--without", help="name of the plain function whose twin the other side does not use")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--keys", nargs="*", default=[], help="more keys for our side")
    parser.add_argument("--peer-keys", nargs="*", default=[], help="with --source: more keys for the other checkout")
    parser.add_argument("--name", help="name of the results file")
    options = parser.parse_args()
    work = WORKS[options.work]
    our_command, peer_command = commands(work, options.work, options)
    sides = [Side(our_command, HERE.parent)]
    try:
        sides.append(
            Side(peer_command, HERE.parent if options.without else options.source and options.source.resolve())
        )
        for pair in range(options.pairs):
            for side in sides if pair % 2 == 0 else sides[::-1]:
                side.block()
            print(f"pair {pair}: {sides[0].rate[-1]:.1f} against {sides[1].rate[-1]:.1f} steps/s", flush=True)
    finally:
        for side in sides:
            side.close()
    ours, peer = sides
    result = {
        "work": options.work,
        "command": shlex.join(["python", "benchmarks/paired.py", *sys.argv[1:]]),
        "machine": machine(),
        "ours": ours.summary(),
        "peer": peer.summary(),
        "ratio": median_interval(ours.rate / peer.rate),
        "ratio_of_processor_time": median_interval(peer.cpu_ms / ours.cpu_ms),
        "noise": noise(sides),
    }
    print(json.dumps(result, indent=1))
    if options.peer or options.name:
        (HERE / "results" / f"{options.name or options.work}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
