"""The command line is read as Hydra reads it: numbers, quotes, options between settings, files of settings."""

import gc
import os
import random
import sys
from pathlib import Path

import gymnasium
import pytest
import vizdoom
import yaml
from in_time import fails_after
from omegaconf import OmegaConf
from small_runs import QUICK

from rltrain import cli
from rltrain.app import overrides
from rltrain.commands.arguments import note_repeated, split
from rltrain.config import saved
from rltrain.system import inside

TABLE = ["algo=q_learning", "env=maze"]
gymnasium.register("Any-v0", lambda **kwargs: gymnasium.make("CartPole-v1"), max_episode_steps=9)


@pytest.fixture
def mine(tmp_path):
    """Write a file of a config folder of the user's."""

    def write(name, text):
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def test_whole_numbers_may_have_an_exponent_wherever_they_stand(compose, mine):
    """Bug: 1e6 works on the command line only; in YAML and choice() it is refused, without a reason."""
    mine(
        "study/long.yaml",
        "# @package _global_\ntotal_steps: 1e4\nnetwork:\n  hidden_sizes: [1e1, 2.0]\nnum_envs: 3e0\n",
    )
    config = compose("--config-dir", "conf", "+study=long", "algo=ppo", "env=cartpole", "batch_size=128.0")
    assert (config.total_steps, config.network.hidden_sizes, config.num_envs) == (10_000, [10, 2], 3)
    assert type(config.total_steps) is int and type(config.network.hidden_sizes[0]) is int
    assert compose(*TABLE, "total_steps=1_000.0").total_steps == 1000
    refused = compose(*TABLE, "total_steps=1.5e0")
    assert refused.code == 2
    assert refused.last_line.endswith("to Integer; total_steps; give an integer, such as 1000000 or 1e6")


def test_a_sweep_takes_exponents_in_choices_and_ranges(command):
    outcome = command("-m", *TABLE, *QUICK, "total_steps=choice(1e2,2e2)", "algo.show_steps=range(0,1e0)")
    assert outcome.code == 0, outcome.err
    names = {path.parent.name for path in outcome.run_dir.rglob("result.json")}
    assert names == {"00_total_steps-100", "01_total_steps-200"}


@pytest.mark.parametrize("name", ["lr=0.1", "données", "a & b", "runs(2)", "a;b", "50%", "it=a=b", "x~y", "(1)", "a:b"])
def test_a_path_needs_no_quotes_within_quotes(name, compose, tmp_path):
    """Bug: a LexerNoViableAltException, with no word of the quotes that Hydra wants."""
    assert compose(*TABLE, f"run_dir={tmp_path}/{name}").run_dir == f"{tmp_path}/{name}"


def test_a_leading_tilde_is_the_home_folder_quoted_or_not(compose, monkeypatch):
    """Bug: a folder named ~ is made."""
    monkeypatch.setenv("HOME", "/somewhere")
    for written in ("run_dir=~/my runs", 'run_dir="~/my runs"'):
        assert compose(*TABLE, written).run_dir == "/somewhere/my runs"


def test_a_tilde_stands_for_the_home_in_every_path(compose, mine, monkeypatch, tmp_path):
    """Bug: `--config-dir=~/conf` and `env.cfg=~/my.cfg`, which no shell expands, are not found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    mine("env/room.yaml", "defaults: [doom_schema, _self_]\nname: room\ncfg: ~/basic.cfg\n")
    source = Path(vizdoom.scenarios_path)
    for name in ("basic.cfg", "basic.wad"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for options in (["--config-dir=~/conf"], ["--config-dir", "~/conf"], ["hydra.searchpath=[file://~/conf]"]):
        assert compose(*options, "algo=dqn", "env=room").env.cfg == f"{tmp_path}/basic.cfg"
    assert compose("algo=dqn", "env=doom", "env.cfg=~/basic.cfg").env.cfg == f"{tmp_path}/basic.cfg"
    _, values = split(["run", "out=~/a.mp4", "env.cfg=~/b.cfg"], {"out", "env.cfg"}, "rltrain play RUN")
    assert values == {"out": f"{tmp_path}/a.mp4", "env.cfg": f"{tmp_path}/b.cfg"}


def test_what_is_quoted_comes_back(compose):
    for text in ("it's", "back\\slash", "end\\", "\\'", "a,b", "{x}", "[1]"):
        assert compose(*TABLE, f"run_dir={overrides.quote(text)}").run_dir == text


def test_an_unreadable_value_says_how_to_quote_it(compose):
    line = compose(*TABLE, "run_dir=a=b,c").last_line
    assert "Hydra cannot read the value 'a=b,c'; run_dir; " in line
    assert """put it in two pairs of quotes: 'run_dir='"'"'a=b,c'"'"''""" in line
    assert compose(*TABLE, """run_dir='a=b,c'""").run_dir == "a=b,c"


@pytest.mark.parametrize("place", [0, 1, 3])
def test_options_may_stand_between_settings(place, command, mine):
    """Bug: argparse's usage text, because -m does not come first."""
    mine("study/place.yaml", "# @package _global_\nrun_dir: elsewhere\n")
    args = [*TABLE, *QUICK, "total_steps=100", "seed=0,1", "+study=place"]
    outcome = command(*args[:place], "-m", *args[place:], "--config-dir", "conf")
    assert outcome.code == 0, outcome.err
    assert len(list(Path("elsewhere/sweeps").rglob("result.json"))) == 2


@pytest.mark.parametrize(
    ("file", "text", "schema"),
    [
        ("env/mine.yaml", "name: mine\nid: CartPole-v1\n", "gym_schema"),
        ("env/mine.yaml", "scenario: basic\nshaping: {}\n", "doom_schema"),
        ("algo/mine.yaml", "name: ppo\nclip_range: 0.1\n", "ppo_schema"),
    ],
)
def test_a_file_without_a_schema_says_which_line_to_add(file, text, schema, compose, mine):
    """Bug: 'vars() argument must have __dict__ attribute', as a bug of rltrain."""
    mine(file, text)
    outcome = compose("--config-dir", "conf", "algo=ppo", "env=cartpole", f"{file.partition('/')[0]}=mine")
    assert outcome.code == 2, outcome.err
    assert outcome.last_line.endswith(f"defaults: [{schema}, _self_]")


def test_an_algorithm_of_ones_own_keeps_tuned_settings_by_saying_what_it_is_like(compose, mine):
    """Bugs: tuned settings lost in silence; tuned settings that replace what one's own file says."""
    tuned = compose("algo=ppo", "env=pong")
    mine("algo/own.yaml", "defaults: [ppo, _self_]\nlike: ppo\ngamma: 0.5\nlearning_rate: 3e-3\n")
    mine("algo/second.yaml", "defaults: [own, _self_]\nlearning_rate: 1e-3\n")
    mine("algo/plain.yaml", "defaults: [ppo, _self_]\n")
    own = compose("--config-dir", "conf", "algo=own", "env=pong")
    assert (own.algo.gamma, own.algo.learning_rate, own.algo.like) == (0.5, 3e-3, "ppo")
    assert (own.total_steps, own.algo.num_envs) == (tuned.total_steps, tuned.algo.num_envs)
    second = compose("--config-dir", "conf", "algo=second", "env=pong", "algo.gamma=0.25")
    assert (second.algo.gamma, second.algo.learning_rate, second.total_steps) == (0.25, 1e-3, tuned.total_steps)
    assert compose("--config-dir", "conf", "algo=plain", "env=pong").total_steps != tuned.total_steps
    assert compose("algo=ppo", "env=pong", "algo.like=dqn").code == 2
    for like, said in (("PPO", "did you mean 'ppo'?"), ("own", "known: a2c"), ("bogus", "known: a2c")):
        mine("algo/other.yaml", f"defaults: [ppo, _self_]\nlike: {like}\n")  # bug: untuned, without a word
        outcome = compose("--config-dir", "conf", "algo=other", "env=pong")
        assert outcome.code == 2 and f"no tuned settings of '{like}'" in outcome.last_line, outcome.err
        assert said in outcome.last_line
    mine("hparams/bogus_pong.yaml", "# @package _global_\ntotal_steps: 77\n")
    assert compose("--config-dir", "conf", "algo=other", "env=pong").total_steps == 77, "tuned settings of his own"


@pytest.mark.parametrize("text", ["defaults: 5\n", "defaults: [ppo, _self_]\ncreated: 2026-02-30\n", "- a\n"])
def test_a_file_that_is_not_chosen_does_not_matter(text, compose, mine):
    """Bug: a traceback for every training with this config folder."""
    for group in ("algo", "env", "network"):
        mine(f"{group}/odd.yaml", text)
    assert compose("--config-dir", "conf", *TABLE).algo.name == "q_learning"


@pytest.mark.parametrize("ending", ["yaml", "yml", "YAML"])
def test_a_file_of_the_users_is_not_shadowed_in_silence(ending, compose, mine):
    """Bug: rltrain's cartpole.yaml is read in place of the user's, without a word."""
    mine(f"env/cartpole.{ending}", "defaults: [gym_schema, _self_]\nname: cartpole\nid: Acrobot-v1\n")
    outcome = compose("--config-dir", "conf", "algo=ppo", "env=cartpole")
    assert outcome.code == 2
    assert (
        f"rltrain has a env/cartpole.yaml of its own, so yours would not be read; conf/env/cartpole.{ending}; "
        in outcome.err
    )
    (Path("conf") / "env" / f"cartpole.{ending}").rename(Path("conf") / f"docker-compose.{ending}")
    if ending == "yml":  # those of a project that have nothing to do with Hydra
        (Path("conf") / "config.yml").write_text("site: mine\n")
        (Path("conf") / "lock.yml").write_text("- '*'\n" * 50_000)
    assert compose("--config-dir", "conf", "algo=ppo", "env=cartpole").env.id == "CartPole-v1"


@pytest.mark.parametrize(
    ("key", "text"),
    [("name", "2026_11"), ("name", "1e3"), ("name", "true"), ("run_dir", "out/steps=1e6"), ("run_dir", "2026_11")],
)
def test_a_text_is_not_read_as_a_number(key, text, compose):
    """Bug: a run in the folder out/steps=1000000, or in 202611."""
    assert getattr(compose(*TABLE, f"{key}={text}"), key) == text


