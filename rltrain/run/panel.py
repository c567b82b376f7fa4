"""The start panel and the end message of a training."""

import contextlib
import platform
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from rltrain.config import plugin_modules
from rltrain.config import saved as saved_config
from rltrain.config.run import RunConfig
from rltrain.config.runtime import meeting_places
from rltrain.errors import CheckpointError, printable
from rltrain.run.evaluation import planned_episodes
from rltrain.system import inside, terminal
from rltrain.system.ram import free_bytes

_LONG_S = 5.0
"""Seconds below which it does not matter that evaluations took most of a run."""

_LOOKED_AT = 20
"""The most runs to look at for one with the same settings."""

_NO_MEASURE = (OSError, CheckpointError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""Errors of reading a run that is damaged, or of another version of rltrain."""

_SPEED_KEYS = ("device", "precision", "fast", "cuda_graphs", "compile", "micro_batch_size")
"""Keys outside of algo, env and network on which the speed depends."""


def table_facts(config: RunConfig, agent: Any) -> dict[str, str]:
    """Return the facts of the start panel by name, for an agent with a table `q` [states, actions].

    The agent of a plugin may have none.
    """
    q = getattr(agent, "q", None)
    table = {}
    if isinstance(q, np.ndarray) and q.ndim == 2:
        table = {
            "network": f"table, {q.size:,} values",
            "observation": f"one of {len(q)} states",
            "action": f"one of {q.shape[1]}",
        }
    return {
        "algorithm": config.algo.name,
        "seed": str(config.seed),
        "environment": config.env.name,
        **table,
        "device": f"cpu, {free_bytes() / 1e9:.1f} GB free",
        **auto_fact(config, {}),
    }


def auto_fact(config: RunConfig, found: dict[str, str]) -> dict[str, str]:
    """Return the fact that says what rltrain chose for keys that were auto or null; {} if it chose nothing.

    found: values of keys that the configuration still has as auto.
    """
    values = {"network": config.network.name, "device": config.device}
    if getattr(config.env, "scale_actions", False):
        values["env.scale_actions"] = "true"
    chosen = {key: values[key] for key in config.chosen if key in values} | found
    return {"auto": " ".join(f"{key}={value}" for key, value in chosen.items())} if chosen else {}


def plan_facts(config: RunConfig) -> dict[str, str]:
    """Return the facts that say where the settings come from and how long the run is."""
    facts = {}
    if config.tuned_by is not None:  # older configurations do not say it
        untuned = f"the defaults of {config.algo.name}, not tuned for {config.env.name}"
        facts["settings"] = f"tuned by {', '.join(config.tuned_by)}" if config.tuned_by else untuned
    facts["typed"] = shlex.join(sys.argv[1:]) or "nothing"
    evaluated, saved = (
        f"every {every:,}" if every and every < config.total_steps else "at the end"
        for every in (config.eval_every_steps, config.checkpoint_every_steps)
    )
    facts["steps"] = f"{config.total_steps:,}; evaluated {evaluated}, saved {saved}"
    return facts


def time_fact(config: RunConfig, folder: Path, left_s: float | None) -> str:
    """Return how long the run will take, as far as that is known.

    left_s: seconds for the rest of a resumed run at its speed so far. A new run can be compared with an earlier one
    beside its folder.
    """
    if left_s is not None:
        return f"about {_in_words(left_s)} for the rest, at the speed so far, without evaluations"
    earlier = _earlier(config, folder)
    if earlier is not None:
        return f"about {_in_words(earlier[1])}, as {earlier[0]} took"
    return "not known yet: the progress line tells it once the speed is measured"


def _earlier(config: RunConfig, folder: Path) -> tuple[str, float] | None:
    """Return the newest finished run beside `folder` with the same settings and machine, and the seconds at its speed.

    The number of steps and the evaluations may differ.
    """
    made_for = saved_config.fingerprint(config)
    places: list[Path] = []
    with contextlib.suppress(OSError):
        places = sorted((place for place in folder.parent.iterdir() if place != folder), reverse=True)
    for place in places[:_LOOKED_AT]:
        with contextlib.suppress(*_NO_MEASURE):
            result, meta = (inside.read_json(place / f"{name}.json") for name in ("result", "meta"))
            last = inside.folder(place / "checkpoints") / "last"
            if inside.read_json(last / "manifest.json")["made_for"] != made_for or meta["host"] != platform.node():
                continue
            theirs = saved_config.read(place / "config.yaml")
            if all(theirs[key] == getattr(config, key) for key in _SPEED_KEYS):
                eval_s = result["wall_time_s"] - result["train_time_s"]
                share = planned_episodes(config) / planned_episodes(SimpleNamespace(**theirs))
                return place.name, result["train_time_s"] / result["steps"] * config.total_steps + eval_s * share
    return None


def _in_words(seconds: float) -> str:
    """Return a duration as an estimate: 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def show_start(folder: Path | None, facts: dict[str, str]) -> None:
    """Print the start panel on stderr, broken between words; one line for each fact if stderr is no terminal.

    folder: the run folder, or None for a dry run, which keeps none.
    """
    lines = {key: printable(value) for key, value in facts.items()}
    if folder is not None:
        # The parent folder shows this run next to similar ones. In run_dir itself, TensorBoard would follow the link
        # `latest` and show one run twice.
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        lines = {"run": printable(str(folder)), **lines, "curves": printable(curves)}
    if not terminal.is_drawable(sys.stderr):
        for key, value in lines.items():
            print(f"{key}: {value}", file=sys.stderr)
        return
    width = terminal.width(sys.stderr)
    # Beside the values: the frame with its padding, 4 columns, and the gap after the keys, 2.
    columns = max(width - max(map(len, lines)) - 6, 10)
    table = Table.grid(padding=(0, 2))
    for key, value in lines.items():
        table.add_row(key, "\n".join(terminal.broken(value, columns)))
    colour = terminal.has_colour(sys.stderr)
    console = Console(
        file=sys.stderr,
        force_terminal=True,
        no_color=not colour,
        width=width,
        highlight=False,
        markup=False,  # a value such as [a] is no markup
        emoji=False,
    )
    console.print(Panel(table, title="rltrain", expand=False, border_style="cyan" if colour else ""))


def named_again(config: RunConfig, to_train: bool = False) -> str:
    """Return what a command for a run must name again, quoted for a shell, with a space before each word.

    These are the run's plugins, module of `env.id` and `env.cfg`, which a saved configuration alone must not choose;
    and for a command that trains the address of other processes.
    """
    env_id = getattr(config.env, "id", "")
    named = [f"env.id={env_id}"] if plugin_modules.must_be_named_again(env_id) else []
    named += [f"env.cfg={cfg}"] if (cfg := getattr(config.env, "cfg", None)) else []
    named += [f"plugins=[{','.join(config.plugins)}]"] if config.plugins else []
    named += [f"{key}={place}" for key, place in meeting_places(config.runtime).items()] if to_train else []
    return "".join(f" {shlex.quote(word)}" for word in named)


def show_end(folder: Path, config: RunConfig, result: dict[str, Any]) -> None:
    """Print the final score and the commands to show curves, to play, and to resume.

    With progress=false print the score and the folder only.
    """
    if not config.progress:
        _print([*_score(config, result), str(folder)])
        return
    run = shlex.quote(str(folder))
    again = named_again(config)
    eval_s = result["wall_time_s"] - result["train_time_s"]
    if eval_s > 0.5 * result["wall_time_s"] and eval_s > _LONG_S:
        text = (
            f"evaluations took {eval_s / result['wall_time_s']:.0%} of the time: for a faster run use a larger"
            f" eval_every_steps (now {config.eval_every_steps:,}) or fewer eval_episodes (now {config.eval_episodes})"
        )
        print(terminal.wrapped(text, sys.stderr), file=sys.stderr)
    lines = [
        *_score(config, result),
        f"  tensorboard --logdir {run}",
        f"  rltrain play {run}{again}",
        f"  rltrain resume {run} total_steps={2 * result['steps']}{named_again(config, to_train=True)}",
    ]
    _print(lines)


def _score(config: RunConfig, result: dict[str, Any]) -> list[str]:
    """Return what a run has reached, broken into lines for the terminal."""
    final, best = result["final"], result["best"]
    exact = config.network.name == "table"  # exact evaluation: `episodes` is the number of start states
    played = ("start" if exact else "episode") + ("s" if final["episodes"] != 1 else "")
    played += ", computed exactly" if exact else ""
    text = (
        f"reached {final['mean_reward']:.2f} +- {final['std_reward']:.2f} over {final['episodes']} {played}"
        f" (best evaluation {best['mean_reward']:.2f} at step {best['step']:,})"
        f" after {result['steps']:,} steps in {result['wall_time_s']:.1f} s, {result['fps']:,.0f} steps/s in training"
    )
    return terminal.wrapped(text, sys.stderr).split("\n")


def _print(lines: list[str]) -> None:
    for line in lines:
        print(printable(line), file=sys.stderr)
