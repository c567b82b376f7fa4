"""Every algorithm on every kind of environment, on the real emulators: it learns for some hundred steps, or is refused
with a reason before anything is started."""

import json

import numpy as np
import pytest
from small_runs import TABULAR, small

from rltrain.config.algorithms import ALGOS, SEVERAL

KINDS = {
    "states": ("frozen_lake", []),
    "vectors": ("cartpole", []),
    "continuous actions": ("pendulum", []),
    "several actions": ("gym", ["env.id=several:Several-v0"]),
    "doom": ("doom_basic", ["network=small_cnn"]),
    "atari": ("space_invaders", ["network=small_cnn"]),
    "retro": ("airstriker", ["network=small_cnn"]),
}
POLICY_GRADIENTS = {name for name, settings in ALGOS.items() if SEVERAL in settings.action_kinds}


def reason(algo: str, kind: str) -> str | None:
    """Why a pair does not fit."""
    if algo in TABULAR and kind != "states":
        return f"{algo} needs discrete states"
    if algo not in POLICY_GRADIENTS and kind in ("continuous actions", "several actions"):
        return f"{algo} needs "
    return None


PAIRS = [(algo, kind) for algo in sorted(ALGOS) for kind in KINDS]
# One algorithm for each kind and one kind for each algorithm are enough for every day.
DAILY = {(algo, list(KINDS)[number % len(KINDS)]) for number, algo in enumerate(sorted(ALGOS))} | {
    ("a2c", "retro"), ("ppo", "retro"), ("ppo", "several actions"), ("a2c", "continuous actions"), ("a3c", "doom"),
    ("pqn", "atari"), ("reinforce", "doom"), ("q_learning", "states"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("algo", "kind"),
    [pytest.param(*pair, marks=() if pair in DAILY or reason(*pair) else pytest.mark.slow) for pair in PAIRS],
)
def test_a_pair_trains_or_is_refused_with_a_reason(algo, kind, command):
    env, options = KINDS[kind]
    args = small(algo, env)
    if kind in ("doom", "atari", "retro"):
        args = [arg for arg in args if not arg.startswith("network.hidden_sizes")]
    outcome = command(*args, *options, "total_steps=300", "eval_every_steps=0")
    why = reason(algo, kind)
    if why:
        assert outcome.code == 2, outcome.err
        assert why in outcome.last_line
        assert not outcome.run_dir.exists()
        return
    assert outcome.code == 0, outcome.err
    assert outcome.json("result.json")["steps"] >= 300
    metrics = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    if algo not in TABULAR:
        losses = [line["train/loss"] for line in metrics if "train/loss" in line]
        assert losses, "it never learned"
        assert np.isfinite(losses).all()
