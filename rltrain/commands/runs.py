"""`rltrain runs [PATTERN]`: show a table of runs with their state and score."""

import contextlib
import fnmatch
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rltrain.commands.arguments import split
from rltrain.config import saved as saved_config
from rltrain.config.validate import one_of
from rltrain.errors import CheckpointError, printable
from rltrain.run import folder as run_folder
from rltrain.system import inside, plain_json

USAGE = "rltrain runs [PATTERN|FOLDER] [sort=age|score|best|steps|speed|state|name] [run_dir=runs]"

_TAIL_BYTES = 65_536
"""Bytes to read from the end of metrics.jsonl for the newest values."""


_LONG = 1e15
"""The smallest number with an exponent. No run has so many steps, so the file is damaged."""


@dataclass(frozen=True)
class Row:
    """One row of the table: one run."""

    name: str
    """Run folder, relative to run_dir."""
    state: str
    """running, done, stopped, failed, died (status.json says running, but the process is gone), or damaged."""
    step: int
    total_steps: int | None
    score: float | None
    """Mean return of the final evaluation, else of the newest evaluation, else of training."""
    source: str
    """Source of the score: final, eval or train."""
    best: float | None
    fps: float | None
    age_s: float
    """Seconds since the run started."""


_SORTS: dict[str, Callable[[Row], Any]] = {
    "age": lambda row: row.age_s,
    "score": lambda row: -row.score if row.score is not None else float("inf"),
    "best": lambda row: -row.best if row.best is not None else float("inf"),
    "steps": lambda row: -row.step,
    "speed": lambda row: -(row.fps or 0),
    "state": lambda row: row.state,
    "name": lambda row: row.name,
}