def test_a_number_with_an_exponent_stays_a_fraction_for_an_environment(compose, tmp_path):
    """Bug: env.kwargs.start=1e3 was the integer 1000, and an array of it lost its fractions."""
    kwargs = compose("algo=dqn", "env=gym", "env.id=Any-v0", "env.kwargs.a=1e3", "env.kwargs.b='x,1e3'").env.kwargs
    assert repr(kwargs) == "{'a': 1000.0, 'b': 'x,1e3'}"


SHAPED = ["algo=ppo", "env=doom_health_gathering"]


def test_a_shaping_that_is_typed_replaces_that_of_the_tuned_settings(compose, tmp_path):
    """Bug: env.shaping={HEALTH_GAINED: 0.1} was paid beside the tuned {HEALTH: 1.0}."""
    assert compose(*SHAPED).env.shaping == {"HEALTH": 1.0}
    own = {"HEALTH_GAINED": 0.1}
    assert compose(*SHAPED, "env.shaping={HEALTH_GAINED: 0.1}").env.shaping == own
    path = tmp_path / "my.yaml"
    path.write_text("algo: ppo\nenv: {name: doom_health_gathering, shaping: {HEALTH_GAINED: 0.1}}\n")
    assert compose(f"config={path}").env.shaping == own
    assert compose(*SHAPED, "env.shaping.HEALTH_GAINED=0.1").env.shaping == own | {"HEALTH": 1.0}
    assert compose("algo=dqn", "env=frozen_lake_8x8", "env.kwargs={is_slippery: false}").env.kwargs == {
        "map_name": "8x8",
        "is_slippery": False,
    }


@pytest.mark.parametrize("mapping", ['{"1": 5, "x-y": {"2": 7}}', '{"true": 1}', "{a b: 1}", "{}"])
def test_names_in_a_mapping_of_a_file_stay_texts(mapping, compose, tmp_path):
    """Bug: {"1": 5} reached the environment as {1: 5}, in which it found no "1"."""
    path = tmp_path / "my.yaml"
    path.write_text(f"algo: dqn\nenv: {{name: gym, id: Any-v0, kwargs: {{m: {mapping}}}}}\n")
    assert compose(f"config={path}").env.kwargs == {"m": yaml.safe_load(mapping)}


@pytest.mark.parametrize("mapping", ['{"x,y": 1}', '[{"1": 5}]', '{"0.5": 1}', '{"1": 5, "a.b": 6}'])
def test_names_in_a_file_that_cannot_be_handed_on_are_refused(mapping, compose, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(f"algo: dqn\nenv: {{name: gym, id: Any-v0, kwargs: {{m: {mapping}}}}}\n")
    outcome = compose(f"config={path}")
    assert outcome.code == 2 and "a name in it is no plain word" in outcome.last_line


def test_files_of_ones_own_win_over_tuned_settings(compose, mine):
    """Bug: network=tiny trained the tuned layers of the pair."""
    mine("network/tiny.yaml", "defaults: [mlp, _self_]\nhidden_sizes: [8]\n")
    mine("env/ill.yaml", "defaults: [doom_health_gathering, _self_]\nname: ill\ngray: true\nstack_num: 3\n")
    folder = ("--config-dir", "conf")
    pair = ("algo=dqn", "env=cartpole")
    assert compose(*pair).network.hidden_sizes == [256, 256]
    assert compose(*folder, *pair, "network=tiny").network.hidden_sizes == [8]
    assert compose(*folder, *pair, "network=tiny", "network.hidden_sizes=[4]").network.hidden_sizes == [4]
    assert compose(*folder, *SHAPED).env.stack_num != 3
    assert compose(*folder, "algo=ppo", "env=ill").env.stack_num == 3
    mine("hparams/dqn_cartpole_mine.yaml", "# @package _global_\nnetwork: {hidden_sizes: [16]}\n")
    both = compose(*folder, *pair, "network=tiny", "hparams=dqn_cartpole_mine")
    assert both.network.hidden_sizes == [16], "tuned settings of one's own win over one's own network"
    mine("hparams/low.yaml", "# @package _global_\nalgo: {gamma: 0.9}\n")
    beside = compose(*folder, *pair, "network=tiny", "hparams=low")  # bug: rltrain's tuned network
    assert (beside.network.hidden_sizes, beside.algo.gamma) == ([8], 0.9)


def test_files_of_ones_own_in_a_subfolder_win_too(compose, mine):
    """Bug: the tuned settings won in silence over conf/algo/mine/slow.yaml."""
    mine("algo/mine/slow.yaml", "defaults: [ppo, low, _self_]\nlike: ppo\nnum_epochs: 3\n")
    mine("algo/low.yaml", "learning_rate: 0.0001\n")
    mine("network/mine/wide.yaml", "defaults: [/network/mlp@_here_, _self_]\nhidden_sizes: [7]\n")
    mine("env/mine/short.yaml", "defaults: [/env/cartpole@_here_, _self_]\ntuned_as: cartpole\nmax_episode_steps: 9\n")
    config = compose("--config-dir", "conf", "algo=mine/slow", "env=mine/short", "network=mine/wide")
    assert (config.algo.learning_rate, config.algo.num_epochs) == (0.0001, 3)
    assert (config.network.hidden_sizes, config.env.max_episode_steps) == ([7], 9)


@pytest.mark.parametrize(
    ("defaults", "own", "expected"),
    [
        ("[ppo, _self_]", "learning_rate: 0.05", 0.05),
        ("[ppo, _self_, fallen]", "learning_rate: 0.05", 0.0001),  # bug: 0.05, against Hydra's order
        ("[ppo, fallen]", "learning_rate: 0.05", 0.05),  # bug: 0.0001, but Hydra puts a missing _self_ last
        ("[ppo, fallen, _self_]", "learning_rate: 0.05", 0.05),
        ("[ppo, fallen, _self_]", "num_epochs: 3", 0.0001),
        ("[ppo, /rate/high@_here_, _self_]", "num_epochs: 3", 0.0123),  # bug: the tuned one
        ("[ppo, {/rate@_here_: high}, _self_]", "num_epochs: 3", 0.0123),
        ("[ppo, /rate/high@_here_, _self_, {rate@_here_: low}]", "learning_rate: 0.05", 0.002),
    ],
)
def test_files_of_which_ones_own_file_is_made_win_in_hydras_order(defaults, own, expected, compose, mine):
    mine("algo/fallen.yaml", "learning_rate: 0.0001\n")
    mine("rate/high.yaml", "learning_rate: 0.0123\n")
    mine("algo/rate/low.yaml", "learning_rate: 0.002\n")
    mine("algo/mixed.yaml", f"defaults: {defaults}\nlike: ppo\n{own}\n")
    assert compose("--config-dir", "conf", "algo=mixed", "env=cartpole").algo.learning_rate == expected


@pytest.mark.parametrize("env", ["cartpole", "mountain_car"])
def test_files_of_ones_own_win_over_what_they_are_made_from_with_and_without_tuned_settings(env, compose, mine):
    """Bugs: [7] where the pair has tuned settings, [64, 64] where it has none; `like` came from a settings class."""
    mine("network/small.yaml", "defaults: [_self_, mlp]\nhidden_sizes: [7]\n")
    mine("algo/quick.yaml", "defaults: [_self_, ppo]\nlike: ppo\n")
    assert compose("--config-dir=conf", "algo=ppo", f"env={env}", "network=small").network.hidden_sizes == [7]
    tuned, like = (compose("--config-dir=conf", f"algo={algo}", f"env={env}").algo for algo in ("ppo", "quick"))
    assert (like.num_envs, like.learning_rate) == (tuned.num_envs, tuned.learning_rate)


@pytest.mark.parametrize("place", ["--config-dir=conf", "hydra.searchpath=[pkg://conf_in_a_package]"])
def test_files_of_ones_own_win_wherever_they_are_chosen(place, compose, mine, tmp_path, monkeypatch):
    """Bugs: what was chosen in a file for the whole run, or lay in a package, lost against tuned settings, or against
    files that it should win over."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conf_in_a_package").symlink_to(tmp_path / "conf")
    mine("__init__.py", "")
    mine("algo/slow.yaml", "defaults: [ppo, _self_]\nlike: ppo\nlearning_rate: 1e-9\nnum_epochs: 3\n")
    mine("network/wide.yaml", "defaults: [mlp, _self_]\nhidden_sizes: [7]\n")
    mine("hparams/low.yaml", "# @package _global_\nalgo: {learning_rate: 7e-4}\nnum_envs: 2\n")
    mine("exp/low.yaml", "# @package _global_\ndefaults: [override /hparams: low]\n")
    mine("exp/all.yaml", "# @package _global_\ndefaults: [{override /algo: slow}, {override /network: wide}]\n")
    mine("exp/over.yaml", "# @package _global_\nalgo: {num_envs: 4, learning_rate: 0.5}\n")
    mine("exp/tuned.yaml", "# @package _global_\nalgo: {like: ppo}\nenv: {id: CartPole-v1, tuned_as: cartpole}\n")
    mine("algo/plain.yaml", "defaults: [ppo, _self_]\n")
    tuned = compose("algo=ppo", "env=cartpole")

    def settings(*words):
        config = compose(place, *words)
        return config.algo.learning_rate, config.algo.num_epochs, config.num_envs, config.network.hidden_sizes

    sizes = tuned.network.hidden_sizes
    assert settings("algo=slow", "env=cartpole", "network=wide") == (1e-9, 3, tuned.num_envs, [7])
    assert settings("+exp=all", "env=cartpole") == (1e-9, 3, tuned.num_envs, [7])
    for low in ("hparams=low", "+exp=low"):
        assert settings("algo=slow", "env=cartpole", low) == (7e-4, 3, 2, sizes)
        assert settings("algo=slow", "env=cartpole", low, "algo.num_envs=4") == (7e-4, 3, 4, sizes)
    assert settings("algo=slow", "env=cartpole", "hparams=low", "+exp=over") == (0.5, 3, 4, sizes)
    both = compose(place, "algo=plain", "env=gym", "+exp=tuned")
    assert (both.total_steps, both.algo.batch_size) == (tuned.total_steps, tuned.algo.batch_size)


def test_tuned_settings_of_ones_own_leave_ones_own_algorithm_before_rltrains(compose, mine):
    """Bug: beside one's own hparams/slow_cartpole.yaml, rltrain's ppo_cartpole won over one's own algo/slow.yaml."""
    mine("algo/slow.yaml", "defaults: [ppo, _self_]\nlike: ppo\nnum_epochs: 3\nlearning_rate: 1e-9\n")
    mine("hparams/slow_cartpole.yaml", "# @package _global_\nalgo: {learning_rate: 7e-4}\n")
    mine("hparams/based.yaml", "# @package _global_\ndefaults: [ppo_pong, _self_]\nalgo: {learning_rate: 0.5}\n")
    words = ("--config-dir", "conf", "algo=slow", "env=cartpole")
    tuned, pong = compose("algo=ppo", "env=cartpole"), compose("algo=ppo", "env=pong")
    own, based = compose(*words), compose(*words, "hparams=based")
    assert tuned.algo.num_epochs != 3 and pong.total_steps != tuned.total_steps
    assert (own.algo.num_epochs, own.algo.learning_rate, own.total_steps) == (3, 7e-4, tuned.total_steps)
    assert (based.algo.num_epochs, based.algo.learning_rate) == (pong.algo.num_epochs, 0.5), "made from rltrain's"
    assert based.total_steps == pong.total_steps


@pytest.mark.parametrize(("text", "value"), [("no", False), ("on", True), ("1e-1", 0.1), ("1e3", 1000.0), ("017", 15)])
def test_a_file_of_ones_own_means_what_hydra_reads_in_it(text, value, compose, mine):
    """Bug: `is_slippery: no` was the text "no", which is true, as the files were read a second time in another way."""
    mine("env/any.yaml", f"defaults: [gym, _self_]\nname: any\nid: Any-v0\nkwargs: {{x: {text}}}\n")
    assert repr(compose("--config-dir", "conf", "algo=dqn", "env=any").env.kwargs) == repr({"x": value})


@pytest.mark.parametrize(
    "words",
    [
        ["--config-d", "conf", *TABLE],
        ["--config-di=conf", *TABLE],
        ["--config-dir", "conf", "--config-dir=conf", *TABLE],
        ["-cd", "conf", "--config-dir", "conf", *TABLE],
    ],
)
def test_folders_of_settings_are_named_in_full_and_once(words, compose, mine):
    """Bug: files that Hydra read and rltrain did not, or the other way round: tuned settings lost in silence."""
    mine("hparams/mine.yaml", "# @package _global_\n")
    assert compose(*words).code == 2


@pytest.mark.parametrize("text", ["\tgamma: 3\n", "gamma: =\n", "x: [1\n"])
def test_a_chosen_file_that_is_no_yaml_is_told(text, compose, mine):
    """Bug: the traceback of a tab before a key."""
    mine("algo/bad.yaml", f"defaults: [dqn, _self_]\n{text}")
    outcome = compose("--config-dir", "conf", "algo=bad", "env=cartpole")
    assert outcome.code == 2 and "is no YAML" in outcome.last_line and "bad.yaml" in outcome.last_line


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_has_the_name_of_a_file_of_ours_is_refused(kind, compose, mine, tmp_path):
    """Bugs: a traceback for a dangling link; a pipe hung for ever."""
    mine("env/mine.yaml", "defaults: [cartpole, _self_]\n")
    path = tmp_path / "conf" / "env" / "cartpole.yaml"
    {"link": lambda: path.symlink_to("/nowhere"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with fails_after(20):
        assert compose("--config-dir", "conf", *TABLE).code == 2


@pytest.mark.parametrize("value", ["misspelt", "[misspelt]", "'misspelt'", "[dqn_cartpole,misspelt]"])
@pytest.mark.parametrize("prefix", ["", "++"])
def test_tuned_settings_that_do_not_exist_are_refused_in_every_form(prefix, value, compose):
    """Bug: hparams=[misspelt] trained without tuned settings."""
    outcome = compose("algo=dqn", "env=cartpole", f"{prefix}hparams={value}")
    assert outcome.code == 2 and "unknown hparams 'misspelt'" in outcome.last_line


def test_tuned_settings_that_do_not_exist_are_refused_in_a_file_of_ones_own(compose, mine):
    """Bug: `override /hparams: lwo` in a file for the whole run trained with neither its settings nor tuned ones."""
    mine("hparams/low.yaml", "# @package _global_\nalgo: {gamma: 0.5}\n")
    for name in ("low", "lwo"):
        mine(f"exp/{name}.yaml", f"# @package _global_\ndefaults: [override /hparams: {name}]\n")
    words = ("--config-dir", "conf", "algo=dqn", "env=acrobot")
    assert compose(*words, "+exp=low").algo.gamma == 0.5
    outcome = compose(*words, "+exp=lwo")
    assert outcome.code == 2 and "unknown hparams 'lwo'; hparams; did you mean 'low'" in outcome.last_line


def test_classes_of_settings_are_no_choices(compose, command):
    """Bug: glob() trained a3c_schema, an algorithm without its tuned settings, beside a3c."""
    outcome = command("-m", "algo=glob(sarsa*)", "env=maze", "total_steps=50", *QUICK)
    assert outcome.code == 0 and "1 of 1 jobs done" in outcome.err, outcome.err
    assert compose("algo=sarsa_schema", "env=maze").code == 2


def test_a_game_has_one_meaning_in_every_form(compose, tmp_path):
    """Bug: env=doom env.scenario=X took X's tuned settings when typed, but not in a file or a sweep."""
    path = tmp_path / "my.yaml"
    path.write_text("algo: ppo\nenv: {name: doom, scenario: health_gathering}\n")
    typed = compose("algo=ppo", "env=doom", "env.scenario=health_gathering")
    assert typed.env.shaping == {"HEALTH": 1.0} and compose(f"config={path}") == typed
    outcome = compose("-m", "algo=ppo", "env=doom", "env.scenario=health_gathering,take_cover")
    assert outcome.code == 2 and "env=doom_health_gathering,doom_take_cover" in outcome.last_line


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["+exp=corridor"], "doom_deadly_corridor"),
        (["+exp=paddle"], "pong"),
        (["+exp=plain_doom", "env.scenario=deadly_corridor"], "doom_deadly_corridor"),
        (["env=doom", "++env.scenario=deadly_corridor"], "doom_deadly_corridor"),
        (["env='doom'", "env.scenario=deadly_corridor"], "doom_deadly_corridor"),
        (["env='atari'", "++env.game=pong"], "pong"),
    ],
)
def test_a_game_with_a_file_of_its_own_is_not_played_with_the_settings_of_another(words, name, compose, mine):
    """Bug: a run of deadly_corridor had the tuned settings of basic, without a word."""
    for exp, lines in {
        "corridor": "  - override /env: doom\nenv: {scenario: deadly_corridor}\n",
        "paddle": "  - override /env: atari\nenv: {game: pong}\n",
        "plain_doom": "  - override /env: doom\n",
    }.items():
        mine(f"exp/{exp}.yaml", f"# @package _global_\ndefaults:\n  - override /algo: ppo\n{lines}")
    outcome = compose("--config-dir", "conf", *([] if words[0][0] == "+" else ["algo=ppo"]), *words)
    assert outcome.code == 2 and f"use env={name}; in a file of yours `override /env: {name}`" in outcome.last_line


