"""Compare DQN's improvements with plain DQN on paired seeds.

    python benchmarks/ablations.py --env doom --seeds 5 total_steps=15000

All variants train with the same seeds and with the tuned settings of `dqn`, so they differ only in what their names
say. For each variant the table shows the mean difference from `dqn` with the same seed, with a 95% bootstrap interval
over the seeds. It compares the area under the evaluation curve (the mean height) and the final evaluation. If an
interval contains 0, this number of steps and seeds shows no difference.

Finished runs in the folder are not repeated, so use another `--runs` for other settings. Writes the numbers to
benchmarks/results/ablations_ENV.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BASE = "dqn"
VARIANTS = {
    "dqn": ["algo=dqn"],
    "double_dqn": ["algo=double_dqn"],
    "dueling_dqn": ["algo=dueling_dqn"],
    "per_dqn": ["algo=per_dqn"],
    "d3qn_per": ["algo=d3qn_per"],
    "dqn, one step": ["algo=dqn", "algo.n_step=1"],
}


def train(variant: str, env: str, seed: int, settings: list[str], folder: Path) -> dict[str, float]:
    """Train unless the run is finished already. Return the area under its evaluation curve and its final evaluation."""
    place = folder / variant.replace(", ", "_").replace(" ", "_")
    if not list(place.glob(f"*/*/*-s{seed}/result.json")):
        argv = [*VARIANTS[variant], f"env={env}", f"seed={seed}", f"run_dir={place}", "progress=false", *settings]
        subprocess.run([sys.executable, "-c", "from rltrain.cli import main; main()", *argv], check=True)
    run = next(place.glob(f"*/*/*-s{seed}/result.json")).parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "eval/mean_reward" in line and line["step"]]  # without the untrained agent
    curve = [(line["step"], line["eval/mean_reward"]) for line in trained]
    final = json.loads((run / "result.json").read_text())["final"]["mean_reward"]
    return {"area": mean_height(curve), "final": final}


def mean_height(curve: list[tuple[int, float]]) -> float:
    """Return the mean height of a curve of (step, return): its area by trapezia over its width."""
    steps, returns = np.array(curve, float).T
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0])) if len(steps) > 1 else float(returns[0])


def paired_difference(ours: np.ndarray, base: np.ndarray, num_draws: int = 10_000) -> tuple[float, float, float]:
    """Return the mean of ours - base, [seeds] each, and the ends of its 95% percentile bootstrap interval."""
    difference = ours - base
    draws = np.random.default_rng(0).choice(difference, (num_draws, len(difference))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def report(runs: dict[str, dict[str, dict[str, float]]], seeds: list[str]) -> list[str]:
    """Return a Markdown table, line by line."""
    lines = [
        "| variant | area under the curve | against dqn (95%) | final | against dqn (95%) |",
        "|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        cells = [variant]
        for key in ("area", "final"):
            ours, base = (np.array([runs[name][seed][key] for seed in seeds]) for name in (variant, BASE))
            mean, low, high = paired_difference(ours, base)
            cells += [f"{ours.mean():.1f}", "" if variant == BASE else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Train the missing runs, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="cartpole")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, help="folder of the runs; default: runs/ablations_ENV")
    parser.add_argument("settings", nargs="*", help="key=value for every run")
    options = parser.parse_args()
    seeds = [str(seed) for seed in range(options.seeds)]
    runs: dict[str, dict[str, dict[str, float]]] = {variant: {} for variant in VARIANTS}
    for seed in seeds:
        for variant in VARIANTS:
            folder = options.runs or Path("runs") / f"ablations_{options.env}"
            runs[variant][seed] = train(variant, options.env, int(seed), options.settings, folder)
            print(f"seed {seed} {variant}: {runs[variant][seed]}", flush=True)
    out = HERE / "results" / f"ablations_{options.env}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"env": options.env, "settings": options.settings, "runs": runs}, indent=1) + "\n")
    print("\n".join(report(runs, seeds)))


if __name__ == "__main__":
    main()
