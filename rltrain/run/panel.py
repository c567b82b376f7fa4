"""The start panel and the end message of a training."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from rltrain.config.run import RunConfig
from rltrain.errors import printable
from rltrain.system.ram import free_bytes

_LONG_S = 5.0
"""Seconds below which it does not matter that evaluations took most of a run."""


def table_facts(config: RunConfig, agent: Any) -> dict[str, str]:
    """Return the facts of the start panel by name, for an agent with a table `q` [states, actions]."""
    num_states, num_actions = agent.q.shape
    return {
        "algorithm": config.algo.name,
        "seed": str(config.seed),
        "environment": config.env.name,
        "network": f"table, {agent.q.size:,} values",
        "observation": f"one of {num_states} states",
        "action": f"one of {num_actions}",
        "device": f"cpu, {free_bytes() / 1e9:.1f} GB free",
    }


def show_start(folder: Path | None, facts: dict[str, str]) -> None:
    """Print the start panel on stderr; plain lines if stderr is no terminal.

    folder: the run folder, or None for a dry run, which keeps none.
    """
    lines = {key: printable(value) for key, value in facts.items()}
    if folder is not None:
        # The parent folder shows this run next to similar ones. In run_dir itself, TensorBoard would follow the link
        # `latest` and show one run twice.
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        lines = {"run": printable(str(folder)), **lines, "curves": printable(curves)}
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        for key, value in lines.items():
            print(f"{key}: {value}", file=sys.stderr)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # wrap long paths instead of cutting them
    for key, value in lines.items():
        table.add_row(key, value)
    console.print(Panel(table, title="rltrain", expand=False))


def show_end(folder: Path, config: RunConfig, result: dict[str, Any]) -> None:
    """Print the final score and the commands to show curves, to play, and to resume.

    The commands name the run's plugins, module of `env.id` and `env.cfg` again, which a saved configuration cannot.
    """
    final, best = result["final"], result["best"]
    run = shlex.quote(str(folder))
    env_id = getattr(config.env, "id", "")
    named = [f"env.id={env_id}"] if ":" in env_id and not env_id.startswith("rltrain.") else []
    named += [f"env.cfg={cfg}"] if (cfg := getattr(config.env, "cfg", None)) else []
    named += [f"plugins=[{','.join(config.plugins)}]"] if config.plugins else []
    again = "".join(f" {shlex.quote(word)}" for word in named)
    exact = config.network.name == "table"  # exact evaluation: `episodes` is the number of start states
    played = ("start" if exact else "episode") + ("s" if final["episodes"] != 1 else "")
    played += ", computed exactly" if exact else ""
    eval_s = result["wall_time_s"] - result["train_time_s"]
    if eval_s > 0.5 * result["wall_time_s"] and eval_s > _LONG_S:
        print(
            f"evaluations took {eval_s / result['wall_time_s']:.0%} of the time: for a faster run use a larger"
            f" eval_every_steps (now {config.eval_every_steps:,}) or fewer eval_episodes (now {config.eval_episodes})",
            file=sys.stderr,
        )
    print(
        f"reached {final['mean_reward']:.2f} +- {final['std_reward']:.2f} over {final['episodes']} {played}"
        f" (best evaluation {best['mean_reward']:.2f} at step {best['step']:,})"
        f" after {result['steps']:,} steps in {result['wall_time_s']:.1f} s, {result['fps']:,.0f} steps/s in training\n"
        f"  tensorboard --logdir {run}\n  rltrain play {run}{again}\n"
        f"  rltrain resume {run} total_steps={2 * result['steps']}{again}",
        file=sys.stderr,
    )