def test_a_scenario_without_a_file_and_the_basic_one_are_taken_from_a_file(compose, mine):
    mine("exp/rare.yaml", "# @package _global_\ndefaults:\n  - override /env: atari\nenv: {game: asterix}\n")
    assert compose("--config-dir", "conf", "algo=ppo", "+exp=rare").env.game == "asterix"
    assert compose("algo=ppo", "env='doom'", "++env.scenario=basic").env.scenario == "basic"


def test_an_own_file_with_a_date_that_does_not_exist_can_be_changed(compose, mine):
    """Bug: "month must be in 1..12", a bug in rltrain."""
    mine("env/mine.yaml", "defaults: [gym_schema, _self_]\nid: Any-v0\nname: mine\nkwargs: {version: 2026-13-01}\n")
    config = compose("--config-dir", "conf", "algo=dqn", "env=mine", "env.id=Any-v0")
    assert config.env.kwargs == {"version": "2026-13-01"}


@pytest.mark.parametrize("text", ["tRue", "FaLse", "true", "on"])
def test_a_text_is_read_back_from_the_run_as_a_text(text, command):
    """Bug: name=tRue came back as the truth value True, and no command took the run any more."""
    folder = command(*TABLE, f"name='{text}'", "total_steps=50", *QUICK).folder
    assert command("eval", folder, "episodes=1").code == 0
    assert saved.load(folder / "config.yaml").name == text


def test_names_that_are_numbers_are_the_same_in_a_sweep_or_refused(compose, command):
    """Bugs: {1: 5} was {"1": 5} in each job of a sweep; a run with {0.5: 1} could not be read any more."""
    words = ["algo=dqn", "env=gym", "env.id=Any-v0"]
    outcome = command("-m", *words, "seed=0,1", "env.kwargs.prices={1:5,2:7}")
    assert outcome.code == 2 and "numbers as names; env.kwargs" in outcome.last_line, outcome.err
    assert compose(*words, "env.kwargs.prices={1:5,2:7}").env.kwargs == {"prices": {1: 5, 2: 7}}
    assert compose(*words, "env.kwargs.prices={0.5:1}").code == 2


HOSTILE = [
    '"+hydra.callbacks.x": {_target_: os.system, command: "touch HERE"}\n',
    "plugins: [posing]\n",
    '"--config-dir": x\n',
]


