"""Composition with the real YAML files, and the configuration that a run folder keeps."""

import dataclasses
from pathlib import Path

import pytest
import yaml

import rltrain.train
from rltrain import config as schema
from rltrain import hydra_app
from rltrain.algos.dqn_config import DQNConfig
from rltrain.envs.gym import GymConfig
from rltrain.errors import CheckpointError, ConfigError

ENVS = sorted(path.stem for path in (hydra_app.CONFIGS / "env").glob("*.yaml") if path.stem != "gym")
COUNTED = {"taxi", "frozen_lake", "frozen_lake_8x8", "cliff_walking"}
CONTINUOUS = {"pendulum"}
MISSING_PACKAGE = 4


@pytest.fixture
def compose(command, monkeypatch):
    """The resolved config that a command line would train with, or the outcome where it is refused."""

    def call(*args):
        got = []
        monkeypatch.setattr(rltrain.train, "train", lambda config, folder=None: got.append(config))
        outcome = command(*args)
        return got[0] if got else outcome

    return call


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("algo", sorted(schema.ALGOS))
def test_every_pair_of_algorithm_and_environment_composes_or_says_why_not(algo, env, compose):
    got = compose(f"algo={algo}", f"env={env}")
    if getattr(got, "code", 0) == MISSING_PACKAGE:
        pytest.skip(got.last_line)
    reason = None
    if algo == "q_learning" and env not in COUNTED:
        reason = "q_learning needs states that can be counted"
    elif algo == "dqn" and env in CONTINUOUS:
        reason = "dqn needs discrete actions"
    if reason:
        assert got.code == 2
        assert reason in got.last_line
        assert not got.run_dir.exists()
    else:
        assert isinstance(got, schema.RunConfig), got.last_line
        assert (got.algo.name, got.env.name) == (algo, env)
        assert None not in (got.num_envs, got.batch_size, got.log_every_steps, got.eval_every_steps)
        assert (got.num_envs, got.batch_size) == (got.algo.num_envs, got.algo.batch_size)


def test_every_tuned_setting_belongs_to_an_algorithm_and_an_environment():
    files = sorted((hydra_app.CONFIGS / "hparams").glob("*.yaml"))
    pairs = {f"{algo}_{env}" for algo in schema.ALGOS for env in [*ENVS, "gym"]}
    assert files
    assert {path.stem for path in files} <= pairs
    for path in files:
        assert path.read_text().startswith("# @package _global_"), path


def test_tuned_settings_are_used_and_lose_against_the_command_line(compose):
    tuned = yaml.safe_load((hydra_app.CONFIGS / "hparams" / "dqn_doom.yaml").read_text())
    key = next(key for key, value in tuned["algo"].items() if value != getattr(DQNConfig(), key))
    assert getattr(compose("algo=dqn", "env=doom").algo, key) == tuned["algo"][key]
    other = dataclasses.asdict(DQNConfig())[key]
    assert getattr(compose("algo=dqn", "env=doom", f"algo.{key}={str(other).lower()}").algo, key) == other
    assert compose("algo=dqn", "env=doom", "total_steps=123").total_steps == 123
    assert compose("total_steps=123", "algo=dqn", "env=doom").total_steps == 123


def test_tuned_settings_of_a_pair_do_not_leak_to_another_environment(compose):
    assert compose("algo=dqn", "env=acrobot").algo == dataclasses.replace(DQNConfig())


def test_the_batch_size_of_the_run_replaces_that_of_the_algorithm(compose):
    config = compose("algo=dqn", "env=cartpole", "batch_size=48", "num_envs=3")
    assert (config.algo.batch_size, config.algo.num_envs) == (48, 3)


@pytest.mark.parametrize(
    ("text", "steps"), [("1e6", 1_000_000), ("1_000_000", 1_000_000), ("2.5e5", 250_000), ("1E+3", 1000), ("77", 77)]
)
def test_large_numbers_may_be_written_short(text, steps, compose):
    config = compose("algo=dqn", "env=cartpole", f"total_steps={text}")
    assert config.total_steps == steps
    assert type(config.total_steps) is int


def test_writing_numbers_short_leaves_fractions_and_names_alone():
    assert hydra_app.normalise(["algo.learning_rate=1e-3", "name=run1e3", "algo.adam_eps=1.5e0"]) == [
        "algo.learning_rate=1e-3",
        "name=run1e3",
        "algo.adam_eps=1.5e0",
    ]


@pytest.mark.parametrize(
    ("general", "key", "option"),
    [("env=doom", "env.scenario=deadly_corridor", "doom_deadly_corridor"), ("env=atari", "env.game=pong", "pong")],
)
def test_naming_the_scenario_equals_choosing_its_file(general, key, option, compose):
    assert compose("algo=ppo", general, key) == compose("algo=ppo", f"env={option}")


def test_any_gymnasium_environment_can_be_named(compose):
    assert compose("algo=ppo", "env=gym", "env.id=MountainCar-v0").env.id == "MountainCar-v0"


CONFIG = schema.resolve(schema.RunConfig(DQNConfig(), GymConfig("cartpole", id="CartPole-v1", kwargs={}), name="x"))


def test_a_saved_config_is_read_back_as_it_was(tmp_path):
    schema.save(CONFIG, tmp_path / "config.yaml")
    assert schema.load(tmp_path / "config.yaml") == CONFIG


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
    schema.save(CONFIG, tmp_path / "config.yaml")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (values[where] if where else values)[key] = value
    with pytest.raises(ConfigError) as caught:
        schema.from_dict(values)
    assert key in caught.value.where
    assert hint in caught.value.fix


@pytest.mark.parametrize("text", ["{broken", "!!python/object/apply:os.getcwd []", None])
def test_a_config_that_cannot_be_read_runs_nothing_and_is_no_bug_of_ours(text, tmp_path):
    path: Path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CheckpointError):
        schema.load(path)


def test_an_int_is_a_float_and_none_only_where_it_may_be():
    values = dataclasses.asdict(CONFIG)
    assert schema.from_dict(values | {"log_every_s": 2}).log_every_s == 2
    with pytest.raises(ConfigError):
        schema.from_dict(values | {"seed": None})


def test_a_minibatch_that_does_not_divide_the_rollout_is_refused_with_one_that_does(compose):
    outcome = compose("algo=ppo", "env=cartpole", "batch_size=100", "num_envs=8", "algo.num_steps=128")
    assert outcome.code == 2
    assert "batch_size=128" in outcome.last_line


def test_a_replay_too_small_for_a_batch_is_refused_before_it_is_built(compose):
    outcome = compose("algo=dqn", "env=cartpole", "algo.replay_capacity=10")
    assert outcome.code == 2
    assert "algo.replay_capacity" in outcome.last_line
