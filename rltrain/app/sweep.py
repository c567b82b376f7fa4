"""Sweeps: a folder for each job, records of failed jobs, and a ranked table at the end."""

import contextlib
import gc
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, RltrainError
from rltrain.run import folder as run_folder
from rltrain.system import atomic, inside


def job_folder(sweep_dir: Path, number: int, overrides: list[str]) -> Path:
    """Return `<sweep>/<NN>_<slug>`. The slug of the overrides has no character that a shell or Hydra interprets."""
    slug = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", override).strip("-") for override in overrides)
    return sweep_dir / f"{number:02d}_{slug[:120]}"


def record_failure(folder: Path | None, error: Exception) -> None:
    """Write the reason of a failure to status.json in the job's folder, and the traceback of a bug to error.log."""
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    code = error.exit_code if isinstance(error, RltrainError) else 1
    reason = str(error) if isinstance(error, RltrainError) else f"{type(error).__name__}: {error}"
    if not isinstance(error, RltrainError):
        atomic.write_text(folder / "error.log", "".join(traceback.format_exception(error)))
    status = {"state": "failed", "step": 0, "pid": None, "reason": reason, "exit_code": code}
    atomic.write_json(folder / "status.json", status)
    print(f"rltrain: job failed: {folder.name}: {reason}", file=sys.stderr)


def let_go(error: BaseException | None) -> None:
    """Free the memory of a job (network, replay buffer) before the next job starts in the same process.

    error: the error of a failed job, or None. Its traceback references all local variables, so they are cleared.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def remove_empty(sweep_dir: Path) -> None:
    """Remove a sweep folder that contains only Hydra's multirun.yaml, because no job started."""
    if {path.name for path in sweep_dir.iterdir()} == {"multirun.yaml"}:
        (sweep_dir / "multirun.yaml").unlink()
        with contextlib.suppress(OSError):  # rmdir fails on a folder that is not empty: keep it
            for folder in (sweep_dir, sweep_dir.parent, sweep_dir.parent.parent):
                folder.rmdir()


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or {} if the file is missing or damaged."""
    with contextlib.suppress(FileNotFoundError, CheckpointError):
        return inside.read_json(path)
    return {}


def report(sweep_dir: Path) -> int:
    """Print the jobs, best first, and the number of failures. Returns 0, or 1 if a job failed."""
    rows, failed = [], []
    for folder in sorted(path for path in sweep_dir.iterdir() if path.is_dir()):
        status, result = _read(folder / "status.json"), _read(folder / "result.json")
        if status.get("state") == "done" and "final" in result:
            rows.append((result["final"]["mean_reward"], result["final"]["std_reward"], folder.name))
        else:  # a killed job leaves no reason, or not even status.json
            failed.append((folder.name, status.get("reason") or "it ended without giving a reason"))
    print(run_folder.from_here(sweep_dir), file=sys.stderr)
    for rank, (mean, std, name) in enumerate(sorted(rows, reverse=True), start=1):
        print(f"{rank:>3}  {mean:>10.2f} +- {std:<8.2f} {name}", file=sys.stderr)
    for name, reason in failed:
        print(f"  -  failed: {name}: {reason}", file=sys.stderr)
    print(f"{len(rows)} of {len(rows) + len(failed)} jobs done, {len(failed)} failed", file=sys.stderr)
    return 1 if failed else 0