@pytest.mark.parametrize("line", HOSTILE)
@pytest.mark.parametrize("way", ["reproduce", "folder", "config.yaml", "config.resume-1.yaml"])
def test_a_run_that_poses_as_a_file_of_ones_own_runs_nothing(way, line, command, tmp_path, monkeypatch):
    """Bug: a config.yaml without `family` was read as the user's own: it imported modules and called any function.
    Later, config.resume-1.yaml was."""
    folder = command(*TABLE, "total_steps=50", *QUICK).folder
    for name in ("config.yaml", "config.resume-1.yaml"):
        (folder / name).write_text(f"algo: q_learning\nenv: maze\ntotal_steps: 50\n{line}")
    (tmp_path / "posing.py").write_text("open('HERE', 'w').close()")
    monkeypatch.delitem(sys.modules, "posing", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    words = {"reproduce": ["reproduce", folder], "folder": [f"config={folder}"]}
    outcome = command(*words.get(way, [f"config={folder / way}"]))
    assert outcome.code == 3 and not (tmp_path / "HERE").exists(), outcome.err
    (tmp_path / "my.yaml").write_text((folder / "config.yaml").read_text())
    mine = command("config=my.yaml", *QUICK)
    assert mine.code == (0 if "plugins" in line else 2) and (tmp_path / "HERE").exists() == ("plugins" in line), "mine"


def test_a_reproduced_run_has_the_values_of_the_run_and_no_tuned_ones(command, mine):
    """Bug: the shaping of the family's tuned settings won over that of the run."""
    mine("env/mine.yaml", "defaults: [doom_health_gathering, _self_]\nname: mine\ntuned_as: doom_health_gathering\n")
    words = ["algo=dqn", "env=frozen_lake", "total_steps=50", "algo.learning_starts=10", *QUICK]
    folder = command(*words).folder
    values = plain(folder)
    values["env"]["tuned_as"] = "cartpole"
    values["total_steps"] = 40
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    again = plain(command("reproduce", folder).folder)
    assert again["network"] == values["network"] and again["env"] == values["env"] and again["total_steps"] == 40


def test_files_of_settings_beside_a_whole_run_are_refused(command, mine):
    """Bugs: `reproduce RUN hparams=FILE` changed nothing, and the panel said that the run was tuned by FILE; of
    `+exp=mine` the settings of the environment counted, and no others."""
    folder = command("algo=q_learning", "env=maze", "total_steps=50", *QUICK).folder
    mine("exp/first.yaml", "# @package _global_\nseed: 5\nenv: {max_episode_steps: 33}\n")
    for word in ("hparams=dqn_cartpole", "+hparams=dqn_cartpole", "+exp=first", "+exp@_global_=first"):
        for words in (["reproduce", folder], [f"config={folder}"]):
            refused = command(*words, word, "--config-dir=conf")
            assert refused.code == 2, refused.err
            assert "is a file, and a run's own settings are complete" in refused.last_line
    assert plain(command("reproduce", folder, "++seed=3", "--config-dir=conf").folder)["seed"] == 3, "a setting"
    assert plain(command("reproduce", folder).folder)["tuned_by"] == plain(folder)["tuned_by"]
    tuned = command("algo=dqn", "env=cartpole", "total_steps=50", "algo.learning_starts=10", *QUICK).folder
    assert plain(command("reproduce", tuned).folder)["tuned_by"] == ["hparams/dqn_cartpole.yaml"]
    other = command("reproduce", tuned, "env=acrobot")
    assert plain(other.folder)["tuned_by"] is None, "the settings of the algorithm are those of the other run"


@pytest.mark.parametrize(
    ("words", "tuned_by", "is_told"),
    [
        (["algo=ppo"], None, True),  # bug: [], so the panel said that nothing is tuned for ppo on cartpole
        (["algo=ppo", "env=cartpole"], None, True),
        (["algo=dqn"], ["hparams/dqn_cartpole.yaml"], False),  # bug: []
        (["algo=dqn", "env=acrobot"], None, False),
        (["algo=ppo", "env=acrobot"], ["hparams/ppo_acrobot.yaml"], False),
    ],
)
def test_a_reproduced_run_says_whether_another_algorithm_is_tuned(words, tuned_by, is_told, compose, command, tmp_path):
    saved.save(compose("algo=dqn", "env=cartpole"), tmp_path / "config.yaml")
    assert compose("config=config.yaml", *words).tuned_by == tuned_by
    told = (
        "algo=ppo takes no tuned settings beside those of an earlier run; for tuned ones start it with algo= and env="
    )
    assert (told in command("config=config.yaml", *words, "--cfg", "job").err) == is_told


def test_an_address_is_no_folder(compose):
    """Bug: run_dir=s3://bucket/runs made a folder `s3:` here."""
    assert "is no folder; run_dir" in compose(*TABLE, "run_dir=s3://bucket/runs").last_line


@pytest.mark.parametrize("name", ["latest", "sweeps", "maze/q_learning", "."])
def test_an_environments_name_is_a_folder_in_run_dir(name, compose):
    """Bug: with the name `latest` a run was made inside of the newest one, which `last` then no longer found."""
    assert compose(*TABLE, f"env.name={name}").code == 2


def test_the_folder_of_a_sweep_is_one(command):
    """Bug: run_dir=a,b made neither a nor b."""
    outcome = command("-m", *TABLE, "run_dir=a,b", *QUICK)
    assert outcome.code == 2 and "run_dir cannot vary" in outcome.last_line


FILES = {
    "names": "algo: q_learning\nenv: maze\ntotal_steps: 1e2\nalgo.gamma: 0.5\n",
    "nested": "algo: {name: q_learning, gamma: 0.5}\nenv: {name: maze}\ntotal_steps: 100\n",
}


@pytest.mark.parametrize("form", FILES)
def test_one_file_of_settings_is_enough_and_what_is_typed_wins(form, compose, command, tmp_path):
    path = tmp_path / "my settings.yaml"
    path.write_text(FILES[form])
    config = compose(f"config={path}", "seed=3")
    assert (config.algo.name, config.algo.gamma, config.total_steps, config.seed) == ("q_learning", 0.5, 100, 3)
    assert compose(f"config={path}", "algo.gamma=0.25", "total_steps=7").total_steps == 7
    same = compose(f"config={path}", "algo=q_learning")
    assert same.algo.gamma == 0.5, "the file's own choice, typed again, took its settings away"
    other = compose(f"config={path}", "algo=ppo")
    assert (other.algo.name, other.total_steps) == ("ppo", 100), "settings of another algorithm do not come along"
    told = command(f"config={path}", "algo=ppo", "--cfg", "job").err
    assert "algo=ppo is not the file's algo=q_learning, whose settings are left out" in told


def test_a_file_of_settings_with_parts_of_a_runs_own_takes_tuned_settings(compose, command, tmp_path):
    """Bugs: with the line `family` of a run's config.yaml a short file was taken for the configuration of a whole run,
    so that all it lacks was untuned, in silence; as was the line that somebody had removed from a copy."""
    tuned = compose("algo=ppo", "env=cartpole")
    saved.save(tuned, tmp_path / "whole.yaml")
    whole = yaml.safe_load(Path("whole.yaml").read_text())
    short = {"algo": {"name": "ppo"}, "env": whole["env"], "total_steps": 7}
    Path("short.yaml").write_text(yaml.safe_dump(short))
    Path("longer.yaml").write_text(yaml.safe_dump(short | {"algo": whole["algo"]}))
    for file in ("short.yaml", "longer.yaml"):
        config = compose(f"config={file}")
        assert (config.algo, config.tuned_by, config.total_steps) == (tuned.algo, tuned.tuned_by, 7)
    told = "is a run's whole configuration without algo."
    assert told not in command("config=whole.yaml", "--cfg", "job").err
    assert whole["algo"].pop("learning_rate") and whole["algo"].pop("gamma")
    Path("whole.yaml").write_text(yaml.safe_dump(whole))
    assert f"{told}learning_rate and 1 other" in command("config=whole.yaml", "--cfg", "job").err
    whole["env"].pop("family")
    Path("whole.yaml").write_text(yaml.safe_dump(whole))
    assert compose("config=whole.yaml").algo == tuned.algo, "as the line says"


def test_a_file_of_settings_without_a_choice_goes_with_the_typed_one(compose, tmp_path):
    """Bug: its settings of the algorithm and the environment were dropped in silence."""
    path = tmp_path / "my.yaml"
    path.write_text("algo.gamma: 0.5\nenv: {max_episode_steps: 7}\n")
    config = compose(f"config={path}", "algo=q_learning", "env=maze")
    assert (config.algo.gamma, config.env.max_episode_steps) == (0.5, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n", "the file has no settings"),
        ("# algo: ppo\n", "the file has no settings"),
        ("a: [\n", "the file of settings cannot be read"),
        ("defaults: [ppo]\n", "has no list of defaults"),
        ("seed: 3\nhydra: {run: {dir: x}}\n", "has no settings of Hydra"),
        ("totl_steps: 1\n", "did you mean 'total_steps'"),
        ("algo: {name: ppo, gama: 1}\n", "did you mean 'algo.gamma'"),
        ("algo.gamma: 0.5\nalgo: {name: ppo, gamma: 0.9}\n", "algo.gamma is given twice; my.yaml; "),  # bugs: the later
        ("env: {kwargs: {a: 1, b: 2}}\nenv.kwargs.a: 3\n", "env.kwargs.a is given twice; my.yaml; "),  # one counted
        ("env: {kwargs.a: 1}\nenv.kwargs: null\n", "env.kwargs is given twice; my.yaml; "),
        ("seed: 3\n+seed: 4\n", "seed is given twice; my.yaml; "),
        ("algo: ppo\nalgo.name: dqn\n", "algo.name is given twice; my.yaml; "),
    ],
)
def test_a_wrong_file_of_settings_is_told_in_one_line(text, said, compose, tmp_path):
    (tmp_path / "my.yaml").write_text(text)
    outcome = compose("config=my.yaml")
    assert outcome.code == 2 and said in outcome.last_line, outcome.err
    assert "there is no file 'other.yaml'" in compose("config=other.yaml").last_line


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "010", 10),
        ("seed", "1_000", 1000),
        ("seed", "1e1", 10),
        ("algo.gamma", "0_0.5", 0.5),
        ("algo.learning_rate", "5e-1", 0.5),
        ("name", "on", "on"),
        ("name", "2020-01-01", "2020-01-01"),
        ("progress", "False", False),
        ("seed", "0x10", None),
        ("seed", "0b11", None),
        ("total_steps", "1:40", None),
        ("algo.gamma", "0:0.5", None),
        ("progress", "off", False),
    ],
)
def test_a_value_of_a_file_means_what_it_means_on_the_command_line(key, text, value, compose, command, tmp_path):
    """Bugs: YAML 1.1 reads 010 as 8, 1:40 as 100 and `name: on` as the name True; a run trained with these."""
    path = tmp_path / "my.yaml"
    path.write_text(f"{key}: {text}\n")
    typed, in_a_file = compose(*TABLE, f"{key}={text}"), compose(*TABLE, f"config={path}")
    group, _, name = key.rpartition(".")
    found = [getattr(getattr(one, group, None) if group else one, name, None) for one in (typed, in_a_file)]
    assert found == [value, value], (typed, in_a_file)
    assert value is not None or (typed.code, in_a_file.code) == (2, 2)
    assert inside.parse_yaml(text) == text or value is not None, "a run's own configuration"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["env=cartpole", "env.id=Acrobot-v1"], "Acrobot-v1"),
        (["env=cartpole", "env.id=CartPole-v1"], "cartpole"),
        (["env=cartpole", "env.id=Acrobot-v1", "env.name=mine"], "mine"),
        (["env=pong", "env.game=breakout"], "breakout"),
        (["env=doom_basic", "env.scenario=health_gathering"], "doom_health_gathering"),
        (["env=mine", "--config-dir=conf"], "mine"),
        (["env=mine", "--config-dir=conf", "env.id=Acrobot-v1"], "Acrobot-v1"),
        (["env=mine", "--config-dir=conf", "env.id=CartPole-v1"], "mine"),
        (["env=nameless", "--config-dir=conf"], "Acrobot-v1"),
        (["env=cartpole", "--config-dir=conf", "+exp=acro"], "Acrobot-v1"),
        (["env=cartpole", "--config-dir=conf", "+exp=acro", "env.name=mine"], "mine"),
        (["env=cartpole", "--config-dir=conf", "+exp=named"], "mine"),
        (["env=limited", "--config-dir=conf"], "cartpole"),
    ],
)
def test_a_run_has_the_name_of_what_it_plays(words, name, compose, mine):
    """Bugs: env=cartpole env.id=Acrobot-v1 stood among the runs of CartPole, in `runs` and in the curves of `plot`; so
    did an id in a file of one's own."""
    mine("env/mine.yaml", "defaults: [cartpole, _self_]\nname: mine\n")
    mine("env/nameless.yaml", "defaults: [cartpole, _self_]\nid: Acrobot-v1\n")
    mine("env/limited.yaml", "defaults: [cartpole, _self_]\nid: CartPole-v1\nmax_episode_steps: 9\n")
    mine("exp/acro.yaml", "# @package _global_\nenv: {id: Acrobot-v1}\n")
    mine("exp/named.yaml", "# @package _global_\nenv: {id: Acrobot-v1, name: mine}\n")
    assert compose("algo=ppo", *words).env.name == name


