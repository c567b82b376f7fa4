"""The names that scripts read: TensorBoard tags of each algorithm, the facts about a run, what the terminal shows."""

import re

import pytest
from small_runs import TABULAR, small
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

EVERYWHERE = {
    "rollout/ep_rew_mean", "rollout/ep_len_mean",
    "eval/mean_reward", "eval/std_reward",
    "time/fps", "time/env_fraction", "time/learn_fraction", "time/eval_fraction", "time/total_timesteps",
    "memory/rss_mb",
    "train/learning_rate",
    "final/mean_reward", "best/mean_reward",
}  # fmt: skip
NETWORK = {"eval/mean_ep_length", "train/loss", "train/grad_norm", "train/n_updates"}
VALUES = {"rollout/exploration_rate", "train/q_mean"}
POLICY = {"train/policy_gradient_loss", "train/entropy_loss", "train/value_loss", "train/explained_variance"}
TAGS = {
    "q_learning": VALUES,
    "sarsa": VALUES,
    "monte_carlo": VALUES,
    "dqn": NETWORK | VALUES | {"train/td_error", "memory/replay_mb"},
    "pqn": NETWORK | VALUES | {"train/td_error"},
    "reinforce": NETWORK | POLICY,
    "a2c": NETWORK | POLICY,
    "a3c": NETWORK | POLICY,
    "impala": NETWORK | POLICY | {"train/approx_kl", "train/clip_fraction", "train/policy_lag"},
    "ppo": NETWORK | POLICY | {"train/approx_kl", "train/clip_fraction"},
}
START = ("run", "algorithm", "environment", "network", "observation", "action", "device", "curves", "settings", "typed")
START += ("steps", "auto", "time")
FILES = {
    "config.yaml", "command.txt", "meta.json", "metrics.jsonl", "episodes.csv", "checkpoints", "status.json",
    "result.json",
}  # fmt: skip


@pytest.mark.parametrize("algo", TAGS)
def test_a_run_gives_scripts_and_people_what_the_contract_names(algo, command):
    """Bugs: a tag that one algorithm alone forgot; a fact that the panel shows for networks and not for tables, or on
    a terminal and not in a log; meta.json without what speed depends on."""
    env = "frozen_lake" if algo in TABULAR else "cartpole"
    outcome = command(*small(algo, env), "total_steps=400", "progress=true")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in outcome.folder.iterdir()} >= FILES

    (events,) = outcome.folder.glob("events.out.tfevents.*")
    values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    tags = {value.tag for value in values if value.metadata.plugin_data.plugin_name == "scalars"}
    assert tags == EVERYWHERE | TAGS[algo]

    meta = outcome.json("meta.json")
    assert {"git_revision", "git_dirty", "packages", "host", "processor", "gpu", "seed", "threads"} <= meta.keys()
    assert meta["threads"]["usable_cores"] >= 1
    assert (meta["threads"]["torch"] or 0) >= (algo not in TABULAR)

    shown = dict(line.split(": ", 1) for line in outcome.err.splitlines() if ": " in line)
    assert set(START) | ({"replay"} if algo == "dqn" else set()) <= shown.keys()
    assert shown["algorithm"] == algo
    assert re.match(r"\w+, [\d,]+ (parameters|values)", shown["network"])
    assert shown["device"].endswith(" GB free")
    assert shown["curves"].startswith("tensorboard --logdir ")
