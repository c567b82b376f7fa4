"""Which tuned settings a pair takes: its own, those of the family that the environment names, or none."""

import dataclasses
import hashlib
import json

import pytest
import yaml
from small_runs import QUICK

from rltrain import plugins
from rltrain.app.hparams import preset_of, tuned_as, tuned_env
from rltrain.app.paths import CONFIGS
from rltrain.config import saved
from rltrain.config.algorithms import ALGOS, DQNConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig

ENVS = sorted(path.stem for path in (CONFIGS / "env").glob("*.yaml"))
TUNED = {path.stem for path in (CONFIGS / "hparams").glob("*.yaml")}


def tuned(name):
    """What a file of configs/hparams sets for the algorithm, over those that it takes as its base."""
    values = yaml.safe_load((CONFIGS / "hparams" / f"{name}.yaml").read_text())
    bases = [base for base in values.get("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in tuned(base).items()} | values.get("algo", {})


@pytest.fixture
def composed(command):
    """The values that `--cfg job` shows for a command line."""

    def call(*args):
        outcome = command(*args, "--cfg", "job")
        assert outcome.code == 0, outcome.err
        return yaml.safe_load(outcome.out)

    return call


@pytest.fixture
def mine(tmp_path):
    """A folder of the user's own with the environment `mine`, which is tuned as cartpole."""
    for group in ("env", "hparams"):
        (tmp_path / "mine" / group).mkdir(parents=True)
    text = "defaults: [gym_schema, _self_]\nname: mine\nid: CartPole-v1\ntuned_as: cartpole\n"
    (tmp_path / "mine" / "env" / "mine.yaml").write_text(text)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("algo", "env", "takes"),
    [
        ("dqn", "pong", "atari"),
        ("ppo", "pong", "pong"),  # has a file of its own
        ("d3qn_per", "pong", "atari"),  # dqn's
        ("pqn", "doom_basic", "doom"),
        ("pqn", "doom_take_cover", "doom_scenarios"),
        ("ppo", "doom_take_cover", "doom_take_cover"),
        ("per_dqn", "doom_deadly_corridor", "doom_deadly_corridor"),
        ("a2c", "sonic2", "sonic"),
        ("a2c", "sonic_levels", "sonic_levels"),
        ("ppo", "acrobot", "acrobot"),
        ("dqn", "acrobot", "acrobot"),  # there are none
    ],
)
def test_a_file_of_the_pair_comes_first_then_the_familys(algo, env, takes):
    assert tuned_env(algo, env) == takes


def test_whatever_an_environment_names_has_tuned_settings():
    """Bug: a misspelt name, which would silently mean no tuned settings."""
    named = {family for env in ENVS if (family := tuned_as(env))}
    assert {"atari", "doom", "doom_scenarios", "sonic"} <= named
    for family in named:
        assert any(f"{algo}_{family}" in TUNED for algo in ALGOS), family


def test_no_file_only_repeats_another_one():
    for path in (CONFIGS / "hparams").glob("*_*.yaml"):
        assert set(yaml.safe_load(path.read_text())) - {"defaults"}, f"say it with tuned_as: {path.name}"


@pytest.mark.parametrize("env", ["breakout", "doom_basic", "sonic3"])
@pytest.mark.parametrize("algo", sorted(ALGOS))
def test_no_algorithm_takes_numbers_that_were_tuned_for_another(algo, env, composed):
    """Bug: d3qn_per with the rollouts of ppo."""
    found = composed(f"algo={algo}", f"env={env}")["algo"]
    base = preset_of(algo) or algo
    name = f"{base}_{tuned_as(env)}"
    untuned = dataclasses.asdict(ALGOS[base]())
    for key in untuned.keys() - {"name", "double", "dueling", "prioritized"}:
        wanted = tuned(name).get(key, untuned[key]) if name in TUNED else untuned[key]
        assert found[key] == (float(wanted) if isinstance(untuned[key], float) else wanted), key


def test_a_users_own_environment_may_say_it_too(mine, composed):
    mine_ppo = composed("--config-dir", mine, "algo=ppo", "env=mine")
    cartpole = composed("algo=ppo", "env=cartpole")
    assert mine_ppo["env"].pop("name") == "mine" and mine_ppo["env"].pop("tuned_as") == "cartpole"
    assert cartpole["env"].pop("name") == "cartpole" and cartpole["env"].pop("tuned_as") is None
    assert mine_ppo == cartpole
    typed = composed("--config-dir", mine, "algo=ppo", "env=mine", "total_steps=7", "algo.num_steps=9")
    assert (typed["total_steps"], typed["algo"]["num_steps"]) == (7, 9)
    assert typed["algo"]["batch_size"] == cartpole["algo"]["batch_size"]
    preset, dqn = (composed(f"--config-dir={mine}", f"algo={algo}", "env=mine") for algo in ("d3qn_per", "dqn"))
    assert preset["algo"]["n_step"] == dqn["algo"]["n_step"] == 5
    assert preset["network"] == dqn["network"] and preset["algo"]["prioritized"]


def test_a_users_own_file_of_the_pair_wins_also_through_the_search_path(mine, composed):
    (mine / "hparams" / "dqn_mine.yaml").write_text("# @package _global_\nalgo:\n  n_step: 2\n")
    for arg in (f"--config-dir={mine}", f"hydra.searchpath=[file://{mine}]"):
        for algo in ("dqn", "double_dqn"):
            found = composed(arg, f"algo={algo}", "env=mine")["algo"]
            assert (found["n_step"], found["batch_size"]) == (2, DQNConfig().batch_size)
        assert composed(arg, "algo=ppo", "env=mine")["algo"]["num_steps"] == 128
    (mine / "hparams" / "double_dqn_mine.yaml").write_text("# @package _global_\nalgo:\n  gamma: 0.5\n")
    found = composed(f"--config-dir={mine}", "algo=double_dqn", "env=mine")["algo"]
    assert (found["n_step"], found["gamma"]) == (2, 0.5)


@pytest.mark.parametrize("algo", ["dqn", "double_dqn", "slow"])
def test_chosen_settings_stand_in_place_of_tuned_ones_also_for_a_preset(algo, mine, composed, compose):
    """Bug: double_dqn, and an algorithm with `like: dqn`, kept the tuned settings of dqn beneath the chosen ones."""
    (mine / "algo").mkdir()
    (mine / "exp").mkdir()
    (mine / "algo" / "slow.yaml").write_text("defaults: [dqn, _self_]\nlike: dqn\n")
    (mine / "hparams" / "low.yaml").write_text("# @package _global_\nalgo:\n  gamma: 0.5\n")
    (mine / "exp" / "low.yaml").write_text("# @package _global_\ndefaults: [{override /hparams: low}]\n")
    pair = (f"--config-dir={mine}", f"algo={algo}", "env=cartpole")
    assert composed(*pair)["algo"]["n_step"] == 5, "the control: tuned"
    nothing = [([words], DQNConfig().gamma) for words in ("hparams=none", "hparams=[]", "~hparams")]
    for words, gamma in ((["hparams=low"], 0.5), (["+exp=low"], 0.5), *nothing):
        found = composed(*pair, *words)["algo"]
        assert (found["n_step"], found["batch_size"], found["gamma"]) == (1, DQNConfig().batch_size, gamma), words
    assert composed(*pair, "hparams=[dqn_cartpole,low]")["algo"]["n_step"] == 5
    low = str(mine / "hparams" / "low.yaml")
    for words, files in (("none", []), ("low", [low]), ("[dqn_cartpole,low]", ["hparams/dqn_cartpole.yaml", low])):
        assert compose(*pair, f"hparams={words}").tuned_by == files


def test_the_help_of_a_pair_shows_what_it_would_be_trained_with(mine, command):
    out = command("--config-dir", mine, "algo=ppo", "env=mine", "--help").out
    assert "  total_steps=40960 " in out and "  algo.num_epochs=6 " in out


def test_environments_inherit_it_and_may_do_without(mine):
    def write(name, text):
        (mine / "env" / f"{name}.yaml").write_text(text)
        return tuned_as(name, [CONFIGS, mine])

    assert write("a", "defaults: [mine, _self_]\nname: a\n") == "cartpole"
    assert write("b", "defaults: [mine, _self_]\ntuned_as: maze\n") == "maze"
    assert write("c", "defaults: [_self_, mine]\ntuned_as: maze\n") == "cartpole"
    assert write("d", "defaults: [mine, _self_]\ntuned_as: null\n") is None
    assert write("e", "defaults: [pong, _self_]\n") == "atari"
    assert write("f", "defaults: [gym_schema, _self_]\n") is None
    for broken in ("defaults: [", "- 1\n", ""):
        assert write("g", broken) is None
    assert tuned_as("no_such", [CONFIGS, mine]) is None


def test_a_plugins_environment_may_say_it(composed, monkeypatch):
    settings = GymConfig("swing", id="CartPole-v1", tuned_as="cartpole")
    monkeypatch.setitem(plugins.OPTIONS, ("env", "swing"), plugins.Option(settings, ""))
    assert composed("algo=ppo", "env=swing")["algo"] == composed("algo=ppo", "env=cartpole")["algo"]


@pytest.mark.parametrize("typed", ["env.tuned_as=doom", "+env.tuned_as=doom", "env.tuned_as=doom,atari"])
def test_it_is_refused_where_it_would_come_too_late(typed, command):
    """Bug: accepted and without effect."""
    for more in ([], ["-m"]):
        outcome = command("algo=ppo", "env=breakout", typed, *more)
        assert outcome.code == 2
        assert "env.tuned_as; set it in the environment's YAML file, or choose with hparams=" in outcome.last_line
        assert not outcome.run_dir.exists()


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_each_job_of_a_sweep_takes_the_numbers_of_its_own_algorithm(launcher, mine, command):
    """Bugs: the first job's choice kept for all; the user's folder not known to the processes of a launcher."""
    text = "defaults: [gym_schema, _self_]\nname: ice\nid: FrozenLake-v1\ntuned_as: frozen_lake\n"
    (mine / "env" / "ice.yaml").write_text(text)
    args = ["--config-dir", mine, "algo=q_learning,sarsa,monte_carlo", "env=ice", "total_steps=200", *QUICK]
    outcome = command("-m", *args, f"hydra/launcher={launcher}")
    if launcher == "joblib":
        pytest.importorskip("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)  # kept for a next call
    assert outcome.code == 0, outcome.err
    configs = [saved.load(path) for path in sorted(outcome.run_dir.glob("sweeps/*/*/config.yaml"))]
    found = {config.algo.name: (config.algo.learning_rate, config.algo.epsilon_end) for config in configs}
    assert found == {"q_learning": (0.1, 0.3), "sarsa": (0.1, 0.01), "monte_carlo": (0.05, 0.01)}


def test_checkpoints_of_runs_without_the_key_still_fit(command):
    """Bug: a fingerprint over the new key, so that no run from before could be resumed."""
    config = RunConfig(DQNConfig(), GymConfig("mine", id="CartPole-v1", tuned_as="cartpole"))
    values = dataclasses.asdict(config)
    del values["env"]["tuned_as"], values["algo"]["like"]
    text = json.dumps({key: values[key] for key in ("algo", "env", "network")}, sort_keys=True)
    assert saved.fingerprint(config) == hashlib.sha256(text.encode()).hexdigest()
    other = dataclasses.replace(config, env=dataclasses.replace(config.env, stack_num=2))
    assert saved.fingerprint(config) != saved.fingerprint(other), "the control"

    folder = command("algo=q_learning", "env=frozen_lake", "total_steps=100", *QUICK).folder
    values = yaml.safe_load((folder / "config.yaml").read_text())
    assert values["env"].pop("tuned_as") is None
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    resumed = command("resume", folder, "total_steps=200", "progress=false")
    assert resumed.code == 0, resumed.err
    assert json.loads((folder / "result.json").read_text())["steps"] == 200
    assert command("eval", folder, "episodes=1").code == 0


def test_the_list_says_for_which_environments_settings_are_used(command):
    def listed(*words):
        lines = command("list", "hparams", *words).out.splitlines()
        return {line.split()[1]: line for line in lines if line.startswith("hparams ")}  # between the groups' titles

    rows = listed()
    quick = {f"quick/{path.stem}" for path in (CONFIGS / "hparams" / "quick").glob("*.yaml")}
    assert rows.keys() == TUNED | quick and len(quick) > 1
    assert "(also for beam_rider, breakout, " in rows["dqn_atari"] and "pong" in rows["dqn_atari"]
    assert "pong" not in rows["ppo_atari"], "it has a file of its own"
    assert "also for" not in rows["ppo_cartpole"]
    assert list(listed("breakout")) == ["dqn_atari", "impala_atari", "ppo_atari", "pqn_atari"]