def plain(folder: Path):
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_a_run_is_reproduced_from_its_own_configuration(command):
    """Bugs: settings that a file loses on the way, such as an empty mapping, a null or a name in quotes; a path with
    `=` in it was taken for a setting."""
    shaped = ["env.kwargs={is_slippery:false,map_name:8x8}", "name=first", "eval_every_steps=50", "run_dir='my runs=1'"]
    first = command("algo=q_learning", "env=frozen_lake", "total_steps=100", *shaped, *QUICK)
    assert first.code == 0, first.err
    folder = (Path("my runs=1") / "latest").resolve()
    again = command("reproduce", folder)
    assert again.code == 0, again.err
    second = (Path("my runs=1") / "latest").resolve()
    assert second != folder and plain(second) == plain(folder)
    assert (second / "episodes.csv").read_bytes() == (folder / "episodes.csv").read_bytes()
    assert (second / "command.txt").read_text() == f"rltrain reproduce '{folder}'\n"
    assert "extended" not in again.err
    assert command("resume", folder, "total_steps=150", "progress=false").code == 0
    for words in (["reproduce", folder], [f"config={folder}"]):
        told = command(*words).err  # bug: the extension was left out in silence
        assert "the run was extended to total_steps=150 by `resume`, and this one trains total_steps=100" in told
    changed = command(f"config={folder / 'config.yaml'}", "seed=1", "total_steps=50")
    assert changed.code == 0, changed.err
    new = {"seed": 1, "total_steps": 50, "checkpoint_every_steps": 10}
    assert plain((Path("my runs=1") / "latest").resolve()) == plain(folder) | new


def test_a_copy_of_a_runs_configuration_is_a_file_of_ones_own(command):
    """Bug: "the run has no configuration", or it "was extended", by a config.yaml beside the copy."""
    folder = command("algo=q_learning", "env=maze", "env.max_episode_steps=30", "total_steps=50", *QUICK).folder
    for name, text in (("my.yaml", None), ("config.yaml", "total_steps: 7\n")):
        Path(name).write_text(text or (folder / "config.yaml").read_text())
        again = command("config=my.yaml")
        assert again.code == 0 and "extended" not in again.err, again.err
        assert plain(again.folder) == plain(folder)


def test_a_reproduced_run_with_its_own_environment_named_keeps_its_settings(command):
    """Bug: `reproduce RUN env=cartpole` played CartPole with the limit of rltrain's file, without a word."""
    words = ["algo=q_learning", "env=maze", "env.max_episode_steps=30", "total_steps=50", *QUICK]
    folder = command(*words).folder
    told = "env=frozen_lake is not the file's env=maze, whose settings are left out"
    for way in (["reproduce", folder], [f"config={folder}"]):
        for typed, name in ((["env='maze'"], "maze"), (["env=maze", "env=frozen_lake"], "frozen_lake")):
            again = command(*way, *typed)
            assert again.code == 0 and (told in again.err) == (name != "maze"), again.err
            env = plain(again.folder)["env"]
            assert (env["name"], env["max_episode_steps"] == 30) == (name, name == "maze")


def test_a_reproduced_run_has_the_name_of_the_game_that_it_plays(compose, tmp_path):
    """Bug: `reproduce RUN env.game=breakout` of a run of Pong stood among the runs of Pong."""
    for words, typed, name in (
        (["env=pong"], "env.game=breakout", "breakout"),
        (["env=pong", "env.name=mine"], "env.game=pong", "mine"),
        (["env=doom_basic"], "env.scenario=health_gathering", "doom_health_gathering"),
    ):
        saved.save(compose("algo=ppo", *words), tmp_path / "config.yaml")
        assert compose(f"config={tmp_path}/config.yaml", typed).env.name == name


def test_a_copied_configuration_with_another_game_and_the_old_name_is_told(compose, command, tmp_path):
    """Bug: a copy in which `id` was edited stood among the runs of CartPole, without a word."""
    path = tmp_path / "my.yaml"
    saved.save(compose("algo=ppo", "env=cartpole"), path)
    told = "warning: the run plays Acrobot-v1 and has the name of cartpole, which is CartPole-v1; env.name; add "
    text = path.read_text()
    for content, words, is_told in (
        (text, [], False),
        (text.replace("id: CartPole-v1", "id: Acrobot-v1"), [], True),
        (text.replace("id: CartPole-v1", "id: Acrobot-v1"), ["env.name=mine"], False),
        (text.replace("id: CartPole-v1", "id: Acrobot-v1").replace("name: cartpole", "name: mine"), [], False),
    ):
        path.write_text(content)
        assert (told in command(f"config={path}", *words, "--cfg", "job").err) == is_told


def test_what_was_chosen_from_a_setting_follows_it_in_a_reproduced_run(compose, tmp_path):
    """Bug: `reproduce RUN env.protocol=machado` played DQN's protocol, as the run's config.yaml has its five keys."""

    def again(config, *words):
        saved.save(config, tmp_path / "config.yaml")
        return compose(f"config={tmp_path}/config.yaml", *words)

    def rules(config):
        env = config.env
        return env.protocol, env.sticky_actions, env.noop_max, env.full_action_space, env.terminal_on_life_loss

    pong = compose("algo=dqn", "env=pong", "env.noop_max=7", "total_steps=1000", "log_every_steps=3")
    assert rules(pong) == rules(again(pong)) == (None, 0.0, 7, False, False)
    machado = again(pong, "env=pong", "env.protocol=machado", "total_steps=200", "seed=1")
    assert rules(machado) == ("machado", 0.25, 7, True, False)
    assert (machado.log_every_steps, machado.eval_every_steps, machado.checkpoint_every_steps) == (3, 20, 40)
    own = again(machado, "device=cpu", "env.sticky_actions=0.1")
    assert rules(again(own, "env.protocol=dqn", "env.frame_skip=3")) == ("dqn", 0.1, 7, False, True)
    assert set(pong.chosen) - set(again(own).chosen) == {"env.sticky_actions", "network"}


def test_what_was_edited_in_a_copy_of_a_runs_configuration_counts(compose, tmp_path):
    """Bug: keys under `chosen` were chosen again, also those whose values had been edited, without a word."""
    path = tmp_path / "my.yaml"
    saved.save(compose("algo=dqn", "env=pong", "total_steps=1000"), path)
    text = path.read_text()

    def edited(edits, *words, begin=""):
        new = text
        for old, value in edits.items():
            assert old in new
            new = new.replace(old, value)
        path.write_text(begin + new)
        return compose(f"config={path}", *words)

    steps = {"log_every_steps: 10\n": "log_every_steps: 500\n", "eval_every_steps: 100\n": "eval_every_steps: 0\n"}
    for begin in ("", "# mine\n"):
        mine = edited(steps | {"total_steps: 1000": "total_steps: 3000"}, begin=begin)
        assert (mine.log_every_steps, mine.eval_every_steps, mine.checkpoint_every_steps) == (500, 0, 600)
        assert {"checkpoint_every_steps"} == {key for key in mine.chosen if key.endswith("_steps")}
    sticky = edited({"sticky_actions: 0.0": "sticky_actions: 0.1"}, "env.max_episode_frames=4000")
    assert (sticky.env.sticky_actions, sticky.env.noop_max) == (0.1, 30)
    machado = edited({"protocol: null": "protocol: machado", "noop_max: 30": "noop_max: 7"})  # bug: no sticky actions
    assert (machado.env.sticky_actions, machado.env.noop_max, machado.env.full_action_space) == (0.25, 7, True)


