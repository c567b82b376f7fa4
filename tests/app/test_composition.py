"""Composition with the real YAML files."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from small_runs import TABULAR

from rltrain.algos.registry import module_of
from rltrain.app import hydra_app, overrides
from rltrain.app.hparams import UNTUNED, preset_of, tuned_as
from rltrain.config import algorithms
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import DQNConfig
from rltrain.config.run import RunConfig

OF_ANY_NAME = {"atari", "gym"}
"""Nothing by themselves."""
ENVS = sorted({path.stem for path in (hydra_app.CONFIGS / "env").glob("*.yaml")} - OF_ANY_NAME)
COUNTED = {"taxi", "frozen_lake", "frozen_lake_8x8", "frozen_lake_not_slippery", "cliff_walking", "maze"}
CONTINUOUS = {"pendulum", "mountain_car_continuous", "bipedal_walker"}
MISSING_ROM = 4
OF_A_FAMILY = {"retro": "Airstriker-Genesis-v0"}
"""What runs of an option for any game are called where none is given."""


ALGOS = sorted(algo for algo in algorithms.ALGOS if preset_of(algo) == "")
PAIRS = [(algo, env) for algo in ALGOS for env in ENVS]
# Every environment with one algorithm is enough for every day, and every algorithm with one that many must refuse.
DAILY = {(ALGOS[number % len(ALGOS)], env) for number, env in enumerate(ENVS)} | {(algo, "pendulum") for algo in ALGOS}


@pytest.mark.parametrize(
    ("algo", "env"), [pytest.param(*pair, marks=() if pair in DAILY else pytest.mark.slow) for pair in PAIRS]
)
def test_every_pair_of_algorithm_and_environment_composes_or_says_why_not(algo, env, compose):
    got = compose(f"algo={algo}", f"env={env}")
    if getattr(got, "code", 0) == MISSING_ROM:
        assert "env.game; use `python -m stable_retro.import DIR`" in got.last_line
        assert env.startswith("sonic") and not got.run_dir.exists()
        return
    reason = None
    if algo in TABULAR and env not in COUNTED:
        reason = f"{algo} needs discrete states"
    elif algo in ("dqn", "pqn") and env in CONTINUOUS:
        reason = f"{algo} needs one discrete action per step"
    if reason:
        assert got.code == 2
        assert reason in got.last_line
        assert not got.run_dir.exists()
    else:
        assert isinstance(got, RunConfig), got.last_line
        assert (got.algo.name, got.env.name) == (algo, OF_A_FAMILY.get(env, env))
        assert None not in (got.num_envs, got.log_every_steps, got.eval_every_steps)
        assert (got.num_envs, got.batch_size) == (got.algo.num_envs, getattr(got.algo, "batch_size", None))


def test_every_tuned_setting_belongs_to_an_algorithm_and_an_environment():
    files = sorted((hydra_app.CONFIGS / "hparams").rglob("*.yaml"))
    families = {family for env in ENVS if (family := tuned_as(env))}
    pairs = {f"{algo}_{env}" for algo in algorithms.ALGOS for env in [*ENVS, *OF_ANY_NAME, *families]}
    assert files
    names = {path.stem for path in files}
    assert names <= pairs | {UNTUNED}
    for path in files:
        assert path.read_text().startswith("# @package _global_"), path
    for family in families:
        assert names & {f"{algo}_{family}" for algo in algorithms.ALGOS}, f"tuned_as={family} names no settings"


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


def test_numbers_stay_as_they_are_typed_and_names_get_quotes():
    """Bug: digits replaced in the text of a setting, whatever it means."""
    assert overrides.normalise(["algo.learning_rate=1e-3", "name=run1e3,1e3", "total_steps=1e6"]) == [
        "algo.learning_rate=1e-3",
        "name=run1e3,'1e3'",
        "total_steps=1e6",
    ]


@pytest.mark.parametrize(
    ("general", "key", "option"),
    [("env=doom", "env.scenario=deadly_corridor", "doom_deadly_corridor"), ("env=atari", "env.game=pong", "pong")],
)
def test_naming_the_scenario_equals_choosing_its_file(general, key, option, compose):
    assert compose("algo=ppo", general, key) == compose("algo=ppo", f"env={option}")


def test_several_actions_at_once_are_refused_with_a_reason_where_an_algorithm_gives_one(compose, monkeypatch):
    """Bug: a crash while the network is built, after the run folder was made."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "envs"))
    got = compose("algo=dqn", "env=gym", "env.id=counter:Buttons-v0")
    assert got.code == 2
    assert (
        "dqn needs one discrete action per step, but counter-Buttons-v0 has several discrete actions per step"
        in got.last_line
    )
    assert not got.run_dir.exists()


