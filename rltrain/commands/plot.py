"""`rltrain plot RUN...`: plot learning curves over seeds with a confidence band, as a picture and as CSV."""

import contextlib
import csv
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.app import sweep
from rltrain.commands.arguments import MANY, split
from rltrain.config.groups import with_varied
from rltrain.config.user_code import describe
from rltrain.config.validate import one_of
from rltrain.errors import CheckpointError, ConfigError, DiskError, EnvironmentFailure, printable
from rltrain.math.statistics import interquartile_mean, mean
from rltrain.run import folder as run_folder
from rltrain.run import own_code
from rltrain.run.curves import Band, Curve, band, group, other_games, read_curves
from rltrain.system import atomic, csv_files, inside, notices, process

USAGE = (
    "rltrain plot RUN... [by=algo] [metric=eval/mean_reward] [center=mean|iqm] [out=curves.png]"
    " (RUN: a run, a sweep or any folder of runs; by: any keys, such as env or"
    " algo.learning_rate,seed; of a sweep, what varies)"
)

_CENTERS = {"mean": (mean, "mean"), "iqm": (interquartile_mean, "interquartile mean")}
_NAMES = {"eval/mean_reward": "evaluation return", "rollout/ep_rew_mean": "training return, last 100 episodes"}
# The colours of Okabe and Ito, which colour-blind people can distinguish.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800"]
_MAX_COLUMNS = 3
_COLUMNS = ("env", "group", "step", "center", "low", "high", "runs")
"""The first line of the file of numbers."""