@pytest.mark.parametrize("line", ["", "# As rltrain wrote it: {", "# As rltrain wrote it: " + "[" * 50_000])
def test_a_copy_that_does_not_say_what_was_edited_is_told(line, command):
    """Without rltrain's comment, as in older files, keys under `chosen` are chosen again; now a line says so."""
    folder = command("algo=q_learning", "env=maze", "total_steps=50", *QUICK).folder
    text = (
        (folder / "config.yaml").read_text().partition("\n")[2].replace("log_every_steps: 1\n", "log_every_steps: 7\n")
    )
    told = "my.yaml has checkpoint_every_steps, eval_every_steps, log_every_steps under `chosen`, so these are chosen"
    Path("my.yaml").write_text(f"{line}\n{text}")
    again = command("config=my.yaml")
    assert again.code == 0 and told in again.err and plain(again.folder)["log_every_steps"] == 1, again.err
    Path("my.yaml").write_text(text.partition("\nchosen:\n")[0])
    again = command("config=my.yaml")
    assert again.code == 0 and "under `chosen`" not in again.err and plain(again.folder)["log_every_steps"] == 7


def test_a_copy_of_a_runs_configuration_can_ask_for_a_dry_run(command):
    """Bug: it trained."""
    folder = command("algo=q_learning", "env=maze", "total_steps=50", *QUICK).folder
    Path("my.yaml").write_text((folder / "config.yaml").read_text().replace("dry_run: false", "dry_run: true"))
    again = command("config=my.yaml")
    assert again.code == 0 and again.last_line.startswith("dry run: built everything"), again.err


def test_what_a_short_file_has_under_chosen_is_the_users(compose, tmp_path):
    """Bug: of a run's configuration without `family`, the values counted, but not when the new run was reproduced."""
    path = tmp_path / "config.yaml"
    saved.save(compose("algo=q_learning", "env=maze", "total_steps=1000"), path)
    path.write_text(
        path.read_text().replace("  family: gym\n", "").replace("eval_every_steps: 100", "eval_every_steps: 7")
    )
    saved.save(compose(f"config={path}"), tmp_path / "new.yaml")
    assert compose(f"config={tmp_path}/new.yaml", "total_steps=2000").eval_every_steps == 7


def test_a_set_of_actions_that_is_given_wins_over_a_tuned_list_of_actions(compose, command, mine, tmp_path):
    """Bug: `env.action_set=combinations` had no effect beside the `actions` of tuned settings, or of an earlier run."""
    corridor = ["algo=ppo", "env=doom_deadly_corridor"]
    tuned = compose(*corridor)
    saved.save(tuned, tmp_path / "config.yaml")
    own = "defaults: [doom_deadly_corridor, _self_]\nname: other_set\ntuned_as: doom_deadly_corridor\n"
    mine("env/other_set.yaml", f"{own}action_set: combinations\n")
    mine("env/own_list.yaml", f"{own}action_set: combinations\nactions: [[ATTACK], []]\n")
    mine("exp/combinations.yaml", "# @package _global_\nenv: {action_set: combinations}\n")
    for words, found in (
        ([*corridor, "env.actions=[[ATTACK],[]]", "env.noop=true"], [["ATTACK"], []]),
        ([*corridor, "env.action_set=combinations"], None),
        ([f"config={tmp_path}/config.yaml", "env.noop=true"], None),
        (["--config-dir=conf", "algo=ppo", "env=other_set"], None),
        (["--config-dir=conf", "algo=ppo", "env=own_list"], [["ATTACK"], []]),
        (["--config-dir=conf", "algo=ppo", "env=own_list", "env.noop=true"], None),
        (["--config-dir=conf", *corridor, "+exp=combinations"], None),
        (["--config-dir=conf", *corridor, "+exp=combinations", "env.actions=[[ATTACK],[]]"], [["ATTACK"], []]),
        (["--config-dir=conf", "algo=ppo", "env=own_list", "+exp=combinations"], None),
    ):
        assert tuned.env.actions is not None and compose(*words).env.actions == found, words
    told = "env.action_set is given, so env.actions, which is not, is left out"
    assert told in command(*corridor, "env.action_set=combinations", "batch_size=7").err


def test_whether_actions_are_scaled_and_the_device_follow_in_a_reproduced_run(compose, tmp_path):
    """Bug: the scale of the earlier run's actions, and the CPU of an algorithm that has no other device."""
    gymnasium.register("Reaching-v0", Reaching, max_episode_steps=9)
    for high, other, scaled in ((2, 200, True), (200, 2, False)):
        config = compose("algo=a3c", "env=gym", "env.id=Reaching-v0", f"env.kwargs.high={high}")
        assert (config.env.scale_actions, config.device) == (not scaled, "cpu")
        saved.save(config, tmp_path / "config.yaml")
        again = compose(f"config={tmp_path}/config.yaml", f"env.kwargs.high={other}", "algo=ppo")
        assert (again.env.scale_actions, again.device) == (scaled, "auto")


