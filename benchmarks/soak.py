"""Check that a long training of eight Doom games leaks no memory, processes, file handles or shared memory.

    python benchmarks/soak.py --minutes 60 --warm-up 10

Starts `rltrain algo=ppo env=doom num_envs=8`, which also evaluates (in eight more games) and saves checkpoints. Every
10 s it measures the whole tree of processes, with separate memory for the trainer and the engines. Evaluations raise
the numbers for a while, so the check uses the lowest value of each number in every 2 minutes, after the warm-up.

Ends the training with SIGTERM. Exits with 1 if the memory of the trainer or of the engines still grows in the second
half (see `leaks`), or if another number does not return to its earlier value (see `rises`).
"""

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
LEAK_PER_HOUR = 0.01
"""Growth per hour, as a fraction of the memory, that counts as a leak. At this rate memory doubles in four days."""
WINDOW_S = 120
MEMORY = ("trainer_mb", "engines_mb")
COUNTS = ("processes", "handles", "shm_entries")
SETTINGS = ["algo=ppo", "env=doom", "num_envs=8", "total_steps=1e9", "device=cpu", "progress=false"]
DUE = ["log_every_steps=2000", "eval_every_steps=20000", "checkpoint_every_steps=20000"]


def left_behind(since: float) -> int:
    """Return the number of engines' entries in /dev/shm, created after `since`, that no process maps any more."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped += maps.read_text()
    count = 0
    for entry in Path("/dev/shm").glob("ViZDoom*"):
        with contextlib.suppress(OSError):
            count += entry.stat().st_ctime >= since and str(entry) not in mapped
    return count


def look(trainer: psutil.Process) -> dict[str, float]:
    """Return the current numbers of the trainer and its child processes."""
    seen = {"trainer_mb": trainer.memory_info().rss / 1e6, "engines_mb": 0.0, "processes": 1}
    seen |= {"handles": trainer.num_fds(), "shm_entries": left_behind(trainer.create_time())}
    for process in trainer.children(recursive=True):
        try:
            rss, handles = process.memory_info().rss, process.num_fds()
        except psutil.NoSuchProcess:
            continue
        seen["engines_mb"] += rss / 1e6
        seen["processes"] += 1
        seen["handles"] += handles
    return seen


def lowest(samples: Sequence[dict[str, float]], key: str) -> list[tuple[float, float]]:
    """Return (time in s, lowest value) of each window but the last, which may be incomplete."""
    windows: dict[int, list[tuple[float, float]]] = {}
    for sample in samples:
        windows.setdefault(int(sample["time_s"] // WINDOW_S), []).append((sample[key], sample["time_s"]))
    found = [min(values)[::-1] for _, values in sorted(windows.items())]
    return found[:-1] if len(found) > 1 else found


def growth_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope between all pairs of (time in s, value) points, which a single jump does not change."""
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.combinations(points, 2)]
    return 3600 * statistics.median(slopes) if slopes else 0.0


def leaks(points: Sequence[tuple[float, float]]) -> bool:
    """Return true if memory grows by more than LEAK_PER_HOUR in the second half. Memory that levels off does not."""
    late = points[len(points) // 2 :]
    return growth_per_hour(late) > LEAK_PER_HOUR * late[0][1]


def rises(points: Sequence[tuple[float, float]]) -> bool:
    """Return true if a count never returns in the second half to its lowest value of the first half."""
    counts = [count for _, count in points]
    half = len(counts) // 2
    return min(counts[half:]) > min(counts[:half] or counts)


def main() -> int:
    """Run the training, measure it, and print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=10, help="minutes")
    options = parser.parse_args()
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        argv = [*SETTINGS, *DUE, f"run_dir={folder}"]
        process = subprocess.Popen([sys.executable, "-c", "from rltrain.cli import main; main()", *argv])
        start_s = time.monotonic()
        while time.monotonic() - start_s < 60 * options.minutes:
            time.sleep(10)
            if process.poll() is not None:
                sys.exit(f"the training ended with code {process.returncode}")
            samples.append({"time_s": time.monotonic() - start_s, **look(psutil.Process(process.pid))})
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        status = json.loads(next(Path(folder).glob("*/*/*/status.json")).read_text())
    warm = [sample for sample in samples if sample["time_s"] >= 60 * options.warm_up]
    result = {"minutes": options.minutes, "steps": status["step"], "exit_code": code}
    failed = code != 143
    for key in MEMORY + COUNTS:
        points = lowest(warm, key)
        (_, first), (_, last) = points[0], points[-1]
        late_per_hour = growth_per_hour(points[len(points) // 2 :])
        result[key] = {"lowest_of_each_2_minutes": [round(value, 1) for _, value in points]}
        result[key]["late_growth_per_hour"] = round(late_per_hour, 2)
        failed = failed or (leaks(points) if key in MEMORY else rises(points))
        print(f"{key}: {first:.1f} after the warm-up, {last:.1f} at the end, late growth {late_per_hour:+.2f} an hour")
    print(f"{status['step']:,} steps, exit code {code}: {'it grows' if failed else 'nothing grows'}")
    out = HERE / "results" / "soak.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
