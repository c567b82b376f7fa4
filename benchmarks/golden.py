"""Golden runs: check that a change of the code leaves trainings equal bit for bit.

    python benchmarks/golden.py record                      record all runs in benchmarks/results/golden.json
    python benchmarks/golden.py compare --code ../other     compare the same runs of another checkout with that file

`golden_runs.py` lists the runs: short trainings on the CPU with one thread. A recording holds the metrics, episodes
and results of each run, and a SHA-256 of everything in its last checkpoint. It leaves out times, speeds and memory.
`compare` exits with 1 if anything differs.

One difference is wanted and not told: since rltrain evaluates the untrained agent too, metrics.jsonl begins with a line
of step 0, which older recordings lack. If only one side has this line, it is left out.

A recording is valid only for the same kind of processor and the same versions of the packages that calculate. Others
round differently, so `compare` refuses them.
"""

import argparse
import concurrent.futures
import contextlib
import fnmatch
import hashlib
import json
import os
import platform
import queue
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from golden_runs import RUNS, GoldenRun

HERE = Path(__file__).resolve().parent
FILE = HERE / "results" / "golden.json"
PACKAGES = ("torch", "numpy", "numba", "gymnasium", "ale-py", "vizdoom", "stable-retro", "opencv-python-headless")
CLOCKS = re.compile(r"time_s|(time|memory)/.*")
"""Tags of metrics.jsonl that depend on the clock or on the machine's memory."""
CLOCK_STATE = ("run/train_time_s", "run/wall_time_s")
PLACES = ("run_dir", "name")
"""Keys of config.yaml for the folder of a run."""
TIMEOUT_S = 600
Record = dict[str, Any]


def machine() -> dict[str, str]:
    """Return what the rounding of floating-point numbers depends on: the processor and the versions of the packages."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        cpuinfo = Path("/proc/cpuinfo").read_text()
        if found := re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE):
            name = found[1]
        if found := re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE):
            flags = " ".join(sorted(flag for flag in found[1].split() if re.match(r"avx|amx|fma|f16c|sse4", flag)))
    facts = {"processor": name, "flags": flags, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    return facts


# Recording.


class Starter:
    """Starts trainings with the rltrain of one checkout, one after another."""

    def __init__(self, code: Path, fresh: bool) -> None:
        """fresh: start a new Python for each training, instead of a fork of a process that has imported PyTorch."""
        self._code = code
        self._fork: subprocess.Popen[str] | None = None
        if not fresh:
            command = [sys.executable, str(HERE / "golden_fork.py")]
            pipe = subprocess.PIPE
            self._fork = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(code))

    def rltrain(self, arguments: list[str], where: str) -> str | None:
        """Run rltrain in the folder `where`. If it fails, return the exit code and the last line of stderr."""
        stderr = Path(where) / "stderr"
        if self._fork is None:
            with stderr.open("w") as file, contextlib.suppress(subprocess.TimeoutExpired):
                command = [sys.executable, "-m", "rltrain", *arguments]
                out = subprocess.DEVNULL
                done = subprocess.run(
                    command, cwd=where, env=environment(self._code), stdout=out, stderr=file, timeout=TIMEOUT_S
                )
                return self._ending(done.returncode, stderr)
            return f"no end after {TIMEOUT_S} s"
        request = {"arguments": arguments, "cwd": where, "stderr": str(stderr), "timeout_s": TIMEOUT_S}
        assert self._fork.stdin and self._fork.stdout
        print(json.dumps(request), file=self._fork.stdin, flush=True)
        answer = self._fork.stdout.readline()
        return self._ending(int(answer), stderr) if answer else "golden_fork.py has ended"

    @staticmethod
    def _ending(code: int, stderr: Path) -> str | None:
        lines = stderr.read_text().strip().splitlines() or [""]
        return f"exit code {code}: {lines[-1]}" if code else None

    def close(self) -> None:
        """End the process of golden_fork.py."""
        if self._fork is not None:
            self._fork.communicate()


def record(run: GoldenRun, starter: Starter) -> Record:
    """Train and return the record of the run, or {"error": ...} if it fails."""
    with tempfile.TemporaryDirectory() as where:
        error = starter.rltrain([*run.arguments(), f"run_dir={where}/runs"], where)
        commands = [["rltrain", *run.arguments()]]
        if error is None and run.resume_steps is not None:
            more = f"total_steps={run.resume_steps}"
            error = starter.rltrain(["resume", str(_run_folder(Path(where))), more, "progress=false"], where)
            commands.append(["rltrain", "resume", "RUN", more])
        values = {"error": error} if error else read_run(_run_folder(Path(where)))
        return {"commands": [shlex.join(command) for command in commands], **values}


def environment(code: Path) -> dict[str, str]:
    """Return the environment variables of a training: one thread, no display, no GPU and the code of one checkout."""
    fixed = {
        "PYTHONPATH": f"{code}{os.pathsep}{HERE}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "SDL_VIDEODRIVER": "dummy",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return os.environ | fixed


def _run_folder(where: Path) -> Path:
    return next(where.rglob("result.json")).parent


def read_run(folder: Path) -> Record:
    """Return the record of a run folder, without times and memory."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    meta = json.loads((folder / "meta.json").read_text())
    return {
        "revision": f"{meta.get('git_revision')}{'+changes' if meta.get('git_dirty') else ''}",
        "config": _flat(yaml.safe_load((folder / "config.yaml").read_text())),
        "metrics": [{tag: value for tag, value in line.items() if not CLOCKS.fullmatch(tag)} for line in lines],
        "episodes": (folder / "episodes.csv").read_text().splitlines()[1:],
        "result": {key: result[key] for key in ("final", "best", "steps", "episodes")},
        "checkpoint": read_checkpoint(folder / "checkpoints" / "last"),
    }