class Reaching(gymnasium.Env):
    """An environment of one continuous action."""

    def __init__(self, high):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.action_space = gymnasium.spaces.Box(-high, high, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        return self.observation_space.sample() * 0, 1.0, False, False, {}


def test_a_reproduced_run_with_another_algorithm_has_its_sizes(compose, command):
    """Bug: the sizes of the earlier algorithm, which the run's config.yaml has under a second name."""
    assert (
        command(
            "algo=ppo", "env=cartpole", "total_steps=64", "num_envs=2", "algo.num_steps=32", "batch_size=64", *QUICK
        ).code
        == 0
    )
    folder = Path("runs/latest").resolve()
    own, other = (compose(f"config={folder}", *words) for words in ([], ["algo=dqn"]))
    assert (own.algo.num_envs, other.algo.num_envs) == (2, 1)
    assert (own.algo.batch_size, other.algo.batch_size) == (64, 32)


def test_reproducing_a_run_imports_no_module_that_is_not_named(command, tmp_path):
    """Bug: a run folder from somebody else runs their code."""
    assert command(*TABLE, "total_steps=50", *QUICK).code == 0
    folder = Path("runs/latest").resolve()
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    values = plain(folder)
    values["env"]["id"] = "evil:X-v0"
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for words in (["reproduce", folder], [f"config={folder}/config.yaml"]):
        outcome = command(*words)
        assert outcome.code == 2 and "would import the module 'evil'" in outcome.last_line, outcome.err


@pytest.mark.parametrize("key", ["kwargs", "init_from"])
def test_a_run_of_somebody_else_reads_no_variable(key, command, monkeypatch):
    """Bug: `reproduce` of somebody else's run gave the environment a password, and wrote it to the new config.yaml."""
    monkeypatch.setenv("SECRET", "hunter2")
    assert command(*TABLE, "total_steps=50", *QUICK).code == 0
    folder = Path("runs/latest").resolve()
    values = plain(folder)
    if key == "init_from":
        values["init_from"] = "${oc.env:SECRET}"
    else:
        values["env"]["kwargs"] = {"options": ["a", "${oc.env:SECRET}"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    for words in (["reproduce", folder], [f"config={folder}/config.yaml"]):
        outcome = command(*words)
        assert outcome.code == 3 and "'${oc.env:SECRET}'" in outcome.last_line, outcome.err
    assert not [path for path in Path("runs").rglob("*.yaml") if "hunter2" in path.read_text()]


def test_a_setting_that_is_no_text_is_refused(command):
    """Bug: a byte that is not UTF-8 in env.kwargs, told as a bug of rltrain when config.yaml was written."""
    outcome = command(*TABLE, "env.kwargs.map=caf\udce9.txt")
    assert outcome.code == 2 and "is no text in UTF-8; env.kwargs.map" in outcome.last_line, outcome.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-m", "hydra.sweeper.params={seed: '0,1'}"], "give the values as settings: rltrain -m ... seed=0,1"),
        (["-m", "+hydra.sweeper.params.seed='0,1'"], "give the values as settings: rltrain -m ... seed=0,1"),
        (["hydra.output_subdir=.hydra"], "; hydra.output_subdir; leave it out: each"),  # bug: replaced the user's files
        (["hydra={output_subdir: .}"], "; hydra.output_subdir; leave it out: each"),
        (["--config-dir=conf", "+hydra=subdir"], "; hydra.output_subdir; leave it out: each"),
        (["--config-dir=conf", "+exp=subdir"], "; hydra.output_subdir; leave it out: each"),
        (["+hydra.job.env_set.X=5"], "; hydra.job.env_set; set them in the shell"),  # bug: `resume SWEEP` was without
        (["hydra.run={dir: /proc/none}"], "; hydra.run.dir; leave it out: each"),
        (["++tuned_by.x=1"], "Hydra cannot set a key of a value that is null; "),
        (["hydra.job.env_copy=[RLTRAIN_UNSET]"], "there is no 'RLTRAIN_UNSET'; "),
        (["-m", "hydra.sweeper=null"], "Hydra sweeper is not configured; "),
        (["++env.kwargs.a=" + "[" * 120 + "]" * 120], "a value is nested too deep; "),
        (["env.kwargs=${algo}"], "or a value is a block of settings; env.kwargs; "),
    ],
)
def test_what_hydra_itself_cannot_take_is_no_bug_of_ours(words, told, command, mine):
    """Bugs: errors of several types that were raised in Hydra and OmegaConf, told as bugs of rltrain."""
    for place, block in (("exp", "hydra: {output_subdir: .}"), ("hydra", "hydra: {output_subdir: x}")):
        mine(f"{place}/subdir.yaml", f"# @package _global_\n{block}\n")
    outcome = command(*words, *TABLE)
    assert outcome.code == 2 and told in outcome.last_line, outcome.err
    outcome = command("--help", *words, *TABLE)
    assert outcome.code == 0 and "algo.gamma" in outcome.out, outcome.err


def test_a_file_gives_the_values_of_a_sweep(command, mine):
    """What no command line can give."""
    mine("exp/two.yaml", "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n")
    outcome = command("-m", "--config-dir=conf", *TABLE, "+exp=two", "total_steps=20", "dry_run=true")
    assert outcome.code == 0 and "2 of 2 jobs can be trained" in outcome.err, outcome.err


def test_a_pipe_among_the_users_algorithms_is_passed_over(command, tmp_path):
    """Bug: every command with --config-dir waited for it, for ever."""
    (tmp_path / "conf" / "algo").mkdir(parents=True)
    os.mkfifo(tmp_path / "conf" / "algo" / "mine.yaml")
    with fails_after(30):
        outcome = command("--config-dir", "conf", *TABLE, "total_steps=50", *QUICK)
    assert outcome.code == 0, outcome.err


def test_a_file_does_not_choose_a_place_outside_of_the_working_directory(command, tmp_path, monkeypatch):
    """Bugs: `reproduce` of somebody else's run wrote where its run_dir said, or its env.name with `..`."""
    assert command(*TABLE, "total_steps=50", *QUICK).code == 0
    folder = Path("runs/latest").resolve()
    values = plain(folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for run_dir in (str(tmp_path / "theirs"), "../theirs"):
        (folder / "config.yaml").write_text(yaml.safe_dump(values | {"run_dir": run_dir}))
        outcome = command("reproduce", folder)
        assert outcome.code == 0 and f"not made in '{run_dir}', which only a file says" in outcome.err, outcome.err
        assert not (tmp_path / "theirs").exists()
    (tmp_path / "here" / "evil").symlink_to(tmp_path / "theirs")
    for run_dir in ("evil", "evil/runs", str(tmp_path), str(folder.parent)):
        (folder / "config.yaml").write_text(yaml.safe_dump(values | {"run_dir": run_dir}))
        outcome = command("reproduce", folder)
        assert outcome.code == 0 and f"not made in '{run_dir}', which only a file says" in outcome.err, outcome.err
    values["env"]["name"] = "../../theirs"
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    outcome = command("reproduce", folder)
    assert outcome.code == 2 and "'../../theirs' cannot be a folder's name; env.name" in outcome.last_line, outcome.err


def test_of_a_key_given_twice_the_last_value_counts_and_is_told(command, capfd, tmp_path):
    """Bug: `algo=dqn ... algo=q_learning` trained one of the two without a word."""
    outcome = command("algo=dqn", *TABLE, *QUICK, "seed=1", "++seed=2", "total_steps=50", "total_steps=50")
    assert outcome.code == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if "more than once" in line]
    assert [line.rpartition(": ")[2] for line in told] == ["algo=q_learning", "seed=2"]
    config = plain(outcome.folder)
    assert (config["algo"]["name"], config["seed"]) == ("q_learning", 2)
    split([str(tmp_path / "a=1"), "episodes=2", str(tmp_path / "a=2"), "episodes=3"], {"episodes"}, "", 1, 2)
    assert capfd.readouterr().err.splitlines() == [
        "rltrain: warning: episodes is given more than once; the last one counts: episodes=3"
    ]


@pytest.mark.parametrize("plus", ["+", "++"])
def test_a_choice_with_a_plus_is_the_choice(plus, compose, capfd):
    """Bugs: `+algo=dqn` took dqn's untuned settings, as Hydra puts a second choice behind the tuned ones; of
    `env=cartpole +env=pendulum` cartpole was trained, and a line said the other one counts."""
    tuned = compose("algo=ppo", "env=cartpole")
    for words in ([f"{plus}algo=ppo"], ["algo=dqn", f"{plus}algo=ppo"]):
        assert compose(*words, f"{plus}env=cartpole").algo == tuned.algo
    both = compose("algo=ppo", "env=cartpole", f"{plus}env=pendulum", f"{plus}network=mlp")
    assert (both.env.name, both.network.name) == ("pendulum", "mlp")
    assert compose("algo=ppo", "env=cartpole", f"{plus}hparams=ppo_pong").tuned_by == ["hparams/ppo_pong.yaml"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("entry", ["/algo: ppo", "/algo/ppo@algo", "/algo: dqn", "/env: cartpole", "/network: auto"])
def test_a_second_choice_in_a_file_of_ones_own_is_refused(entry, compose, mine):
    """Bug: without the word `override` it put untuned settings behind the tuned ones, while tuned_by named these."""
    group = entry.split("/")[1].rstrip(": ").partition(":")[0]
    mine("algo/low.yaml", "learning_rate: 7e-4\n")
    mine("exp/first.yaml", f"# @package _global_\ndefaults:\n  - {entry}\n")
    mine("exp/second.yaml", "# @package _global_\ndefaults: [/algo/low@algo, _self_, {override /algo: ppo}]\n")
    words = ("--config-dir=conf", "env=cartpole")
    for algo in ([], ["algo=ppo"]):
        refused = compose(*words, *algo, "+exp=first")
        assert refused.code == 2 and f"{group} is chosen a second time; {group}; " in refused.last_line, refused.err
        assert f"write `override /{group}: NAME`" in refused.last_line
    part = compose(*words, "+exp=second")
    assert (part.algo.name, part.algo.learning_rate) == ("ppo", 7e-4), "a part of the settings is no choice"


def test_mappings_are_merged_wherever_they_stand_but_a_shaping_is_replaced(compose, tmp_path, capfd):
    """Bugs: of `env.kwargs` in a file only what was typed counted; of two typed ones both, and a line said the last."""
    first, second = "env.kwargs={is_slippery:false,map_name:4x4}", "env.kwargs={map_name:8x8}"
    whole = {"is_slippery": False, "map_name": "8x8"}
    own = "algo: q_learning\nenv: {name: frozen_lake, kwargs: {is_slippery: false, map_name: 4x4}}\n"
    (tmp_path / "own.yaml").write_text(own)
    assert compose("config=own.yaml", second).env.kwargs == whole
    assert compose("config=own.yaml", "env.kwargs.map_name=8x8").env.kwargs == whole
    both = compose("algo=q_learning", "env=frozen_lake", first, second)
    assert both.env.kwargs == whole
    saved.save(both, tmp_path / "config.yaml")
    assert compose("config=config.yaml", "env.kwargs={map_name:4x4}").env.kwargs == whole | {"map_name": "4x4"}
    doom = "algo: ppo\nenv: {name: doom_basic, shaping: {HEALTH_GAINED: 1}}\n"
    (tmp_path / "doom.yaml").write_text(doom)
    assert compose("config=doom.yaml", "env.shaping={HEALTH_LOST: -1}").env.shaping == {"HEALTH_LOST": -1}
    note_repeated([first, second, "env.shaping={a:1}", "env.shaping={b:1}"])
    assert [line.partition("; ")[2] for line in capfd.readouterr().err.splitlines()] == [
        "all entries count, of each the last one",
        "the last one counts: env.shaping={b:1}",
    ]


def test_what_stays_of_a_mapping_beside_a_typed_one_is_told_and_can_be_left_out(command):
    """Bug: `reproduce RUN env.kwargs={}` trained with the run's is_slippery=false in silence, and no word took it
    away."""
    words = ["total_steps=50", *QUICK]
    first = command("algo=q_learning", "env=frozen_lake", "env.kwargs={is_slippery: false}", *words)
    Path("my.yaml").write_text("algo: q_learning\nenv: {name: frozen_lake, kwargs: {is_slippery: false}}\n")
    run, file, big = ["reproduce", first.folder], ["config=my.yaml", *words], "env.kwargs={map_name: 8x8}"
    told = "is_slippery=False stays; env.kwargs; to leave it out add ~env.kwargs."
    for way, kwargs, is_told in (
        ([*run, "env.kwargs={}"], {"map_name": "4x4", "is_slippery": False}, True),
        ([*run, big, "~env.kwargs.is_slippery"], {"map_name": "8x8"}, False),
        ([*file, big], {"map_name": "8x8", "is_slippery": False}, True),
        ([*file, big, "~env.kwargs.is_slippery"], {"map_name": "8x8"}, False),
        ([*file, big, "env.kwargs.is_slippery=true"], {"map_name": "8x8", "is_slippery": True}, False),
    ):
        again = command(*way)
        assert again.code == 0 and plain(again.folder)["env"]["kwargs"] == kwargs, again.err
        assert (told in again.err) == is_told and "stays" not in first.err, again.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["num_envs=4", "batch_size=${algo.num_envs}"], "algo.num_envs; write ${num_envs}"),  # bug: 8, the tuned value
        (["num_envs=4", "+exp=inside"], "algo.num_envs; write ${num_envs}"),
        (["algo.num_envs=4", "batch_size=${num_envs}"], "num_envs; write ${algo.num_envs}"),  # bug: null, so the tuned
        (["batch_size=${num_envs}"], "num_envs; write ${algo.num_envs}"),
        (["num_envs=4", "batch_size=${algo[num_envs]}"], "algo.num_envs; write ${num_envs}"),  # bug: 8, in every other
        (["num_envs=4", "batch_size=${oc.select:algo.num_envs}"], "algo.num_envs; write ${num_envs}"),  # notation
        (["num_envs=4", "+exp=nested"], "algo.num_envs; write ${num_envs}"),
        (["batch_size=${oc.select:num_envs,16}"], "num_envs; write ${algo.num_envs}"),
        (["num_envs=4", "+exp=nowhere"], "a setting refers to algo.num_envs"),
        (["checkpoint_every_steps=${oc.select:log_every_steps,5}"], "log_every_steps; give log_every_steps a value"),
        (["checkpoint_every_steps=${log_every_steps}"], "log_every_steps; give log_every_steps a value"),
        (["num_envs=4", "batch_size=${num_envs}"], None),
        (["num_envs=4", "batch_size=${oc.select:num_envs,16}", "name=${now:%f}"], None),
        (["num_envs=4", "batch_size=4", "run_dir=${random:}"], None),
        (["num_envs=null", "algo.num_envs=4", "batch_size=${algo.num_envs}"], None),
    ],
)
def test_a_reference_to_a_setting_has_the_value_of_the_run(words, hint, compose, mine, monkeypatch):
    """Bug: `${...}` is read when Hydra composes, before `num_envs` takes the place of `algo.num_envs`."""
    mine("exp/inside.yaml", "# @package _global_\nalgo: {batch_size: '${.num_envs}'}\n")
    mine("exp/nested.yaml", "# @package _global_\nname: num_envs\nbatch_size: '${algo.${name}}'\n")
    mine("exp/nowhere.yaml", "# @package _global_\nname: '${oc.env:RLTRAIN_${algo.num_envs}}'\n")
    monkeypatch.setenv("RLTRAIN_8", "a")
    OmegaConf.register_new_resolver("random", lambda: f"out/{random.random()}", replace=True)
    found = compose("--config-dir=conf", "algo=ppo", "env=cartpole", *words)
    if hint is None:
        assert (found.num_envs, found.batch_size, found.algo.batch_size) == (4, 4, 4)
    else:
        assert found.code == 2 and hint in found.last_line, found.err