def main(argv: list[str]) -> int:
    """Write the figure and a CSV file with its numbers. Returns the exit code. Raises RltrainError."""
    words, values = split(argv, {"by", "metric", "center", "out"}, USAGE, max_words=MANY)
    center = values.get("center", "mean")
    one_of("center", center, _CENTERS)
    metric = values.get("metric", "eval/mean_reward")
    out = process.absolute(values.get("out", "curves.png"))
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"'{out.name}' is not a picture file", "out", "use .png, .pdf or .svg")
    numbers = out.with_suffix(".csv")
    if os.path.lexists(numbers) and not _is_ours(numbers):
        what = f"the numbers would overwrite {run_folder.from_here(numbers)}, which `plot` did not write"
        raise ConfigError(what, "out", "give another out=FILE")
    if "out" not in values and os.path.lexists(out) and not os.path.lexists(numbers):
        what = f"there is a picture {run_folder.from_here(out)} without the numbers of a plot"
        raise ConfigError(what, "out", f"give another out=FILE, or replace it with out={out.name}")
    statistic, center_name = _CENTERS[center]
    generator = np.random.default_rng(0)  # fixed seed: the same runs give the same band
    curves = _without_copies(_without_given_up(read_curves(words, metric), words))
    labels = _labels(words)
    curves = [_with_label(curve, labels) for curve in curves]
    by = values.get("by") or _what_varies(labels, curves)
    groups = group(curves, by)
    for (env, label), members in groups.items():
        if keys := other_games(members):
            what = f"the curve {env} {label} joins different games: its runs differ in {', '.join(keys)}"
            notices.warn(f"{what}; use by={','.join([by, *keys])}")
        if file := own_code.first_difference(curve.folder for curve in members):
            what = f"the curve {env} {label} joins runs that began with different code: they differ in {file}"
            notices.warn(f"{what}; plot those of one kind alone")
    bands = [band(env, label, curves, statistic, generator) for (env, label), curves in groups.items()]
    figure = draw(bands, _NAMES.get(metric, metric), center_name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        figure.savefig(picture, dpi=150, format=out.suffix[1:])
        for path, content in ((out, picture.getvalue()), (numbers, _numbers(bands))):
            atomic.write_parts(path, [content])
    except OSError as error:
        raise DiskError(f"the figure cannot be written: {error.strerror}", str(out), "give another out=FILE") from error
    for drawn in bands:
        text = (
            f"{drawn.env}  {drawn.group}  {_count(drawn)}  {drawn.center[-1]:.6g}"
            f" [{drawn.low[-1]:.6g}, {drawn.high[-1]:.6g}] at step {drawn.step[-1]:,}{_reached(drawn)}"
        )
        print(printable(text))
    print("\n".join(printable(str(run_folder.from_here(path))) for path in (out, numbers)))
    return 0


def _without_given_up(curves: list[Curve], words: list[str]) -> list[Curve]:
    """Leave out attempts at jobs of sweeps that were begun again, unless they are named: each job counts once."""
    named = {Path(os.path.realpath(word)) for word in words}
    given_up = [curve.folder for curve in curves if curve.folder not in named and sweep.is_given_up(curve.folder)]
    if given_up:
        first = run_folder.from_here(given_up[0])
        what = f"attempts at jobs that were begun again are left out ({len(given_up)}, such as {first})"
        notices.tell(what)
    return [curve for curve in curves if curve.folder not in given_up] or curves


def _without_copies(curves: list[Curve]) -> list[Curve]:
    """Leave out the copies of a run, such as a backup: each run counts once, with the longest of its curves."""
    longest: dict[Any, Curve] = {}
    for curve in sorted(curves, key=lambda curve: -int(curve.step[-1])):
        longest.setdefault(_origin(curve), curve)
    kept = {curve.folder for curve in longest.values()}
    if copies := [curve.folder for curve in curves if curve.folder not in kept]:
        what = f"copies of a run are left out ({len(copies)}, such as {run_folder.from_here(copies[0])})"
        notices.tell(f"{what}: each run counts once")
    return [curve for curve in curves if curve.folder in kept]


def _origin(curve: Curve) -> Any:
    """Return what a run has in common with its copies alone; the folder of a run that does not tell when it began."""
    with contextlib.suppress(FileNotFoundError, CheckpointError):
        meta = inside.read_json(curve.folder / "meta.json")
        if meta.get("created"):
            begin = (int(curve.step[0]), float(curve.value[0]))
            return str((meta["created"], meta.get("host"), curve.config.get("seed"), begin))
    return curve.folder


def _labels(words: list[str]) -> dict[Path, dict[str, str]]:
    """Return what varies in the sweeps that `words` name, without the seed, by the folder of each job."""
    found = [sweep.load(Path(word)) for word in words if sweep.is_sweep(word)]
    return {
        each.folder / job.folder: label
        for each in found
        for job, label in zip(each.jobs, each.labels().values(), strict=True)
    }


def _with_label(curve: Curve, labels: dict[Path, dict[str, str]]) -> Curve:
    """Return the curve of a job with what varies in its sweep, in any attempt at the job."""
    label = labels.get(sweep.first_attempt(curve.folder), {})
    return dataclasses.replace(curve, config=with_varied(curve.config, label))


def _what_varies(labels: dict[Path, dict[str, str]], curves: list[Curve]) -> str:
    """Return the keys of `labels` that a curve has, without the environment, which has a panel; else `algo`."""
    known = {key for curve in curves for key in curve.config} - {"env"}
    return ",".join(dict.fromkeys(key for label in labels.values() for key in label if key in known)) or "algo"


def draw(bands: list[Band], metric: str, center: str) -> Any:
    """Return a matplotlib figure with one panel per environment. Raises EnvironmentFailure without matplotlib."""
    os.environ["MPLBACKEND"] = "agg"  # matplotlib refuses the name of a backend that it does not know
    try:
        with process.elsewhere():  # somebody else's run may have a matplotlibrc
            import matplotlib
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentFailure("matplotlib is missing", "rltrain plot", "pip install 'rltrain[plot]'") from error
    except Exception as error:  # a file matplotlibrc that cannot be read
        what = f"matplotlib cannot be imported: {describe(error)}"
        fix = "correct the settings of matplotlib, such as the file matplotlibrc"
        raise EnvironmentFailure(what, "rltrain plot", fix) from error
    matplotlib.rcParams["text.usetex"] = False  # a user's own default; LaTeX may be missing, and would read names
    envs = list(dict.fromkeys(drawn.env for drawn in bands))
    labels = list(dict.fromkeys(drawn.group for drawn in bands))
    columns = min(len(envs), _MAX_COLUMNS)
    rows = -(-len(envs) // columns)
    figure = Figure(figsize=(1.0 + 5.6 * columns, 0.6 + 3.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # draws in memory, without a display
    for position, env in enumerate(envs):
        axes = figure.add_subplot(rows, columns, position + 1)
        for drawn in (drawn for drawn in bands if drawn.env == env):
            colour = _COLOURS[labels.index(drawn.group) % len(_COLOURS)]
            style = ["-", "--", ":"][labels.index(drawn.group) // len(_COLOURS) % 3]
            marker = "o" if len(drawn.step) == 1 else None
            shorter = f", {drawn.runs[-1]} to the end" if drawn.runs[-1] < drawn.num_runs else ""
            name = _plain(f"{drawn.group} ({_count(drawn)}{shorter})")
            axes.plot(drawn.step, drawn.center, style, color=colour, linewidth=1.8, marker=marker, label=name)
            axes.fill_between(drawn.step, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)
        axes.set_title(_plain(env), loc="left", fontweight="bold")
        axes.set_xlabel("agent steps")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
        axes.legend(frameon=False, fontsize="small")
    if any(drawn.num_runs > 1 for drawn in bands):
        figure.supxlabel(f"lines: {center} over runs; bands: 95% bootstrap interval", fontsize="small", color="#555555")
    return figure


def _plain(text: str) -> str:
    """Return a text as matplotlib draws it letter by letter: `$` would begin a formula."""
    return printable(text).replace("$", r"\$")


def short_number(value: float) -> str:
    """Format 1500 as 1.5k and 2000000 as 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{letter}"
    return f"{value:.6g}"


def _count(drawn: Band) -> str:
    unit = "seed" if drawn.seeds == drawn.num_runs else "run"
    return f"{drawn.num_runs} {unit}{'s' if drawn.num_runs > 1 else ''}"


def _reached(drawn: Band) -> str:
    """Return a note with the number of runs that reached the last step, or "" if all did."""
    num_reached = int(drawn.runs[-1])
    return "" if num_reached == drawn.num_runs else f", which {num_reached} of them reached"


def _is_ours(path: Path) -> bool:
    """Return True if a file has the first line of a file of numbers."""
    with contextlib.suppress(OSError, CheckpointError):
        return next(inside.lines(Path(os.path.realpath(path))), "").rstrip() == ",".join(_COLUMNS)
    return False


def _numbers(bands: list[Band]) -> bytes:
    """Return the CSV file of the curves."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, csv_files.Dialect)
    writer.writerow(_COLUMNS)
    for drawn in bands:
        for row in zip(drawn.step, drawn.center, drawn.low, drawn.high, drawn.runs, strict=True):
            writer.writerow([drawn.env, drawn.group, *(f"{value:.10g}" for value in row)])
    return file.getvalue().encode(errors="backslashreplace")  # a name from somebody else may be no text
