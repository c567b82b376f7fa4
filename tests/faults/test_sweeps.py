"""Sweeps that are stopped at random moments, in every way, and continued until all their jobs are done."""

import json
import signal
import time

import numpy as np
import pytest
from conftest import tries

pytestmark = pytest.mark.faults

NUM_JOBS = 12
STOPS = 10
STEPS = 1_000_000
JOBS = [
    *("algo=q_learning", "env=frozen_lake", "progress=false", "eval_every_steps=0"),
    *("algo.gamma=0.9,0.95,0.99", "seed=0,1,2,3"),
]
WAYS = [
    (launcher, number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) for launcher in ("basic", "joblib")
]


def results(place):
    """The time at which each job's result was written, by the folder of the job."""
    found = {}
    for path in place.rglob("result.json"):
        json.loads(path.read_text())
        found[path.parent.name] = path.stat().st_mtime_ns
    return found


@pytest.mark.tries(6)
def test_a_sweep_stopped_again_and_again_ends_with_one_result_for_each_job(attempt, start, tmp_path, request, patience):
    """Bugs: a stopped sweep is lost; a job is trained twice; jobs of a dead parent go on or die without saving."""
    launcher, number = WAYS[attempt % len(WAYS)]
    stops = STOPS if tries(request.config, 6) >= 6 else 1
    random = np.random.default_rng(attempt)
    new = ["-m", f"hydra/launcher={launcher}", *JOBS, f"total_steps={STEPS if stops > 1 else STEPS // 20}"]
    seen, start_s = {}, None
    for stop in range(stops + 1):
        sweeps = list(tmp_path.glob("runs/sweeps/*/sweep.json"))
        assert len(sweeps) <= 1, "a second sweep was begun"
        # By turns: the command that the first one printed, and the command that was typed.
        argv = [*new, "skip_done=true"] if stop % 2 == 0 or not sweeps else ["resume", sweeps[0].parent]
        process, began_s = start(*argv), time.monotonic()
        if start_s is None:  # how long it takes here until the first job begins
            process.wait_for("sweep.json")
            start_s = time.monotonic() - began_s
        if stop < stops:
            time.sleep(max(0.0, began_s + float(random.uniform(0.5, 2.5)) * start_s - time.monotonic()))
            process.process.send_signal(number)
        code, error = process.end(300 * patience())
        finished = results(tmp_path)
        assert {name: finished[name] for name in seen} == seen, "a finished job was run again"
        seen = finished
        if code != 0 and number != signal.SIGKILL and "jobs done" in error:
            assert code == 128 + number, error
            assert "stopped by" in error.splitlines()[-1] and "rltrain resume runs/sweeps/" in error.splitlines()[-1]
        if stop == stops:
            assert code == 0, error
            assert f"{NUM_JOBS} of {NUM_JOBS} jobs done, 0 failed" in error
    assert len(seen) == NUM_JOBS, sorted(seen)
    (table,) = tmp_path.glob("runs/sweeps/*/sweep.csv")
    rows = table.read_text().splitlines()
    assert len(rows) == 4 and all(row.split(",")[2:4] == ["4", "4"] for row in rows[1:]), rows
