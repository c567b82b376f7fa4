"""Read learning curves from the metrics.jsonl of run folders, group them, and summarise them over seeds."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.config import saved as saved_config
from rltrain.errors import CheckpointError, ConfigError, nearest
from rltrain.math.statistics import Statistic, bootstrap_interval
from rltrain.run import folder as run_folder
from rltrain.system import inside, plain_json

MOST = 1e100
"""The largest value to plot: the statistics and the axes square and add values."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run."""

    folder: Path
    config: dict[str, Any]
    """The run's configuration with dotted keys. `algo`, `env` and `network` are the names of the choices."""
    step: np.ndarray
    """Agent steps in ascending order, [T] int64."""
    value: np.ndarray
    """Values of the metric, [T] float64."""


@dataclass(frozen=True)
class Band:
    """Statistics over the runs of one group, at every step T at which any of the runs has a value."""

    env: str
    group: str
    num_runs: int
    seeds: int
    """Number of different seeds."""
    step: np.ndarray
    """Agent steps, [T] int64."""
    center: np.ndarray
    """Mean or interquartile mean over the runs that reach the step, [T] float64."""
    low: np.ndarray
    """Lower end of the 95% bootstrap interval, [T] float64."""
    high: np.ndarray
    """Upper end of the 95% bootstrap interval, [T] float64."""
    runs: np.ndarray
    """Number of runs that reach the step, [T] int64."""


def read_curves(words: Iterable[str], metric: str) -> list[Curve]:
    """Read a metric of every run in the folders that `words` name.

    Raises CheckpointError if there is no run, or no run with metrics. Raises ConfigError if no run has this metric.
    """
    words = list(words)
    curves: list[Curve] = []
    known: set[str] = set()
    for folder in run_folder.find_all(*words):
        points: dict[int, float] = {}
        for line in _lines(folder / "metrics.jsonl"):
            known |= line.keys()
            value = line.get(metric)
            # NaN is a gap of the curve.
            if isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > MOST:
                points[line["step"]] = float(value)
        if any(value == value for value in points.values()):
            step = np.array(sorted(points), np.int64)
            curves.append(Curve(folder, _config(folder), step, np.array([points[key] for key in step.tolist()])))
    if not known:
        raise CheckpointError("no run here has metrics yet", " ".join(words), "train first, or give other folders")
    if not curves:
        if metric in known:
            raise ConfigError(f"no run here has a number as '{metric}'", "metric", "use another metric")
        raise ConfigError(f"no run here has the metric '{metric}'", "metric", nearest(metric, known - {"step"}))
    return curves


def group(curves: list[Curve], by: str) -> dict[tuple[str, str], list[Curve]]:
    """Group curves by (environment, label). `by`: configuration keys, separated by commas, that make up the label.

    Raises ConfigError for a key that no run has.
    """
    keys = by.split(",")
    known = {key for curve in curves for key in curve.config}
    for key in keys:
        if key not in known:
            raise ConfigError(f"no run here has the key '{key}'", "by", nearest(key, known))
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        parts = [
            str(curve.config.get(key, "-")) if key in ("algo", "env", "network") else f"{key}={curve.config.get(key)}"
            for key in keys
        ]
        groups.setdefault((str(curve.config["env"]), ", ".join(parts)), []).append(curve)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], _natural(item[0][1]))))


_SAME_GAME = ("env.workers", "env.step_timeout_s", "env.max_restarts", "env.tuned_as", "env.scale_actions",
              "env.doom_skill", "env.shaping")  # fmt: skip
"""Settings of an environment, or their beginnings, that change nothing in the game that is scored."""


def other_games(curves: list[Curve]) -> list[str]:
    """Return the settings in which the environments of one group are different games.

    A setting that a run of an older version lacks is none, but an argument of the environment is.
    """
    keys = dict.fromkeys(key for curve in curves for key in curve.config if key.startswith("env."))
    found = []
    for key in keys:
        values = {str(curve.config.get(key)) for curve in curves if key in curve.config}
        lacks = key.startswith("env.kwargs.") and any(key not in curve.config for curve in curves)
        if (len(values) > 1 or lacks) and not key.startswith(_SAME_GAME):
            found.append(key)
    return found


def band(env: str, label: str, curves: list[Curve], statistic: Statistic, generator: np.random.Generator) -> Band:
    """Return the center and the 95% bootstrap interval over runs.

    Runs may have different lengths and log at different steps: each run is interpolated linearly between its points
    and counts only from its first to its last step.
    """
    step = np.unique(np.concatenate([curve.step for curve in curves]))
    value_RT = np.array([np.interp(step, curve.step, curve.value, np.nan, np.nan) for curve in curves])
    present_RT = ~np.isnan(value_RT)
    center, low, high = np.empty((3, len(step)))
    for present_R in np.unique(present_RT, axis=1).T:
        columns = (present_RT == present_R[:, None]).all(axis=0)
        part_RT = value_RT[np.ix_(present_R, columns)]
        if not present_R.any():
            continue
        center[columns] = statistic(part_RT)
        low[columns], high[columns] = bootstrap_interval(part_RT, statistic, generator)
    reached = present_RT.any(axis=0)
    seeds = len({str(curve.config.get("seed")) for curve in curves})
    columns = (step, center, low, high, present_RT.sum(axis=0))
    return Band(env, label, len(curves), seeds, *(column[reached] for column in columns))


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the complete lines of metrics.jsonl. The last line of a running or killed run may be incomplete."""
    with contextlib.suppress(FileNotFoundError):
        for text in inside.lines(path):
            try:
                line = plain_json.loads(text)
            except (ValueError, RecursionError):
                continue
            step: Any = line.get("step") if isinstance(line, dict) else None
            if type(step) in (int, float) and 0 <= step < 2**63 and step == int(step):  # other programs write 200.0
                yield line | {"step": int(step)}


def _config(folder: Path) -> dict[str, Any]:
    """Read the settings, those of the last resume if there is one, with dotted keys and without checks.

    So runs of other versions can be plotted, too.
    """
    flat: dict[str, Any] = {}
    pending = [("", saved_config.read(saved_config.newest(folder)[0]))]
    while pending:
        prefix, node = pending.pop()
        for key, value in node.items():
            if isinstance(value, dict):
                pending.append((f"{prefix}{key}.", value))
            else:
                flat[f"{prefix}{key}"] = value
    return flat | {name: flat.get(f"{name}.name", "-") for name in ("algo", "env", "network")}


def _natural(label: str) -> list[tuple[int, float, str]]:
    """Return a sort key that puts n_step=3 before n_step=10."""
    parts = []
    for part in label.replace("=", " ").replace(",", " ").split():
        try:
            parts.append((0, float(part), ""))
        except ValueError:
            parts.append((1, 0.0, part))
    return parts
