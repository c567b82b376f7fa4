"""Does a long training leak? Memory, processes, file handles and shared memory of one that plays eight Doom games.

    python benchmarks/soak.py --minutes 60 --warm-up 10

Starts `rltrain algo=ppo env=doom num_envs=8`, which also evaluates (eight more games that come and go) and saves, and
looks at the whole tree of its processes every ten seconds. Between two evaluations the tree looks the same each time:
what is compared is the lowest of each number in every five minutes, after the warm-up. Ends the training with SIGTERM
and exits with 1 where memory grew by more than 5% or anything else by more than none.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
MEMORY_GROWTH = 1.05
WINDOW_S = 300
SETTINGS = ["algo=ppo", "env=doom", "num_envs=8", "total_steps=1e9", "device=cpu", "progress=false"]
DUE = ["log_every_steps=2000", "eval_every_steps=20000", "checkpoint_every_steps=20000"]


def left_behind(since: float) -> int:
    """Engines' entries in /dev/shm, made since then, that no process maps any more."""
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
    """The numbers of the trainer and all that it started, now."""
    seen = {"rss_mb": 0.0, "processes": 0, "handles": 0, "shm_entries": left_behind(trainer.create_time())}
    for process in [trainer, *trainer.children(recursive=True)]:
        try:
            rss, handles = process.memory_info().rss, process.num_fds()
        except psutil.NoSuchProcess:
            continue
        seen["rss_mb"] += rss / 2**20
        seen["processes"] += 1
        seen["handles"] += handles
    return seen


def lowest(samples: list[dict[str, float]], key: str) -> list[float]:
    """The lowest value of each window."""
    windows: dict[int, list[float]] = {}
    for sample in samples:
        windows.setdefault(int(sample["time_s"] // WINDOW_S), []).append(sample[key])
    return [round(min(values), 1) for _, values in sorted(windows.items())]


def grown(first: float, last: float, key: str) -> bool:
    """Whether a number is larger at the end than after the warm-up, beyond what may be."""
    return last > first * MEMORY_GROWTH if key == "rss_mb" else last > first


def main() -> int:
    """Run, look, report."""
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
    result = {"minutes": options.minutes, "steps": status["step"], "exit_code": code, "lowest_of_each_5_minutes": {}}
    failed = code != 143
    for key in ("rss_mb", "processes", "handles", "shm_entries"):
        values = lowest(warm, key)
        result["lowest_of_each_5_minutes"][key] = values
        # The last window may be cut short, before its lowest moment.
        last = values[-2] if len(values) > 2 else values[-1]
        failed = failed or grown(values[0], last, key)
        print(f"{key}: {values[0]} after the warm-up, {last} at the end")
    print(f"{status['step']:,} steps, exit code {code}: {'it grows' if failed else 'nothing grows'}")
    out = HERE / "results" / "soak.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
