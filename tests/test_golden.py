"""What benchmarks/golden.py calls a difference, and that tuned files do not decide what a golden run does."""

import copy
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from rltrain.app.hparams import tuned_as
from rltrain.config.algorithms import ALGOS
from rltrain.config.network import NetworkConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def golden():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("golden")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def folder(tmp_path):
    """A run folder of two lines of metrics, two episodes and a checkpoint of three entries beside its clock."""
    lines = [
        {"step": 10, "time_s": 1.5, "time/fps": 9.0, "memory/rss_mb": 200.0, "train/loss": 0.5, "train/q_mean": 1.0},
        {"step": 20, "time_s": 2.5, "time/fps": 9.0, "memory/rss_mb": 200.0, "train/loss": 0.25, "train/q_mean": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "episodes.csv").write_text("step,reward,length,frames\n7,1,7,7\n15,2,8,8\n")
    best = {"mean_reward": 2.0, "step": 20}
    result = {"final": best, "best": best, "steps": 20, "episodes": 2, "wall_time_s": 3.0, "fps": 8.0}
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "meta.json").write_text(json.dumps({"git_revision": "abc", "git_dirty": False}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"seed": 1, "run_dir": "there", "algo": {"gamma": 0.9}}))
    last = tmp_path / "checkpoints" / "last"
    last.mkdir(parents=True)
    save_file({"agent/network/weight": torch.arange(6.0).reshape(2, 3)}, last / "tensors.safetensors")
    np.save(last / "replay~action.npy", np.arange(4))
    (last / "state.json").write_text(json.dumps({"run/train_time_s": 2.0, "generators/actions/state": 2**100}))
    return tmp_path


def test_a_run_equals_itself_at_another_time_and_place(golden, folder):
    before = golden.read_run(folder)
    assert set(before["checkpoint"]) == {"agent/network/weight", "replay/action", "generators/actions/state"}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    later = [row | {"time_s": 99.0, "time/fps": 1.0, "memory/rss_mb": 1.0} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in later))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"seed": 1, "run_dir": "here", "algo": {"gamma": 0.9, "new": 1}})
    )
    state = {"run/train_time_s": 77.0, "generators/actions/state": 2**100}
    (folder / "checkpoints" / "last" / "state.json").write_text(json.dumps(state))
    assert golden.differences(before, golden.read_run(folder)) == []


def test_a_metric_that_differs_is_named_with_its_line(golden, folder):
    before = golden.read_run(folder)
    after = copy.deepcopy(before)
    after["metrics"][1]["train/loss"] = np.nextafter(0.25, 1)
    [told] = golden.differences(before, after)
    assert "1 of 2 lines differ, first line 2 (step 20): train/loss was 0.25 and is 0.25000000000000006" in told
    del after["metrics"][1]
    [told] = golden.differences(before, after)
    assert told == "metrics.jsonl: had 2 lines and has 1"


def test_the_score_of_the_untrained_agent_is_compared_only_where_both_have_it(golden, folder):
    """Bugs: every recording from before there was such a line differs; a line that both have is not compared."""
    before = golden.read_run(folder)
    after = copy.deepcopy(before)
    after["metrics"].insert(0, {"step": 0, "eval/mean_reward": 9.0})
    assert golden.differences(before, after) == golden.differences(after, before) == []
    again = copy.deepcopy(after)
    again["metrics"][0]["eval/mean_reward"] = 8.0
    [told] = golden.differences(after, again)
    assert "first line 1 (step 0): eval/mean_reward was 9.0 and is 8.0" in told


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("agent/network/weight", {"agent/network/weight": torch.tensor([[0.0, 1, 2], [3, 4, 5.000001]])}),
        ("agent/network/weight", {"agent/network/weight": torch.arange(6.0)}),
        ("agent/network/weight", {"agent/network/weight": torch.arange(6.0).reshape(2, 3).double()}),
        ("replay/action", np.array([0, 1, 2, 4])),
        ("generators/actions/state", {"generators/actions/state": 2**100 + 1}),
    ],
)
def test_a_checkpoint_entry_that_differs_is_named(golden, folder, name, planted):
    before = golden.read_run(folder)
    last = folder / "checkpoints" / "last"
    if isinstance(planted, np.ndarray):
        np.save(last / "replay~action.npy", planted)
    elif name in planted and isinstance(planted[name], torch.Tensor):
        save_file(planted, last / "tensors.safetensors")
    else:
        (last / "state.json").write_text(json.dumps(planted))
    [told] = golden.differences(before, golden.read_run(folder))
    assert told.startswith(f"checkpoint: 1 of 3 entries differ, first {name}: was ")


