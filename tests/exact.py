"""Two runs compared, to the last bit or nearly: their last checkpoints and their metrics."""

import json

import numpy as np
import torch

from rltrain.run import checkpoint


def flat(state, prefix=""):
    """Every leaf of a checkpoint by its path."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor | np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bytes(np.asarray(a)) == bytes(np.asarray(b))
    return json.dumps(a) == json.dumps(b)


def differences(one, other) -> list[str]:
    """Paths at which two runs' last checkpoints differ, times aside."""
    a, b = (dict(flat(checkpoint.read(checkpoint.find(run)))) for run in (one, other))
    # Stamps tell when a piece of the replay was saved last, which a run that stopped did once more.
    paths = (a.keys() | b.keys()) - {"run/train_time_s", "run/wall_time_s", "replay/frame/stamps"}
    return sorted(path for path in paths if path not in a or path not in b or not same(a[path], b[path]))


def lines(run) -> list[dict]:
    """metrics.jsonl without what depends on the clock and the machine."""
    clocks = {"time_s", "time/fps", "time/env_fraction", "time/learn_fraction", "time/eval_fraction", "memory/rss_mb"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in clocks} for row in rows]


def agents_are_close(one, other, rtol, atol):
    """The last checkpoints of two runs hold the same arrays of their agents, nearly."""
    ours, theirs = (dict(flat(checkpoint.read(checkpoint.find(run))["agent"])) for run in (one, other))
    assert ours.keys() == theirs.keys()
    arrays = [path for path, value in theirs.items() if isinstance(value, torch.Tensor | np.ndarray)]
    assert len(arrays) > 4
    for path in arrays:
        np.testing.assert_allclose(np.asarray(ours[path]), np.asarray(theirs[path]), rtol, atol, err_msg=path)
