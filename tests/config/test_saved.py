"""The configuration that a run folder keeps."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from rltrain.app.resolve import resolve
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import DQNConfig
from rltrain.config.environments import DoomConfig, GymConfig
from rltrain.config.run import RunConfig
from rltrain.errors import CheckpointError, ConfigError

CONFIG = resolve(RunConfig(DQNConfig(), GymConfig("cartpole", id="CartPole-v1", kwargs={}), name="x"))


def test_a_saved_config_is_read_back_as_it_was(tmp_path):
    saved_config.save(CONFIG, tmp_path / "config.yaml")
    assert saved_config.load(tmp_path / "config.yaml") == CONFIG


def test_only_an_edited_value_is_no_longer_a_chosen_one(tmp_path):
    path = tmp_path / "config.yaml"
    kwargs = {"text": "ü\n# As rltrain wrote it: {}\n", "number": float("nan"), "names": {1: None}}
    env = GymConfig("cartpole", id="CartPole-v1", kwargs=kwargs)
    saved_config.save(dataclasses.replace(CONFIG, env=env, chosen=["device", "env.kwargs", "network", "seed"]), path)
    assert saved_config.is_edited(path) is False
    values = yaml.safe_load(path.read_text())
    assert {"device", "network", "seed"} <= {*saved_config.load(path).chosen}
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    assert saved_config.is_edited(path) is True
    assert {"device", "network"} <= {*saved_config.load(path).chosen} and "seed" not in saved_config.load(path).chosen
    path.write_text(yaml.safe_dump(values))  # another program leaves comments out
    assert saved_config.is_edited(path) is None and "seed" in saved_config.load(path).chosen


@pytest.mark.parametrize(
    ("where", "key", "value", "hint"),
    [
        (None, "total_steps", "many", "int"),
        (None, "total_steps", 1.5, "int"),
        (None, "total_steps", True, "int"),
        (None, "progress", "yes", "bool"),
        ("algo", "gamma", "high", "float"),
        ("network", "hidden_sizes", [64, "wide"], "list"),
        ("env", "kwargs", [], "dict"),
        ("algo", "gama", 0.9, "gamma"),
        ("algo", "name", "dqnn", "dqn"),
        ("env", "family", "gymm", "gym"),
        ("algo", "gamma", 1.5, "[0, 1]"),
    ],
)
def test_a_saved_config_that_was_changed_by_hand_is_checked(where, key, value, hint, tmp_path):
    saved_config.save(CONFIG, tmp_path / "config.yaml")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (values[where] if where else values)[key] = value
    with pytest.raises(ConfigError) as caught:
        saved_config.from_dict(values)
    assert key in caught.value.where
    assert hint in caught.value.fix


def test_the_values_of_a_saved_mapping_are_checked():
    values = dataclasses.asdict(RunConfig(DQNConfig(), DoomConfig("doom", shaping={"HEALTH": 1.0})))
    values["env"]["shaping"]["HEALTH"] = "much"
    with pytest.raises(ConfigError, match=r"env\.shaping"):
        saved_config.from_dict(values)


@pytest.mark.parametrize("text", ["{broken", "!!python/object/apply:os.getcwd []", None])
def test_a_config_that_cannot_be_read_runs_nothing_and_is_no_bug_of_ours(text, tmp_path):
    path: Path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError):
        saved_config.load(path)


def test_the_next_number_of_a_resume_is_found_again(tmp_path):
    """Bugs: after 999999 came a name that was not found; of `01` the name of another file was made."""
    for name in (
        "config.yaml",
        "config.resume-999999.yaml",
        "config.resume-1000000.yaml",
        "config.resume-09999999.yaml",
    ):
        (tmp_path / name).write_text("")
    assert saved_config.newest(tmp_path) == (tmp_path / "config.resume-1000000.yaml", 1_000_000)


def test_an_int_is_a_float_and_none_only_where_it_may_be():
    values = dataclasses.asdict(CONFIG)
    assert saved_config.from_dict(values | {"log_every_s": 2}).log_every_s == 2
    with pytest.raises(ConfigError):
        saved_config.from_dict(values | {"seed": None})
