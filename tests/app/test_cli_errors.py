"""What a user does wrong: one last line on stderr that says what, where and what to do, an exit code, no run folder."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import yaml

from rltrain import cli
from rltrain.app import resolve, usage
from rltrain.app.hydra_app import CONFIGS
from rltrain.config import plugin_modules
from rltrain.config.algorithms import ALGOS
from rltrain.config.run import RunConfig
from rltrain.config.runtime import RayConfig, TorchrunConfig
from rltrain.errors import ConfigError

THREE_PARTS = re.compile(r"rltrain: error: [^;]+; [^;]+; .+")

COMMAND_LINE = [
    (["algo=dqnn"], "unknown algo 'dqnn'; algo; did you mean 'dqn'?"),
    (["algo=/etc/passwd"], "'/etc/passwd' is a path and no name; algo; `rltrain list algos` shows all"),
    (["algo=../env/cartpole"], "'../env/cartpole' is a path and no name; algo; "),
    (["algo=ppo", "env=../algo/ppo"], "'../algo/ppo' is a path and no name; env; `rltrain list envs` shows all"),
    (["~algo", "env=cartpole"], "'~algo' would take away what every run needs; algo; leave it out"),
    (["algo=PPO"], "unknown algo 'PPO'; algo; did you mean 'ppo'?"),
    (
        ["algo=ppo", "env=CartPole-v1"],
        "did you mean 'cartpole'? `rltrain list envs` shows all; for any gymnasium id use env=gym",
    ),
    (
        ["algo=ppo", "env=ALE/MsPacman-v5"],
        "did you mean 'ms_pacman'? `rltrain list envs` shows all; for any Atari game use env=atari",
    ),
    (
        ["algo=ppo", "env=PongNoFrameskip-v4"],
        "did you mean 'pong'? `rltrain list envs` shows all; for any Atari game use env=atari",
    ),
    (["algo=ppo", "env=Unheard-v0"], "env=gym env.id=Unheard-v0"),
    (["algo=ppo", "env=cartpol"], "unknown env 'cartpol'; env; did you mean 'cartpole'"),
    (["algo=ppo", "network=natur_cnn"], "unknown network 'natur_cnn'; network; did you mean 'nature_cnn'"),
    (["algo=dqn", "env=atari", "env.game=pongg"], "unknown Atari game 'pongg'; env.game; did you mean 'pong'?"),
    (["algo=dqn", "env=doom", "env.scenario=deadly_coridor"], "env.scenario; did you mean 'deadly_corridor'?"),
    (["algo=dqn", "env=gym", "env.id=CartPol-v1"], "env.id; did you mean 'CartPole-v1'"),
    (["algo=dqn", "env=doom", "env.shaping={HEALTH_GAIND:0.1}"], "env.shaping; did you mean 'HEALTH_GAINED'"),
    (["algo=dqn", "env=cartpole", "totl_steps=3"], "unknown key 'totl_steps'; totl_steps; did you mean 'total_steps'"),
    (["algo=ppo", "env=sonic_levels", "env.stats=[a]"], "env.stats; did you mean 'env.states'"),
    (["algo=dqn", "env=cartpole", "algo.gama=1"], "unknown key 'algo.gama'; algo.gama; did you mean 'algo.gamma'"),
    (["algo=ppo", "algo.clip_rang=1"], "did you mean 'algo.clip_range'"),
    (["algo=dqn", "env=doom_basic", "env.scenaro=x"], "did you mean 'env.scenario'"),
    (
        ["algo=ppo", "env=cartpole", "algo.gae_lambda=5e-324"],
        "5e-324 counts as 0 in a training; algo.gae_lambda; use 0",
    ),
    (
        ["algo=ppo", "network.hidden_sizes=128"],
        "network.hidden_sizes is a list; network.hidden_sizes; write network.",
    ),
    (
        ["env=doom_basic", "env.shaping=KILL:1"],
        "env.shaping is a mapping; env.shaping; write env.shaping={NAME",
    ),
    (["algo=ppo", "fast=maybe"], "fast is true or false; fast; write fast=true"),
    (["total_steps=null"], "total_steps cannot be null; total_steps; write total_steps=VALUE"),
    (["algo=dqn", "env=cartpole", "batch_size=0"], "0 is too small; batch_size; give a value of at least 1"),
    (["algo=dqn", "env=cartpole", "total_steps=-1"], "-1 is too small; total_steps; give a value of at least 1"),
    (["algo=dqn", "env=cartpole", "total_steps=0"], "total_steps"),
    (["algo=q_learning", "env=taxi", f"total_steps={10**20}"], "out of range; total_steps; give a value in [1, "),
    (["algo=ppo", "env=cartpole", "checkpoint_every_steps=1e20"], "out of range; checkpoint_every_steps; give a value"),
    (
        ["algo=ppo", "env=cartpole", "env.max_episode_steps=1e20"],
        "out of range; env.max_episode_steps; give a value",
    ),
    (["algo=ppo", "env=cartpole", "micro_batch_size=1e20"], "out of range; micro_batch_size; give a value of at most"),
    (["algo=ppo", "env=cartpole", "network.hidden_sizes=[1e20]"], "network.hidden_sizes"),
    (["algo=dqn", "env=doom", f"env.cfg={'x' * 300}"], "; env.cfg; "),
    (["algo=dqn", "env=doom", f"env.scenario={'x' * 300}"], "; env.scenario; "),
    ([f"config={'x' * 300}"], "there is no file 'xxx"),
    (["algo=dqn", "env=cartpole", "num_envs=0"], "num_envs"),
    (["algo=dqn", "env=cartpole", "eval_episodes=0"], "eval_episodes"),
    (["algo=dqn", "env=cartpole", "seed=-1"], "seed"),
    (["algo=dqn", "env=cartpole", "seed=abc"], "; seed; "),
    (["algo=dqn", "env=cartpole", "total_steps=many"], "; total_steps; "),
    (["algo=dqn", "env=cartpole", "total_steps=1.5"], "; total_steps; "),
    (["algo=dqn", "env=cartpole", "progress=maybe"], "; progress; "),
    (["algo=dqn", "env=cartpole", "algo.gamma=high"], "; algo.gamma; "),
    (["algo=dqn", "env=cartpole", "algo.gamma=1.5"], "; algo.gamma; give a value in [0, 1]"),
    (["algo=dqn", "env=taxi", "env.stack_num=4"], "4 is out of range; env.stack_num; give a value in [1, 1]"),
    (["algo=dqn", "env=cartpole", "env.stack_num=300"], "300 is out of range; env.stack_num; give a value in [1, 255]"),
    (["algo=ppo", "env=cartpole", "network.hidden_sizes=[]"], "the network has no layers; network.hidden_sizes; "),
    (["algo=dqn", "env=cartpole", "precision=fp8"], "unknown value 'fp8'; precision; "),
    (
        ["algo=dqn", "env=cartpole", "device=cpu", "precision=tf32"],
        "precision=tf32 needs a CUDA device; precision, device",
    ),
    (["algo=dqn", "env=cartpole", "device=cpu", "cuda_graphs=true"], "cuda_graphs=true needs a CUDA device; "),
    (["algo=dqn", "env=cartpole", "cuda_graphs=maybe"], "unknown value 'maybe'; cuda_graphs; "),
    (["algo=dqn", "env=cartpole", "algo.replay_device=gpu"], "unknown value 'gpu'; algo.replay_device; "),
    (["algo=dqn", "env=cartpole", "device=gpu"], "unknown device 'gpu'; device; "),
    (["algo=dqn", "env=cartpole", "name=a/../b"], "; name; "),
    (["algo=dqn", "env=cartpole", "seed=["], "Hydra cannot read the value '['; seed; put it in two pairs of quotes: "),
    (["algo=dqn", "env=cartpole", "word"], "'word' has no value; command line; write settings as key=value"),
    (["algo=dqn", "total_steps:100"], "'total_steps:100' is no setting; command line; write settings as key=value, "),
    (["algo=dqn", "total_steps =100"], "'total_steps =100' is no setting; command line; write settings as key=value, "),
    (["algo=dqn", "eval last"], "'eval last' is no setting; command line; write settings as key=value, "),
    (["algo=dqn", "env=cartpole", "device=cuda:\u0661"], "unknown device 'cuda:\u0661'; device; "),
    (["algo=reinforce", "env=cartpole", "num_envs=1e9"], "out of range; algo.num_envs; give a value in [1, 1000000]"),
    (["algo=a3c", "env=cartpole", "num_envs=1e6", "algo.num_workers=1e6"], "algo.num_workers; give a value in [1, "),
    (["algo=ppo", "env=cartpole", "algo.num_steps=1e6", "batch_size=7"], "use batch_size=8, or change algo.num_steps"),
    (["algo=dqn", "env=cartpole", "seed=0,1"], "seed has several values; seed; to start a sweep use: "),
    (["algo=ppo", "env=atari"], "no game given; env.game; add one, such as env.game=breakout"),
    (["algo=q_learning", "env=pong"], "q_learning needs discrete states, but pong has pixels"),
    (["algo=q_learning", "env=cartpole"], "cartpole has continuous observations"),
    (["algo=dqn", "env=pendulum"], "dqn needs one discrete action per step, but pendulum has continuous actions"),
    (["algo=q_learning", "env=taxi", "num_envs=4"], "one transition at a time"),
    (["algo=dqn", "env=cartpole", "network=nature_cnn"], "nature_cnn needs pixels"),
    (["algo=ppo", "env=pong", "network=mlp"], "mlp cannot process the pixels of pong"),
    (["algo=dqn", "env=taxi", "network=table"], "dqn needs a network"),
    (["algo=dqn", "env=doom", "env.cfg=/nowhere/my.cfg"], "there is no file '/nowhere/my.cfg'; env.cfg; "),
    (["evl", "runs/x"], "unknown command 'evl'; rltrain evl; did you mean 'eval'?"),
    (["algo.name=ppo", "env=cartpole"], "algo.name=ppo does not choose the algorithm; algo.name; use algo="),
    (["algo.name=zzz"], "algo.name=zzz does not choose the algorithm; algo.name; use algo="),
    (
        ["algo=dqn", "env=cartpole", "env.family=doom"],
        "env.family=doom does not choose the environment; env.family; use env=",
    ),
    (["algo=q_learning", "env=taxi", "run_dir="], "run_dir is empty; run_dir; "),
    (["doctor", "torch"], "doctor takes no words, but got 1; rltrain doctor torch; usage: rltrain doctor"),
    (["algo=ppo", "env=doom", "hparams=ppo_dom"], "unknown hparams 'ppo_dom'; hparams; did you mean 'ppo_doom'"),
    (["algo=ppo", "env=doom", "hparams=quick/ppo_x"], "unknown hparams 'quick/ppo_x'; hparams; "),
    (["algo=ppo", "env=doom", "hparams@_global_=ppo_dom"], "unknown hparams 'ppo_dom'; hparams; did you mean"),
    (["--config-dir", ".", "algo=ppo", "env=doom", "hparams=ppo_dom"], "unknown hparams 'ppo_dom'; hparams; "),
    (["-m", "algo=q_learning,qq", "env=maze"], "unknown algo 'qq'; algo; "),
    (["algo", "=", "ppo"], "there is a space next to '='; algo = ppo; write algo=VALUE"),
    (["algo=", "ppo"], "there is a space next to '='; algo= ppo; write algo=VALUE"),
    (["--algo=ppo"], "settings take no dashes; --algo=ppo; write algo=ppo"),
    (["--algo", "ppo", "--env", "cartpole"], "settings take no dashes; --algo; write algo=ppo"),
    (["--config", "my.yaml"], "settings take no dashes; --config; for a file of settings write config=my.yaml"),
    (["algo=ppo", "--config-file=my.yaml"], "for a file of settings write config=my.yaml"),
    (["my.yaml"], "unknown command 'my.yaml'; rltrain my.yaml; for a file of settings write config=my.yaml"),
    (["ppo", "cartpole"], "unknown command 'ppo'; rltrain ppo; write algo=ppo env=NAME"),
    (["record", "last"], "unknown command 'record'; rltrain record; write rltrain play RUN video=true"),
    (
        ["--config-dir", "conf", "list", "algos"],
        "the command list stands first; --config-dir conf list algos; write rltrain list --config-dir conf algos",
    ),
    (["--config-dir", "runs", "algo=ppo", "env=cartpole"], "config directory '"),
    (["algo=ppo", "--total-steps", "100"], "settings take no dashes; --total-steps; write total_steps=100"),
    (["algo=ppo", "--dry-run", "env=cartpole"], "settings take no dashes; --dry-run; write dry_run=VALUE"),
    (["train", "algo=ppo", "env=cartpole"], "rltrain train; leave it out: rltrain algo=ppo env=cartpole"),
    (["list", "envs", "cartpol3"], "no env contains 'cartpol3'; rltrain list; did you mean 'cartpole'?"),
    (["list", "envs", "doom", "word"], "list takes at most 2 words, but got 3"),
    (["list", "algo"], "unknown list 'algo'; rltrain list; did you mean 'algos'"),
    (["algo=ppo", "algo.lr=1e-3"], "unknown key 'algo.lr'; algo.lr; did you mean 'algo.learning_rate'?"),
    (["algo=ppo", "total_timesteps=1e6"], "did you mean 'total_steps'?"),
    (["algo=ppo", "ent_coef=0.1"], "did you mean 'algo.entropy_weight'?"),
    (["algo=ppo", "learning_rate=0.1"], "did you mean 'algo.learning_rate'?"),
    (["-m", "algo=ppo", "seed=0,1", "hydra/sweeper=optuna"], "rltrain comes without the sweeper 'optuna'; hydra/swee"),
    (["eval", "runs/x", "--episodes", "3"], "settings take no dashes; --episodes; write episodes=3"),
    (["eval", "runs/x", "--episodes=3"], "settings take no dashes; --episodes=3; write episodes=3"),
    (["plot", "runs/x", "--by", "algo"], "settings take no dashes; --by; write by=algo"),
    (["eval"], "eval needs a run; rltrain eval; usage: rltrain eval RUN"),
    (["eval", "runs/x", "episode=3"], "unknown key 'episode'; episode; did you mean 'episodes'?"),
    (["eval", "runs/x", "episodes=0"], "; episodes; "),
    (["eval", "runs/x", "episodes=few"], "; episodes; "),
    (["eval", "runs/x", "greedy=perhaps"], "; greedy; "),
    (["eval", "runs/x", "video=perhaps"], "'perhaps' is neither true nor false; video; "),
    (["play"], "play needs a run; "),
    (["play", "runs/x", "episodes=0"], "; episodes; "),
    (["play", "runs/x", "video=maybe"], "; video; "),
    (["play", "runs/x", "vidoe=true"], "unknown key 'vidoe'; vidoe; did you mean 'video'?"),
    (["plot"], "plot needs runs; "),
    (["plot", "runs/x", "out=a.jpeg"], "'a.jpeg' is not a picture file; out; "),
    (["plot", "runs/x", "center=median"], "unknown value 'median'; center; "),
    (["plot", "runs/x", "metrics=a"], "unknown key 'metrics'; metrics; did you mean 'metric'?"),
    (["runs", "sort=scor"], "unknown value 'scor'; sort; did you mean 'score'"),
    (["runs", "a", "b"], "runs takes one word, but got 2; rltrain runs a b; "),
    (["export", "runs/x", "format=tflite"], "unknown value 'tflite'; format; "),
    (["export"], "export needs a run; "),
    (["resume", "runs/x", "seed=3"], "`resume` cannot change this setting; seed; start a new run"),
    (["resume", "runs/x", "algo.learning_rate=.1"], "`resume` cannot change this setting; algo.learning_rate; "),
    (["resume", "runs/x", "algo.lerning_rate=.1"], "unknown key 'algo.lerning_rate'"),
    (["resume", "runs/x", "progress=maybe"], "; progress; "),
]


@pytest.mark.parametrize(("argv", "said"), COMMAND_LINE, ids=[" ".join(argv) for argv, _ in COMMAND_LINE])
def test_a_wrong_command_line_is_told_in_one_line_before_anything_is_made(argv, said, command):
    outcome = command(*argv)
    assert outcome.code == 2, outcome.err
    assert THREE_PARTS.fullmatch(outcome.last_line), outcome.last_line
    assert said in outcome.last_line
    assert "Traceback" not in outcome.err
    assert not list(outcome.run_dir.parent.iterdir()), "something was made"


@pytest.mark.parametrize("word", ["eval", "resume", "plot", "runs", "reproduce", "export", "play"])
def test_a_word_too_long_for_a_name_is_no_run(word, command):
    """Bug: `Path.is_dir` raises an OSError for a name of 300 characters, told as a bug in rltrain."""
    outcome = command(word, "x" * 300)
    assert outcome.code == 3, outcome.err
    assert THREE_PARTS.fullmatch(outcome.last_line)
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 2_000, "the file of settings cannot be read"),
        ("plugins: 3\nalgo: dqn\n", "write plugins: [my_module]"),
        ("plugins: my_module\nalgo: dqn\n", "write plugins: [my_module]"),
    ],
    ids=["deep", "number", "word"],
)
def test_a_file_of_settings_that_makes_no_sense_is_told_in_one_line(text, said, command, tmp_path):
    """Bugs: brackets without end were a RecursionError, `plugins: 3` a TypeError; `plugins: m` imported each letter."""
    (tmp_path / "mine.yaml").write_text(text)
    outcome = command("config=mine.yaml")
    assert outcome.code == 2, outcome.err
    assert said in outcome.last_line
    assert "Traceback" not in outcome.err


def test_a_right_command_line_does_make_a_run_folder(command):
    outcome = command("algo=q_learning", "env=taxi", "total_steps=100")
    assert outcome.code == 0, outcome.err
    assert (outcome.folder / "result.json").is_file()


def test_an_error_does_not_come_back_in_the_next_call(command):
    assert command("algo=dqn", "env=pendulum").code == 2
    assert command("algo=q_learning", "env=taxi", "total_steps=100").code == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["algo=ppo", "env.frame_skip=4"], "it is a key of env=doom, env=atari, env=retro"),
        (["algo=ppo", "frame_skip=4"], "it is a key of env=doom, env=atari, env=retro"),
        (["algo=dqn", "algo.clip_range=1"], "it is a key of algo=ppo"),
        (["algo=ppo", "runtime.processes=2"], "it is a key of runtime=torchrun"),
        (["algo=ppo", "env=gym", "env.id=Nope-v0"], "for an environment of your own use env.id=my_module:Name-v0"),
    ],
)
def test_a_hint_is_near_or_says_where_the_key_belongs(words, hint, command):
    """Bugs: did you mean 'env.family' or 'env.name'? did you mean 'Gopher-v0'?"""
    assert command(*words, *([] if "env=gym" in words else ["env=cartpole"])).last_line.endswith(f"; {hint}")


def test_a_hint_never_names_the_key_that_was_given(command):
    line = command("algo=dqn", "env=cartpole", "env.scenario=basic").last_line
    assert "unknown key 'env.scenario'" in line
    assert "mean 'env.scenario'" not in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_where_there_is_none_is_refused_before_a_folder_is_made(command):
    outcome = command("algo=dqn", "env=cartpole", "device=cuda")
    assert outcome.code == 2
    assert "0 CUDA devices are usable; device; use device=cpu" in outcome.last_line
    assert not outcome.run_dir.exists()


@pytest.mark.parametrize("word", ["eval", "resume", "play", "plot", "export"])
@pytest.mark.parametrize("place", ["missing", "empty", "last"])
def test_a_folder_that_is_no_run_has_no_checkpoint(word, place, command, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = command(word, place)
    assert outcome.code == 3
    assert THREE_PARTS.fullmatch(outcome.last_line)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.fixture
def finished(command):
    """The folder of a short run."""
    outcome = command("algo=q_learning", "env=taxi", "total_steps=100", "progress=false")
    assert outcome.code == 0, outcome.err
    return outcome.folder


@pytest.mark.parametrize("word", ["eval", "resume", "play", "export"])
def test_a_run_without_checkpoints_has_none_to_use(word, command, finished):
    shutil.rmtree(finished / "checkpoints")
    outcome = command(word, finished)
    assert outcome.code == 3
    assert THREE_PARTS.fullmatch(outcome.last_line)


@pytest.mark.parametrize("word", ["eval", "resume", "play", "export"])
def test_a_run_killed_before_its_first_checkpoint_says_how_to_start_it_again(word, command, finished):
    shutil.rmtree(finished / "checkpoints")
    line = command(word, finished).last_line
    assert "the run has no checkpoint yet" in line
    assert "start it again: rltrain algo=q_learning env=taxi total_steps=100" in line
    assert "checkpoints folder" not in line


@pytest.fixture
def agent_alone(finished):
    """A run as it is where it was killed after its first evaluation and before its first whole checkpoint."""
    step = sorted((finished / "checkpoints").glob("step_*"))[-1]
    for path in [*(finished / "checkpoints").glob("step_*"), finished / "checkpoints" / "last"]:
        if path.is_symlink():
            path.unlink()
        elif path != step:
            shutil.rmtree(path)
    (finished / "checkpoints" / "best").unlink(missing_ok=True)
    (finished / "checkpoints" / "best").symlink_to(step.name)
    manifest = json.loads((step / "manifest.json").read_text())
    (step / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    return finished


def test_what_an_evaluation_left_is_nothing_to_go_on_from(command, agent_alone):
    """Bug: a run killed that early is told to look into a folder, which holds a checkpoint that nothing can resume."""
    line = command("resume", agent_alone).last_line
    assert "the run has no checkpoint yet" in line and "start it again: rltrain algo=q_learning" in line
    [step] = (agent_alone / "checkpoints").glob("step_*")
    outcome = command("resume", step)
    assert outcome.code == 3 and "KeyError" not in outcome.err


def test_it_can_be_evaluated_and_the_error_says_so(command, agent_alone):
    outcome = command("eval", agent_alone)
    assert outcome.code == 3 and outcome.last_line.endswith("use checkpoint=best, which an evaluation saved")
    assert command("eval", agent_alone, "checkpoint=best", "episodes=1").code == 0


def test_last_without_a_checkpoint_is_named_and_so_is_the_newest_run_that_has_one(command, finished):
    assert command("algo=q_learning", "env=taxi", "total_steps=200", "progress=false").code == 0
    newest = (finished.parents[2] / "latest").resolve()
    shutil.rmtree(newest / "checkpoints")
    line = command("eval", "last").last_line
    assert f"`last` is {newest.name}, which has no checkpoint" in line
    assert line.endswith(f"runs/taxi/q_learning/{finished.name}")


def test_last_in_another_folder_says_where_to_stand(command):
    """Bug: "there is no such run; ...; give ... or `last`", which was typed."""
    line = command("eval", "last").last_line
    assert "there is no last run here" in line and "stand where you trained" in line


def test_a_run_is_found_by_its_name_and_by_its_path_below_runs(command, finished):
    assert command("algo=q_learning", "env=taxi", "total_steps=100", "name=foo", "progress=false").code == 0
    assert command("eval", "foo", "episodes=1").code == 0
    assert command("eval", f"taxi/q_learning/{finished.name}", "episodes=1").code == 0
    assert "there is no such run" in command("eval", "oo").last_line
    assert command("algo=q_learning", "env=taxi", "total_steps=100", "name=foo", "progress=false").code == 0
    assert "2 runs are called 'foo'" in command("eval", "foo").last_line


def test_a_checkpoint_that_is_not_there_is_no_usable_one(command, finished):
    outcome = command("eval", finished, "checkpoint=777")
    assert outcome.code == 3
    assert outcome.last_line.endswith("step_000000777; use one of last, best, 10, 80, 100")


def test_a_run_that_is_done_says_how_to_go_on(command, finished):
    outcome = command("resume", finished)
    assert outcome.code == 2
    assert "the run is done at step 100 of 100; total_steps; give a larger value" in outcome.last_line
    assert f"rltrain resume {finished} total_steps=200" in outcome.last_line
    shorter = command("resume", finished, "total_steps=30")  # bug: twice what was typed would be refused again
    assert f"rltrain resume {finished} total_steps=200" in shorter.last_line


def test_a_saved_config_of_another_version_is_a_wrong_config(command, finished):
    values = yaml.safe_load((finished / "config.yaml").read_text())
    (finished / "config.yaml").write_text(yaml.safe_dump(values | {"colour": "blue"}))
    outcome = command("eval", finished)
    assert outcome.code == 2
    assert "unknown key; colour; " in outcome.last_line


def test_a_missing_wad_of_a_users_own_scenario_is_an_environment_failure(command, tmp_path):
    (tmp_path / "mine.cfg").write_text("doom_scenario_path = nowhere.wad\navailable_buttons = { ATTACK }\n")
    outcome = command("algo=dqn", "env=doom", "env.cfg=mine.cfg")
    assert outcome.code == 4
    assert THREE_PARTS.fullmatch(outcome.last_line)
    assert "nowhere.wad" in outcome.last_line
    assert not outcome.run_dir.exists()


def test_a_place_that_cannot_be_written_is_a_disk_error(command, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = command("algo=q_learning", "env=taxi", "run_dir=file")
    assert outcome.code == 7
    assert THREE_PARTS.fullmatch(outcome.last_line)


def test_a_bug_of_ours_shows_its_traceback_and_still_ends_in_one_line(command, monkeypatch):
    monkeypatch.setattr(cli, "_route", lambda argv: 1 // 0)
    outcome = command("list")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert outcome.last_line.startswith("rltrain: error: ZeroDivisionError: ")


def test_a_fault_beside_modules_of_the_users_may_be_theirs(command, monkeypatch):
    """Bug: "a bug in rltrain" for what a plugin had handed over, when no line of the plugin's was running."""
    monkeypatch.setattr(cli, "_route", lambda argv: 1 // 0)
    monkeypatch.setattr(plugin_modules, "LOADED", ["mine.parts"])
    outcome = command("list")
    assert outcome.code == 4
    assert "Traceback" in outcome.err and "a bug in rltrain; please" not in outcome.err
    assert THREE_PARTS.fullmatch(outcome.last_line) and "outside of your module mine" in outcome.last_line
    assert plugin_modules.unclear(KeyboardInterrupt()) is None


@pytest.mark.parametrize("word", usage.COMMANDS)
def test_every_command_explains_itself(word, command):
    outcome = command(word, "--help")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == usage.COMMANDS[word]
    assert outcome.out.splitlines()[1].startswith(f"usage: rltrain {word}")


GROUPS = ("algo", "env", "network", "runtime")


def test_help_names_commands_and_explains_every_key_without_our_insides(command):
    out = command("--help").out
    for word in [*usage.COMMANDS, *(key for key in vars(RunConfig()) if key not in GROUPS)]:
        assert re.search(rf"^  (rltrain )?{word}\b", out, re.MULTILINE), word
    assert "runtime=torchrun --help" in out
    assert "schema" not in out and "powered by" not in out
    assert re.search(r"^  seed=0 +Seed of all random numbers\.$", out, re.MULTILINE)


def test_help_of_a_pair_explains_its_keys(command):
    out = command("algo=d3qn_per", "env=doom_basic", "--help").out
    assert "  algo.n_step=" in out and "  env.frame_skip=" in out
    assert "  algo.epsilon_decay=" in command("algo=sarsa", "env=taxi", "--help").out, "a base's keys are missing"
    assert "  env.frame_skip=" not in command("--help").out


@pytest.mark.parametrize(("algo", "env"), [("ppo", "pong"), ("q_learning", "taxi")])
def test_help_has_every_key_of_a_pair_once_and_no_fact_about_the_algorithm(algo, env, command):
    """Bugs: a key of a base class explained again by each class below it; `action_kinds`, which nobody can set."""
    keys = re.findall(r"^  (algo\.\w+)=", command(f"algo={algo}", f"env={env}", "--help").out, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {"algo.num_envs", "algo.batch_size", "algo.gamma"} <= set(keys)
    assert set(keys) <= {f"algo.{field.name}" for field in dataclasses.fields(ALGOS[algo])}


def test_help_of_a_pair_shows_what_a_run_would_use_and_not_what_stands_in_the_code(command):
    """Bug: a learning rate in the help that the pair's tuned settings replace."""
    tuned = yaml.safe_load((CONFIGS / "hparams" / "ppo_pong.yaml").read_text())
    out = command("algo=ppo", "env=pong", "algo.gamma=0.5", "--help").out
    assert f"  algo.learning_rate={float(tuned['algo']['learning_rate'])} " in out
    assert f"  total_steps={tuned['total_steps']} " in out
    assert "  algo.gamma=0.5 " in out
    assert "  network.hidden_sizes=[64,64] " in out


@pytest.mark.parametrize(("group", "typed", "meant"), [("algo", "dqm", "dqn"), ("env", "dom", "doom")])
def test_help_of_a_choice_that_is_not_there_is_no_help_of_another(group, typed, meant, command):
    outcome = command(f"{group}={typed}", "--help")
    assert outcome.code == 2
    assert f"unknown {group} '{typed}'" in outcome.last_line and f"did you mean '{meant}'" in outcome.last_line
    assert command("-m", "algo=ppo,a2c", "env=cartpole", "--help").out.count("  algo.clip_range=") == 1, "the first"


def test_a_sweep_in_hydras_own_words_is_left_to_hydra(command):
    tuned = ["hparams=choice(ppo_cartpole,ppo_doom)", "seed=x"]  # the seed ends it before anything is trained
    outcome = command("-m", "algo=ppo", "env=cartpole", *tuned)
    assert outcome.code == 2 and "; seed; " in outcome.last_line, outcome.err


def test_help_of_a_users_own_file_explains_the_keys_of_what_it_is_made_from(command, tmp_path):
    for group, text in (("algo", "defaults:\n  - ppo\ngamma: 0.5\n"), ("env", "defaults: [doom_basic, _self_]\n")):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / "own.yaml").write_text(text)
    out = command("--config-dir", "mine", "algo=own", "env=own", "--help").out
    assert "  algo.clip_range=" in out and "  env.frame_skip=" in out
    assert "algo.double=" not in out
    assert "  algo.gamma=0.5 " in out


def test_help_and_version_bring_no_heavy_package():
    code = (
        "import sys; from rltrain import cli; cli.run(['--help']); cli.run(['--version']); cli.run([]);"
        "sys.exit(str([name for name in ('torch', 'numpy', 'hydra', 'gymnasium') if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert re.search(r"^rltrain \d+\.\d+", done.stdout, re.MULTILINE)


def test_a_dry_run_names_no_folder_that_is_gone(command):
    outcome = command("algo=q_learning", "env=taxi", "dry_run=true")
    assert outcome.code == 0, outcome.err
    assert "network: table" in outcome.err and tempfile.gettempdir() not in outcome.err
    assert not any(word in outcome.err for word in ("rltrain resume", "rltrain play", "tensorboard"))
    assert "dry run: built everything" in outcome.last_line
    assert not outcome.run_dir.exists()


def test_an_evaluation_ends_with_a_line_for_people_and_json_for_scripts(command, finished):
    outcome = command("eval", finished, "episodes=3")
    result = json.loads(outcome.out.splitlines()[-1])
    said, where = outcome.last_line.split("; saved to ")
    assert said == f"{result['mean_reward']:.2f} +- {result['std_reward']:.2f} over 3 episodes with step_000000100"
    assert json.loads(Path(where).read_text()) == result


@pytest.mark.parametrize(
    ("line", "offered", "hidden"),
    [
        ("rltrain res", ["resume"], "_schema"),
        ("rltrain algo=d", ["algo=dqn", "algo=dueling_dqn"], "_schema"),
        ("rltrain eval la", ["last"], "resume"),
        ("rltrain eval last ep", ["episodes="], "last"),
        ("rltrain eval ru", ["runs/"], "last"),
        ("rltrain list e", ["envs"], "algos"),
    ],
)
def test_tab_offers_what_can_come_next_and_prints_nothing_else(line, offered, hidden, command, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("COMP_LINE", line)
    outcome = command("-sc", "query=bash")
    assert (outcome.code, outcome.err) == (0, "")
    assert set(offered) <= set(outcome.out.split())
    assert hidden not in outcome.out


@pytest.mark.parametrize("place", ["", "./", "here"])
@pytest.mark.parametrize("before", ["eval ", "config="])
def test_tab_offers_no_name_that_a_shell_would_expand(before, place, command, monkeypatch, tmp_path):
    """Bugs: bash runs `$(...)` in the name of somebody's folder while one presses TAB; an absolute path is a bug."""
    here = f"{tmp_path}/" if place == "here" else place
    for name in (
        "runs",
        "r$(touch HACKED)",
        "r`touch HACKED`",
        "r$HOME",
        "r;id",
        "r'x",
        'r"x',
        "r\\x",
        "r{a,b}",
        "r x",
    ):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("COMP_LINE", f"rltrain {before}{here}r")
    outcome = command("-sc", "query=bash")
    assert (outcome.code, outcome.err) == (0, "")
    expected = {("eval ", place): [f"{here}runs/"], ("config=", "./"): ["config=./runs"]}
    expected["config=", "here"] = [f"config={here}runs"]
    assert outcome.out.split() == expected.get((before, place), [])


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (
            ["algo=ppo"],
            2,
            "ppo has no actors apart from its learner; runtime; use runtime=local, or algo=impala or dqn",
        ),
        (
            ["algo=dqn", "num_envs=3"],
            2,
            "num_envs, runtime.actors; use a multiple of runtime.actors, such as num_envs=4",
        ),
        (["algo=impala", "runtime.address=there"], 2, "runtime.address; use local, auto, or HOST:PORT"),
        (["algo=impala"], 4, "Ray is missing; runtime; pip install 'rltrain[ray]'"),
        (["algo=dqn"], 4, "Ray is missing"),  # its one environment becomes one for each actor
    ],
)
def test_what_actors_on_a_ray_cluster_need(words, code, expected, command, monkeypatch):
    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    outcome = command(*words, "env=cartpole", "runtime=ray")
    assert outcome.code == code
    assert expected in outcome.last_line
    assert not outcome.run_dir.exists()


@pytest.mark.parametrize("given", [{"RANK": "0"}, {"RANK": "x", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}])
def test_half_of_torchruns_variables_are_told(given, command, monkeypatch):
    """Bug: KeyError: 'WORLD_SIZE', a bug in rltrain, in a program that a process of torchrun started."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    outcome = command("algo=ppo", "env=cartpole")
    assert outcome.code == 2 and "variables of torch's launcher are incomplete" in outcome.last_line


@pytest.mark.parametrize("place", ["node1:99999", "node1:0", ":29500", "node1:1e3", "node1"])
def test_a_place_to_meet_has_a_host_and_a_port(place):
    """Bug: a traceback of torch's store for a port above 65,535."""
    for made, key in ((TorchrunConfig, "rendezvous"), (RayConfig, "address")):
        with pytest.raises(ConfigError, match=rf"'{place}' is .*runtime\.{key}; "):
            made(**{key: place})