def read_checkpoint(folder: Path) -> dict[str, str]:
    """Return a digest of each tensor and array by name, and the JSON values: as text if short, else as a digest."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        for name, facts in header.items():
            begin, end = facts["data_offsets"]
            found[name] = _digest(facts["dtype"], facts["shape"], content[start + begin : start + end])
    for path in sorted(folder.glob("*.npy")):
        array = np.load(path, allow_pickle=False)
        found[path.stem.replace("~", "/")] = _digest(array.dtype.str, list(array.shape), array.tobytes())
    for name, value in json.loads((folder / "state.json").read_text()).items():
        if name == "run/latest":
            value = sorted(value)  # the latest value of each tag, whose order does not matter
        if name not in CLOCK_STATE:
            text = json.dumps(value)
            found[name] = text if len(text) <= 100 else _digest("JSON", [len(text)], text.encode())
    return found


def _digest(dtype: str, shape: list[int], content: bytes) -> str:
    return f"{dtype} {shape} {hashlib.sha256(content).hexdigest()}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested dict; join the keys by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


# Comparing.


def differences(old: Record, new: Record, allow_renames: bool = False) -> list[str]:
    """Return one line for each part of a run that differs. The config comes first, because it may explain the others.

    allow_renames: accept other names of a checkpoint's tensors if their contents are equal.
    """
    if "error" in old or "error" in new:
        return [f"failed: recorded {old.get('error', 'fine')}; now {new.get('error', 'fine')}"]
    found = _config_differences(old["config"], new["config"])
    found += _metrics_differences(old["metrics"], new["metrics"])
    found += _episodes_differences(old["episodes"], new["episodes"])
    for key in {**old["result"], **new["result"]}:
        before, now = old["result"].get(key), new["result"].get(key)
        if before != now:
            found.append(f"result.json: {key} was {before} and is {now}")
    return found + _checkpoint_differences(old["checkpoint"], new["checkpoint"], allow_renames)


def _config_differences(old: Record, new: Record) -> list[str]:
    """Compare only keys that both configs have: a key that was added or removed is no difference by itself."""
    keys = [key for key in old if key in new and key not in PLACES and old[key] != new[key]]
    return [f"config.yaml: {key} was {old[key]} and is {new[key]}" for key in keys]


def _metrics_differences(old: list[Record], new: list[Record]) -> list[str]:
    if _begins_untrained(old) != _begins_untrained(new):
        old, new = (lines[1:] if _begins_untrained(lines) else lines for lines in (old, new))
    different = [number for number, lines in enumerate(zip(old, new, strict=False), 1) if lines[0] != lines[1]]
    found = []
    if different:
        first = different[0]
        before, now = old[first - 1], new[first - 1]
        tags = [tag for tag in {**before, **now} if before.get(tag) != now.get(tag)]
        told = ", ".join(f"{tag} was {before.get(tag)} and is {now.get(tag)}" for tag in tags[:3])
        more = f" and {len(tags) - 3} more tags" if len(tags) > 3 else ""
        where = f"line {first} (step {before.get('step')})"
        found.append(f"metrics.jsonl: {len(different)} of {len(old)} lines differ, first {where}: {told}{more}")
    if len(old) != len(new):
        found.append(f"metrics.jsonl: had {len(old)} lines and has {len(new)}")
    return found


def _begins_untrained(lines: list[Record]) -> bool:
    """Return True if the first line is the evaluation of the untrained agent."""
    return bool(lines) and lines[0]["step"] == 0


def _episodes_differences(old: list[str], new: list[str]) -> list[str]:
    for number, (before, now) in enumerate(zip(old, new, strict=False), 1):
        if before != now:
            return [f"episodes.csv: episode {number} was {before} and is {now}"]
    return [f"episodes.csv: had {len(old)} episodes and has {len(new)}"] if len(old) != len(new) else []


def _checkpoint_differences(old: dict[str, str], new: dict[str, str], allow_renames: bool) -> list[str]:
    changed = [name for name in old if name in new and old[name] != new[name]]
    gone, added = [name for name in old if name not in new], [name for name in new if name not in old]
    renamed = []
    for name in list(gone):
        match = next((other for other in added if new[other] == old[name]), None)
        if match is not None:
            gone.remove(name)
            added.remove(match)
            renamed.append(f"{name} -> {match}")
    found = []
    if changed:
        name = changed[0]
        told = f"first {name}: was {_short(old[name])} and is {_short(new[name])}"
        found.append(f"checkpoint: {len(changed)} of {len(old)} entries differ, {told}")
    for what, names in (("gone", gone), ("new", added), ("renamed", [] if allow_renames else renamed)):
        if names:
            found.append(f"checkpoint: {len(names)} entries are {what}, first {names[0]}")
    return found


def _short(entry: str) -> str:
    """Shorten a digest to eight digits."""
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{56}$", r"\1", entry)


def machine_difference(old: dict[str, str], new: dict[str, str]) -> str | None:
    """Return in one line how the machine of a recording differs from this one, or None if they are equal."""
    told = [f"{key} {old.get(key)} (here {new.get(key)})" for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(told) if told else None


# The command line.


def chosen(only: list[str], quick: bool) -> list[GoldenRun]:
    """Return the runs whose name matches one of the patterns. Ends the program if there is none."""
    runs = [run for run in RUNS if not quick or run.quick]
    runs = [run for run in runs if not only or any(fnmatch.fnmatch(run.name, pattern) for pattern in only)]
    return runs or sys.exit(f"golden: no run is called {' or '.join(only)}; `list` names them all")


def check_code(code: Path) -> None:
    """End the program unless Python takes rltrain from the checkout `code`."""
    command = [sys.executable, "-c", "import rltrain; print(rltrain.__file__)"]
    with tempfile.TemporaryDirectory() as where:
        done = subprocess.run(command, cwd=where, env=environment(code), capture_output=True, text=True)
    if not done.stdout.strip() or not Path(done.stdout.strip()).resolve().is_relative_to(code):
        sys.exit(f"golden: there is no rltrain to import in {code}; give the folder of a checkout with --code")


def run_all(runs: list[GoldenRun], args: argparse.Namespace, each: Callable[[GoldenRun, Record], None]) -> None:
    """Record all runs, `args.jobs` at a time, and call `each` in the order of the list."""
    starters: queue.SimpleQueue[Starter] = queue.SimpleQueue()
    for _ in range(args.jobs):
        starters.put(Starter(args.code, args.fresh))

    def one(run: GoldenRun) -> Record:
        starter = starters.get()
        try:
            return record(run, starter)
        finally:
            starters.put(starter)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for run, found in zip(runs, pool.map(one, runs), strict=True):
            each(run, found)
    for _ in range(args.jobs):
        starters.get().close()


def main_record(args: argparse.Namespace) -> int:
    """Record the runs. If only some were chosen, keep the other runs of an existing file of the same machine."""
    runs = chosen(args.only, args.quick)
    here = machine()
    kept: dict[str, Record] = {}
    if args.out.exists() and len(runs) < len(RUNS):
        before = json.loads(args.out.read_text())
        if told := machine_difference(before["machine"], here):
            sys.exit(f"golden: {args.out} was recorded with {told}; record all runs anew, or give another --out")
        kept = before["runs"]
    failed = []

    def keep(run: GoldenRun, found: Record) -> None:
        kept[run.name] = found
        print(f"{run.name:40} {found.get('error') or _summary(found)}", flush=True)
        if "error" in found:
            failed.append(run.name)

    run_all(runs, args, keep)
    ordered = {run.name: kept[run.name] for run in RUNS if run.name in kept}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": here, "runs": ordered}, indent=1) + "\n")
    print(f"{len(runs) - len(failed)} of {len(runs)} runs recorded in {args.out}")
    return 1 if failed else 0


def _summary(found: Record) -> str:
    lines, episodes, entries = len(found["metrics"]), len(found["episodes"]), len(found["checkpoint"])
    return f"{lines} lines, {episodes} episodes, {entries} checkpoint entries"


def main_compare(args: argparse.Namespace) -> int:
    """Train the recorded runs again and print every difference."""
    recorded = json.loads(args.file.read_text())
    if told := machine_difference(recorded["machine"], machine()):
        if not args.force:
            sys.exit(f"golden: another machine: {args.file} was recorded with {told}; --force compares anyway")
        print(f"golden: warning: recorded with {told}")
    runs = chosen(args.only, args.quick)
    missing = [run.name for run in runs if run.name not in recorded["runs"]]
    runs = [run for run in runs if run.name in recorded["runs"]]
    different = []

    def compare(run: GoldenRun, found: Record) -> None:
        told = differences(recorded["runs"][run.name], found, args.allow_renames)
        if told:
            different.append(run.name)
        for line in told or ["equal"]:
            print(f"{run.name}: {line}", flush=True)

    run_all(runs, args, compare)
    for name in missing:
        print(f"{name}: not in {args.file}")
    print(f"{len(runs) - len(different)} of {len(runs)} runs are equal" + "".join(f"\n  {name}" for name in different))
    return 1 if different or missing or not runs else 0


def main_list(args: argparse.Namespace) -> int:
    """Print the names and commands of the runs."""
    for run in chosen(args.only, args.quick):
        print(f"{run.name}{' (quick)' if run.quick else ''}\n    rltrain {shlex.join(run.arguments())}")
        if run.resume_steps is not None:
            print(f"    rltrain resume RUN total_steps={run.resume_steps}")
    return 0


def main() -> int:
    """Parse the command line, run the command and return its exit code."""
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--only", action="append", default=[], metavar="GLOB", help="runs by name, such as 'ppo-*'")
    choice.add_argument("--quick", action="store_true", help="one or two runs of each algorithm")
    how = argparse.ArgumentParser(add_help=False, parents=[choice])
    how.add_argument(
        "--code", type=Path, default=HERE.parent, help="the checkout whose rltrain runs; default: this one"
    )
    how.add_argument("--fresh", action="store_true", help="start a new Python for each training: takes twice as long")
    how.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("record", parents=[how], help="run all and write a recording")
    command.add_argument("--out", type=Path, default=FILE)
    command.set_defaults(main=main_record)
    command = commands.add_parser("compare", parents=[how], help="run all again and name what differs")
    command.add_argument("file", type=Path, nargs="?", default=FILE)
    command.add_argument("--force", action="store_true", help="compare although the machine is another one")
    command.add_argument("--allow-renames", action="store_true", help="tensors may have other names")
    command.set_defaults(main=main_compare)
    command = commands.add_parser("list", parents=[choice], help="print the runs and their commands")
    command.set_defaults(main=main_list)
    args = parser.parse_args()
    started_s = time.monotonic()
    if "code" in args:
        args.code = args.code.resolve()
        check_code(args.code)
    code = args.main(args)
    if "code" in args:
        print(f"{time.monotonic() - started_s:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
