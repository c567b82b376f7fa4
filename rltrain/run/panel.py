"""What the terminal shows before the first step and after the last."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from rltrain.config.run import RunConfig
from rltrain.system.ram import free_bytes


def table_facts(config: RunConfig, agent: Any) -> dict[str, str]:
    """What the panel says of an agent with a table `q` [states, actions], by name."""
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
    """One panel on stderr: where the run is (None: nowhere that stays), what trains on what, and what it needs."""
    lines = dict(facts)
    if folder is not None:
        # The runs beside this one; from the root, TensorBoard would follow runs/latest and show its run twice.
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        lines = {"run": str(folder), **facts, "curves": curves}
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        for key, value in lines.items():
            print(f"{key}: {value}", file=sys.stderr)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path too long for the terminal goes on in the next line
    for key, value in lines.items():
        table.add_row(key, value)
    console.print(Panel(table, title="rltrain", expand=False))


def show_end(folder: Path, config: RunConfig, result: dict[str, Any]) -> None:
    """What was reached, and three commands to copy: what to look at, to watch, and to go on with.

    Modules that such a command imports are named in it again: they are never imported because a run folder says so.
    """
    final, best = result["final"], result["best"]
    run = shlex.quote(str(folder))
    env_id = getattr(config.env, "id", "")
    named = [f"env.id={env_id}"] if ":" in env_id and not env_id.startswith("rltrain.") else []
    named += [f"plugins=[{','.join(config.plugins)}]"] if config.plugins else []
    again = "".join(f" {shlex.quote(word)}" for word in named)
    exact = config.network.name == "table"  # computed and not played; its `episodes` are the states to begin in
    played = ("start" if exact else "episode") + ("s" if final["episodes"] != 1 else "")
    played += ", computed exactly" if exact else ""
    print(
        f"reached {final['mean_reward']:.2f} +- {final['std_reward']:.2f} over {final['episodes']} {played}"
        f" (best evaluation {best['mean_reward']:.2f} at step {best['step']:,})"
        f" after {result['steps']:,} steps in {result['wall_time_s']:.1f} s, {result['fps']:,.0f} steps/s in training\n"
        f"  tensorboard --logdir {run}\n  rltrain play {run}{again}\n"
        f"  rltrain resume {run} total_steps={2 * result['steps']}{again}",
        file=sys.stderr,
    )
