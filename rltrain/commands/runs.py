"""`rltrain runs [PATTERN]`: a table of runs, with what became of each."""

import contextlib
import fnmatch
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from rltrain.commands.arguments import split
from rltrain.config.validate import one_of
from rltrain.errors import CheckpointError
from rltrain.run import folder as run_folder

USAGE = "rltrain runs [PATTERN] [sort=age|score|best|steps|speed|state|name] [run_dir=runs]"

_TAIL_BYTES = 65_536
"""The end of metrics.jsonl, where the newest values of each tag stand."""


@dataclass(frozen=True)
class Row:
    """One run."""

    name: str
    """Its folder, from run_dir on."""
    state: str
    """running, done, stopped, failed; died: it says running and its process is gone."""
    step: int
    total_steps: int | None
    score: float | None
    """Final evaluation, else the newest one, else the training return."""
    source: str
    """Which of the three: final, eval, train."""
    best: float | None
    fps: float | None
    age_s: float
    """Since it began."""


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
    """Print one line a run, under a headline. Returns the exit code. Raises ConfigError, CheckpointError."""
    words, values = split(argv, {"sort", "run_dir"}, USAGE, min_words=0)
    sort = values.get("sort", "age")
    one_of("sort", sort, _SORTS)
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
            raise CheckpointError(f"no run fits '{words[0]}'", str(run_dir), "`rltrain runs` shows all")
    table = [["state", "steps", "", "score", "of", "best", "steps/s", "age", "run"]]
    # With run_dir before it, so that the name can be given to the other commands as it stands.
    table += [[*_cells(row), str(run_dir / row.name)] for row in sorted(rows, key=_SORTS[sort])]
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
    """What a run folder says of itself; a missing or cut file leaves its columns empty."""
    status, result, meta = (_json(folder / f"{name}.json") for name in ("status", "result", "meta"))
    newest = _newest(folder / "metrics.jsonl")
    # After a resume that goes on, the old result stands until there is a new one.
    done = status.get("state") == "done"
    final = result.get("final", {}).get("mean_reward") if done else None
    scores = [(final, "final"), (newest.get("eval/mean_reward"), "eval"), (newest.get("rollout/ep_rew_mean"), "train")]
    score, source = next(((score, source) for score, source in scores if score is not None), (None, ""))
    return Row(
        name=os.path.relpath(folder, run_dir.resolve()),
        state="died" if _died(status, meta, folder) else status.get("state", "unknown"),
        step=max(int(status.get("step") or 0), int(newest.get("step") or 0)),
        total_steps=_total_steps(folder),
        score=score,
        source=source,
        best=result.get("best", {}).get("mean_reward") if done else newest.get("best"),
        fps=result.get("fps") if done else newest.get("time/fps"),
        age_s=time.time() - _began(meta, folder),
    )


def short_time(seconds: float) -> str:
    """42s, 7m, 3h, 12d."""
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{letter}"
    return f"{max(seconds, 0):.0f}s"


def _cells(row: Row) -> list[str]:
    percent = f"{min(row.step / row.total_steps, 1):.0%}" if row.total_steps else ""
    score, best = (f"{value:.2f}" if value is not None else "-" for value in (row.score, row.best))
    fps = f"{row.fps:,.0f}" if row.fps else "-"
    return [row.state, f"{row.step:,}", percent, score, row.source, best, fps, short_time(row.age_s)]


def _died(status: dict[str, Any], meta: dict[str, Any], folder: Path) -> bool:
    """It says `running`, on this machine, and no process has its number since before it said so."""
    if status.get("state") != "running" or meta.get("host") not in (None, platform.node()):
        return False
    try:
        # A number is given again: a process that began after the run last wrote its status is another one.
        return psutil.Process(status["pid"]).create_time() > (folder / "status.json").stat().st_mtime
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, KeyError, TypeError, ValueError, OSError):
        return False


def _newest(path: Path) -> dict[str, Any]:
    """The newest value of each tag near the end of metrics.jsonl, and `best`, the highest evaluation there."""
    newest: dict[str, Any] = {}
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        for text in file.read().decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    newest |= line
                    if "eval/mean_reward" in line:
                        newest["best"] = max(line["eval/mean_reward"], newest.get("best", -float("inf")))
    return newest


def _total_steps(folder: Path) -> int | None:
    """As the newest resume has it."""
    configs = sorted(folder.glob("config.resume-*.yaml"), key=lambda path: path.stat().st_mtime)
    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError):
        return int(yaml.safe_load([folder / "config.yaml", *configs][-1].read_text()).get("total_steps"))
    return None


def _began(meta: dict[str, Any], folder: Path) -> float:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(meta["created"]).timestamp()
    return folder.stat().st_mtime


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
    return {}