def test_any_gymnasium_environment_can_be_named(compose):
    assert compose("algo=ppo", "env=gym", "env.id=MountainCar-v0").env.id == "MountainCar-v0"


PRESETS = [algo for algo in algorithms.ALGOS if preset_of(algo)]


@pytest.mark.parametrize("env", ["doom", "pong", "acrobot"])  # tuned, tuned in a file that takes another, not tuned
def test_presets_are_their_algorithm_with_the_switches_that_they_name(env, compose):
    base = compose("algo=dqn", f"env={env}")
    assert not (base.algo.double or base.algo.dueling or base.algo.prioritized)
    for algo in PRESETS:
        got = compose(f"algo={algo}", f"env={env}")
        switches = dict.fromkeys(algorithms.PRESETS[algo], True)
        assert switches
        assert got == dataclasses.replace(base, algo=dataclasses.replace(base.algo, name=algo, **switches))
        assert module_of(algo) is module_of("dqn")
        assert saved_config.from_dict(dataclasses.asdict(got)) == got


@pytest.mark.parametrize("algo", PRESETS)
def test_a_preset_without_what_its_name_says_is_refused(algo, compose):
    outcome = compose(f"algo={algo}", "env=cartpole", f"algo.{algorithms.PRESETS[algo][-1]}=false")
    assert outcome.code == 2
    assert f"algo={algo} needs algo.{algorithms.PRESETS[algo][-1]}=true" in outcome.last_line


def test_what_presets_take_from_dqn_does_not_switch_their_improvements(compose):
    for path in (hydra_app.CONFIGS / "hparams").glob("dqn_*.yaml"):
        assert not set((yaml.safe_load(path.read_text()) or {}).get("algo", {})) & {"double", "dueling", "prioritized"}


def test_mappings_take_names_on_the_command_line(compose):
    """Bug: `env.shaping={HEALTH:1}` refused as an unknown key, because Hydra adds no name to a structured config."""
    doom = compose("algo=ppo", "env=doom", "env.shaping={HEALTH_GAINED:0.1}", "env.shaping.AMMO2_LOST=-1").env
    assert doom.shaping == {"HEALTH_GAINED": 0.1, "AMMO2_LOST": -1.0}
    gym = compose("algo=dqn", "env=gym", "env.id=FrozenLake-v1", "env.kwargs={is_slippery:false}").env
    assert gym.kwargs == {"is_slippery": False}
    assert compose("algo=dqn", "env=cartpole", "env.shaping={HEALTH:1}").code == 2


def test_lists_of_doom_are_typed_on_the_command_line(compose):
    config = compose("algo=ppo", "env=doom", "env.actions=[[MOVE_LEFT],[ATTACK,MOVE_RIGHT],[]]", "env.crop=[.1,0,0,0]")
    assert config.env.actions == [["MOVE_LEFT"], ["ATTACK", "MOVE_RIGHT"], []]
    assert config.env.crop == [0.1, 0, 0, 0]
    assert saved_config.from_dict(dataclasses.asdict(config)) == config
    assert compose("algo=ppo", "env=doom", "env.actions=[MOVE_LEFT]").code == 2


def test_a_minibatch_that_does_not_divide_the_rollout_is_refused_with_one_that_does(compose):
    outcome = compose("algo=ppo", "env=cartpole", "batch_size=100", "num_envs=8", "algo.num_steps=128")
    assert outcome.code == 2
    assert "batch_size=128" in outcome.last_line


def test_a_replay_too_small_for_a_batch_is_refused_before_it_is_built(compose):
    outcome = compose("algo=dqn", "env=cartpole", "algo.replay_capacity=10")
    assert outcome.code == 2
    assert "algo.replay_capacity" in outcome.last_line


@pytest.mark.parametrize(("capacity", "every"), [(200_000, 25_000), (20_000, 2_000_000)])
def test_a_large_replay_is_saved_before_much_of_it_is_new(capacity, every, compose):
    got = compose("algo=dqn", "env=pong", f"algo.replay_capacity={capacity}", "total_steps=10_000_000")
    assert got.checkpoint_every_steps == every