def main(argv: list[str]) -> int:
    """Print a header and one line per run. Returns the exit code. Raises ConfigError, CheckpointError."""
    words, values = split(argv, {"sort", "run_dir"}, USAGE, min_words=0)
    sort = values.get("sort", "age")
    one_of("sort", sort, _SORTS)
    if words and "run_dir" not in values and os.path.isdir(words[0]):  # a folder of runs, not a pattern
        values["run_dir"] = words.pop()
    run_dir = Path(values.get("run_dir", "runs"))
    try:
        rows = [read(folder, run_dir) for folder in run_folder.find_all(str(run_dir))]
    except CheckpointError as error:
        where = f"run_dir={run_dir}"
        raise CheckpointError(f"no runs in '{run_dir}'", where, "train first, or give another run_dir") from error
    if words:
        pattern = words[0] if any(sign in words[0] for sign in "*?[") else f"*{words[0]}*"
        rows = [row for row in rows if fnmatch.fnmatch(row.name, pattern) or fnmatch.fnmatch(row.state, pattern)]
        if not rows:
            raise CheckpointError(f"no run matches '{words[0]}'", str(run_dir), "`rltrain runs` shows all runs")
    table = [["state", "steps", "", "score", "of", "best", "steps/s", "age", "run"]]
    # The name includes run_dir, so that it can be copied into other commands.
    rows = sorted(rows, key=_SORTS[sort])
    table += [[*map(printable, _cells(row)), printable(str(run_dir / row.name))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = {1, 2, 3, 5, 6, 7}
    for line in table:
        cells = [
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    return 0


def read(folder: Path, run_dir: Path) -> Row:
    """Read one run folder. Columns whose file is missing stay empty. A damaged run has the state `damaged`."""
    name = os.path.relpath(folder, os.path.realpath(run_dir))
    try:
        return _read(folder, name)
    except (CheckpointError, OSError, AttributeError, TypeError, ValueError, ArithmeticError):
        return Row(name, "damaged", 0, None, None, "", None, None, time.time() - folder.lstat().st_mtime)


def _read(folder: Path, name: str) -> Row:
    status, result, meta = (_json(folder / f"{name}.json") for name in ("status", "result", "meta"))
    newest, best = _newest(folder / "metrics.jsonl")
    # A resumed run has an old result.json until it is done again: ignore it.
    done = status.get("state") == "done"
    final = _number(result.get("final", {}), "mean_reward") if done else None
    evaluated, trained = _number(newest, "eval/mean_reward"), _number(newest, "rollout/ep_rew_mean")
    scores = [(final, "final"), (evaluated, "eval"), (trained, "train")]
    score, source = next(((score, source) for score, source in scores if score is not None), (None, ""))
    return Row(
        name=name,
        state="died" if _died(status, meta, folder) else _state(status),
        step=max(int(_number(status, "step") or 0), int(_number(newest, "step") or 0)),
        total_steps=_total_steps(folder),
        score=score,
        source=source,
        best=_number(result.get("best", {}), "mean_reward") if done else best,
        fps=_number(result, "fps") if done else _number(newest, "time/fps"),
        age_s=time.time() - run_folder.created(folder),
    )


def _state(status: dict[str, Any]) -> str:
    state = status.get("state", "unknown")
    if not isinstance(state, str):
        raise ValueError("status.json has no state")
    return state[:20]


def _number(values: dict[str, Any], key: str) -> float | None:
    """Return a number of a JSON object, or None if the key is missing. Raises ValueError for another value."""
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is not a number")
    return float(value)


def short_time(seconds: float) -> str:
    """Format seconds as 42s, 7m, 3h or 12d."""
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{letter}"
    return f"{max(seconds, 0):.0f}s"


def _cells(row: Row) -> list[str]:
    percent = f"{min(row.step / row.total_steps, 1):.0%}" if row.total_steps and row.total_steps > 0 else ""
    score, best = (_short(value, ".2f") if value is not None else "-" for value in (row.score, row.best))
    fps = _short(row.fps, ",.0f") if row.fps else "-"
    return [row.state, _short(row.step, ","), percent, score, row.source, best, fps, short_time(row.age_s)]


def _short(value: float, form: str) -> str:
    """Format a number; one that would widen the table to hundreds of columns gets an exponent."""
    return f"{value:{form}}" if abs(value) < _LONG else f"{value:.3g}"


def _died(status: dict[str, Any], meta: dict[str, Any], folder: Path) -> bool:
    """Return True if status.json says running on this machine, but the run's process is gone."""
    if status.get("state") != "running" or meta.get("host") not in (None, platform.node()):
        return False
    try:
        # The system reuses process ids: a process younger than status.json is a different one.
        return psutil.Process(int(status["pid"])).create_time() > (folder / "status.json").stat().st_mtime
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError, OSError):
        return False


def _newest(path: Path) -> tuple[dict[str, Any], float | None]:
    """Return the newest value of each tag in the last part of metrics.jsonl, and the best evaluation in all of it.

    The evaluation of the untrained agent, at step 0, is left out.
    """
    newest: dict[str, Any] = {}
    scores: list[float | None] = []
    with contextlib.suppress(FileNotFoundError):
        for line in _parsed(inside.tail(path, _TAIL_BYTES)):
            newest |= line
        evaluations = (text for text in inside.lines(path) if '"eval/mean_reward"' in text)
        scores = [_number(line, "eval/mean_reward") for line in _parsed(evaluations)]
    return newest, max((score for score in scores if score is not None), default=None)


def _parsed(texts: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines of metrics.jsonl that can be read, without those of step 0."""
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError):
            line = plain_json.loads(text)
            if isinstance(line, dict) and line.get("step"):
                yield line


def _total_steps(folder: Path) -> int | None:
    """Return total_steps from the newest configuration of a run (the last resume), or None without one.

    A sweep's job that failed early has no configuration. Raises CheckpointError if it is damaged.
    """
    path, _ = saved_config.newest(folder)
    if not os.path.lexists(path):
        return None
    steps = _number(saved_config.read(path), "total_steps")
    return None if steps is None else int(steps)


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError):
        return inside.read_json(path)
    return {}