def test_a_renamed_tensor_is_told_apart_from_a_changed_one(golden, folder):
    before = golden.read_run(folder)
    after = copy.deepcopy(before)
    after["checkpoint"]["agent/torso/weight"] = after["checkpoint"].pop("agent/network/weight")
    [told] = golden.differences(before, after)
    assert told == "checkpoint: 1 entries are renamed, first agent/network/weight -> agent/torso/weight"
    assert golden.differences(before, after, allow_renames=True) == []
    after["checkpoint"]["agent/torso/weight"] += "0"
    assert len(golden.differences(before, after, allow_renames=True)) == 2, "one is gone and one is new"


def test_settings_episodes_results_and_failures_are_told(golden, folder):
    before = golden.read_run(folder)
    after = copy.deepcopy(before)
    after["config"]["algo.gamma"] = 0.5
    after["episodes"][1] = "15,3,8,8"
    after["result"]["steps"] = 21
    assert golden.differences(before, after) == [
        "config.yaml: algo.gamma was 0.9 and is 0.5",
        "episodes.csv: episode 2 was 15,2,8,8 and is 15,3,8,8",
        "result.json: steps was 20 and is 21",
    ]
    assert golden.differences(before, {"error": "exit code 1"}) == ["failed: recorded fine; now exit code 1"]


def test_another_machine_is_told(golden):
    here = golden.machine()
    assert golden.machine_difference(here, here) is None
    assert "numpy 0.1 (here " in golden.machine_difference(here | {"numpy": "0.1"}, here)


def test_every_setting_of_algorithm_and_network_is_given(golden):
    """So neither a default nor a tuned file decides what a golden run does."""
    for run in golden.RUNS:
        fields = {f"algo.{field.name}" for field in dataclasses.fields(ALGOS[run.settings["algo"]])}
        fields |= {f"network.{field.name}" for field in dataclasses.fields(NetworkConfig)}
        given = run.settings.keys() | {"algo.name", "algo.like", "network.name", "algo.num_envs", "algo.batch_size"}
        assert fields <= given, run.name
        assert run.settings["num_envs"] and (run.settings["batch_size"] or "algo.batch_size" not in fields), run.name


def test_every_key_that_a_tuned_file_sets_is_given(golden):
    """Keys of an environment count where it, or the family whose settings it takes, is played.

    Mappings apart, such as env.shaping: a tuned file for an environment of a golden run must not set one.
    """
    tuned = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs" / "hparams").rglob("*.yaml")}
    assert tuned
    for run in golden.RUNS:
        algo, env = run.settings["algo"], run.settings["env"]
        given = run.settings.keys() | {"algo.num_envs", "algo.batch_size"}
        for stem, values in tuned.items():
            keys = {key for key in golden._flat(values) if key != "defaults"}
            if stem.endswith(f"_{env}"):
                assert "shaping" not in values.get("env", {}), f"{stem} would change {run.name}"
            if stem.startswith(f"{algo}_"):
                if not stem.endswith((f"_{env}", f"_{tuned_as(env)}")):
                    keys = {key for key in keys if not key.startswith("env.")}
                assert {key for key in keys if not key.startswith("env.shaping.")} <= given, f"{stem}, {run.name}"


def test_names_are_unique_and_every_algorithm_has_a_quick_run(golden):
    assert len({run.name for run in golden.RUNS}) == len(golden.RUNS)
    assert {run.settings["algo"] for run in golden.RUNS if run.quick} == set(ALGOS)