def test_a_reference_beside_a_size_that_the_algorithm_lacks(compose):
    """The error is that of the size."""
    found = compose("algo=a2c", "env=cartpole", "batch_size=32", "run_dir=${oc.env:HOME}/x")
    assert found.code == 2 and "a2c has no batch_size" in found.last_line, found.err


@pytest.mark.parametrize("key", ["num_envs", "batch_size"])
def test_one_setting_with_two_names_has_one_value(key, compose, tmp_path):
    """Bugs: of `num_envs=2 algo.num_envs=4` the first won in silence; `algo.num_envs=4` of a command line lost against
    the `num_envs` that every run's own config.yaml has."""
    pair = ["algo=ppo", "env=cartpole"]
    refused = compose(*pair, f"{key}=32", f"algo.{key}=64")
    assert refused.code == 2 and f"{key}=32 and algo.{key}=64 are two values of one setting" in refused.last_line
    assert getattr(compose(*pair, f"{key}=32", f"algo.{key}=32", "num_envs=32"), key) == 32
    saved.save(compose(*pair, f"{key}=32"), tmp_path / "config.yaml")
    for typed in (key, f"algo.{key}"):
        config = compose(f"config={tmp_path}/config.yaml", f"{typed}=64")
        assert (getattr(config, key), getattr(config.algo, key)) == (64, 64)


@pytest.mark.parametrize("pair", [("dqn", "lunar_lander"), ("dqn", "doom_basic"), ("pqn", "doom_basic")])
def test_the_number_of_environments_of_ones_own_wins_over_tuned_settings(pair, compose, mine):
    """Bug: that of `algo.num_envs=3`, typed or in a file of one's own, lost against 8 of rltrain's tuned settings."""
    algo, env = pair
    assert compose(f"algo={algo}", f"env={env}").num_envs == 8
    assert compose(f"algo={algo}", f"env={env}", "algo.num_envs=4").num_envs == 4
    mine("algo/few.yaml", f"defaults: [{algo}, _self_]\nlike: {algo}\nnum_envs: 4\n")
    assert compose("--config-dir", "conf", "algo=few", f"env={env}").num_envs == 4
    own = f"# @package _global_\ndefaults: [{algo}_{env.removesuffix('_basic')}, _self_]\nalgo: {{num_envs: 4}}\n"
    mine("hparams/few.yaml", own)
    assert compose("--config-dir", "conf", f"algo={algo}", f"env={env}", "hparams=few").num_envs == 4


def test_a_typed_key_of_the_algorithm_wins_over_the_runs_in_a_file(compose, mine):
    """Bug: `num_envs: 2` in a file of one's own won over `algo.num_envs=4` on the command line in silence."""
    mine("hparams/own.yaml", "# @package _global_\nnum_envs: 2\nbatch_size: 32\n")
    words = ["--config-dir", "conf", "algo=ppo", "env=cartpole", "hparams=own"]
    assert (compose(*words).num_envs, compose(*words).batch_size) == (2, 32)
    config = compose(*words, "algo.num_envs=4", "algo.batch_size=64")
    assert (config.num_envs, config.algo.num_envs, config.batch_size, config.algo.batch_size) == (4, 4, 64, 64)


def test_errors_keep_their_reason(compose, mine):
    """Bug: 'ValidationError raised while composing config:', and nothing after the colon."""
    mine("study/wrong.yaml", "# @package _global_\ntotal_steps: many\n")
    line = compose("--config-dir", "conf", "+study=wrong", *TABLE).last_line
    assert "Value 'many' of type 'str' could not be converted to Integer; total_steps; give an integer" in line


def test_keys_of_a_sweep_mean_nothing_to_a_single_run(compose):
    assert "skip_done is for a sweep; skip_done; " in compose(*TABLE, "skip_done=true").last_line


BOMB = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9) if n else 'lol'}]" for n in range(12))
HOSTILE = {"pipe": None, "bomb": BOMB, "brackets": "env: " + "[" * 100_000, "levels": "[" * 3000 + "]" * 3000}


@pytest.mark.parametrize("kind", HOSTILE)
def test_reproducing_a_run_that_is_no_yaml_of_ours_ends_at_once(kind, command, tmp_path):
    """Bug: `reproduce` waits for ever for a pipe, or until the memory is full for aliases or brackets."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    path, content = folder / "config.yaml", HOSTILE[kind]
    os.mkfifo(path) if content is None else path.write_text(content)
    for words in (["reproduce", folder], *([[f"config={folder}"]] if content else [])):
        with fails_after(10):
            outcome = command(*words)
        assert outcome.code == 3 and "config.yaml" in outcome.last_line, outcome.err
    assert not outcome.run_dir.exists()


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if HOSTILE[kind]] + ["itself", "merged"])
def test_a_file_of_settings_that_multiplies_ends_at_once(kind, compose, mine):
    """Bug: a file from somebody else, named by `config=FILE` or in a config folder, took the memory for its aliases."""
    merged = "\n".join(f"x{n}: &x{n}\n  <<: [{', '.join([f'*x{n - 1}'] * 9) if n else '{k: 1}'}]" for n in range(12))
    content = {**HOSTILE, "itself": "x: &x [*x]", "merged": merged}[kind]
    mine("study/theirs.yaml", "# @package _global_\n" + content)
    for words in (["config=conf/study/theirs.yaml"], ["--config-dir", "conf", "+study=theirs", *TABLE]):
        if len(words) == 1 or "x" in content:
            with fails_after(10):
                outcome = compose(*words)
            assert outcome.code == 2 and "theirs.yaml" in outcome.last_line, outcome.err


def test_a_file_of_settings_may_have_aliases(compose, mine):
    mine("mine.yaml", "algo: q_learning\nenv: frozen_lake\neval_every_steps: &n 70\ntotal_steps: *n\n")
    config = compose("config=conf/mine.yaml")
    assert (config.total_steps, config.eval_every_steps) == (70, 70)


def test_the_collector_of_garbage_passes_over_what_is_imported_only_while_a_run_trains(monkeypatch, tmp_path):
    from rltrain.algos import q_learning

    frozen, train = [], q_learning.train

    def train_and_count(config, run):
        train(config, run)
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(q_learning, "train", train_and_count)
    assert cli.run([*TABLE, "total_steps=200", f"run_dir={tmp_path / 'run'}"]) == 0
    assert frozen[0] > 10_000 and gc.get_freeze_count() == 0


@pytest.mark.parametrize(("group", "choice"), [("hparams", "hparams=mine"), ("exp", "+exp=mine")])
def test_a_file_without_its_package_says_which_line_it_needs(group, choice, command, tmp_path):
    """Bug: "unknown key 'hparams'", which is one; nothing said that the file needs a first line."""
    folder = tmp_path / "conf" / group
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("total_steps: 300\nalgo: {learning_rate: 2e-3}\n")
    words = ["--config-dir", "conf", "algo=ppo", "env=cartpole", choice, "dry_run=true", "progress=false"]
    refused = command(*words)
    assert refused.code == 2 and "begin the file with the line: # @package _global_" in refused.last_line
    (folder / "mine.yaml").write_text(f"# @package _global_\n{(folder / 'mine.yaml').read_text()}")
    assert command(*words).code == 0, "the control"


def test_an_own_algorithm_of_one_common_key_is_not_taken_for_the_first_that_has_it(command, tmp_path):
    """Bug: a file of PPO's with a learning rate was told to have q_learning's settings."""
    folder = tmp_path / "conf" / "algo"
    folder.mkdir(parents=True)
    for text, file in (("learning_rate: 0.1", "NAME"), ("clip_range: 0.1", "ppo_schema")):
        (folder / "bare.yaml").write_text(text)
        line = command("--config-dir", "conf", "algo=bare", "env=cartpole").last_line
        assert f"defaults: [{file}, _self_]" in line


def test_the_newest_run_is_a_file_of_settings_too(command, tmp_path):
    """Bug: code 3 for runs/latest, the link that rltrain itself makes: "put the run's own in its place"."""
    assert command("algo=q_learning", "env=taxi", "total_steps=60", "progress=false").code == 0
    for name in ("runs/latest", "runs/latest/config.yaml"):
        done = command(f"config={name}", "dry_run=true", "progress=false")
        assert done.code == 0, done.err


def test_names_with_a_dot_in_a_mapping_are_names(command, tmp_path):
    """Bug: "env.kwargs.a is given twice"."""
    (tmp_path / "dots.yaml").write_text('env: {name: gym, id: CartPole-v1, kwargs: {"a.b": 1, a: 2}}\nalgo: ppo\n')
    line = command("config=dots.yaml").last_line
    assert "given twice" not in line and "'a.b'" in line


def test_tuned_settings_under_the_name_of_our_own_list_must_exist_too(compose, mine):
    """Bug: `override /hparams@_global_: nope` in a file was passed over, in silence."""
    mine("exp/a.yaml", "# @package _global_\ndefaults:\n  - override /hparams@_global_: nope\n")
    outcome = compose("algo=ppo", "env=cartpole", "+exp=a", "--config-dir", "conf")
    assert outcome.code == 2 and "unknown hparams 'nope'" in outcome.last_line, outcome.err


def test_what_stays_inside_of_a_typed_mapping_is_told():
    """Bug: rules={bonus: 1} of the run stayed beside the typed rules={extra: 1}, without a word."""
    left = list(overrides._left({"rules": {"bonus": 1, "extra": 1}, "size": 3}, [{"rules": {"extra": 1}}], [], {}))
    assert left == [("rules.bonus", 1), ("size", 3)]
    now = {"bonus": 1, "extra": 1, "low": 0}
    assert list(overrides._left(now, [{"extra": 1}], [["bonus"]], {"low": 0})) == []
    assert list(overrides._left({"a": {"b": 1, "c": 2}}, [{"a": {}}], [["a", "b"]], {"a": {"c": 2}})) == []
