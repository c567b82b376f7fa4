"""`init_from=RUN`: a new run begins with the weights of another."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from rltrain.config.environments import RetroConfig
from rltrain.run import checkpoint
from rltrain.run.run import Run

SHORT = ["env=cartpole", "progress=false", "eval_every_steps=0", "final_eval_episodes=1", "device=cpu"]
QUICK = {
    "ppo": ["algo=ppo", "total_steps=64", "num_envs=2", "algo.num_steps=16", "batch_size=32"],
    "dqn": ["algo=dqn", "total_steps=60", "num_envs=1", "batch_size=16", "algo.learning_starts=40",
            "algo.train_every_steps=4", "algo.updates_per_round=1", "algo.target_period_updates=1000"],
}  # fmt: skip


def agent(run):
    return checkpoint.read(checkpoint.find(run))["agent"]


@pytest.mark.parametrize(("algo", "parts"), [("ppo", ["network"]), ("dqn", ["online", "target"])])
def test_the_weights_are_taken_and_nothing_else(algo, parts, command):
    """Bugs: a target network that stays as it was made; the other run's optimizer or steps."""
    outcome = command(*QUICK[algo], *SHORT)
    assert outcome.code == 0, outcome.err
    folder = outcome.folder
    first = agent(folder)
    again = command(*QUICK[algo], *SHORT, "init_from=last", "seed=1", "algo.learning_rate=1e-12")
    assert again.code == 0 and f"begins with the weights of {folder}" in again.err
    second, saved = agent(again.folder), yaml.safe_load((again.folder / "config.yaml").read_text())
    assert saved["init_from"] == str(checkpoint.find(folder)), "not `last`, which is another run soon"
    other = agent(command(*QUICK[algo], *SHORT, "seed=1").folder)
    for part in parts:
        for name, tensor in first[part].items():
            np.testing.assert_allclose(second[part][name], tensor, atol=1e-9, err_msg=f"{part}/{name}")
    assert any((other[parts[0]][name] != tensor).any() for name, tensor in first[parts[0]].items()), "the control"
    assert second["num_updates"] == first["num_updates"] > 0


def test_what_does_not_fit_is_told_in_one_line(command, tmp_path):
    """Bugs: weights of another shape that are left as they were made; a traceback; a run that trains from nothing; the
    weights of tanh in a network of relu, which have the same shapes.
    """
    outcome = command(*QUICK["ppo"], *SHORT)
    assert outcome.code == 0, outcome.err
    run = f"init_from={outcome.folder}"
    for words, code, told in (
        ([*QUICK["dqn"], *SHORT, run], 3, "has no 'online', which dqn needs"),
        ([*QUICK["ppo"], *SHORT, "network.hidden_sizes=[8]", run], 3, "add network.hidden_sizes=[64,64], or leave"),
        (
            [*QUICK["ppo"], *SHORT, "network.activation=relu", run],
            3,
            "has another network than this one: network.activation=tanh, not network.activation=relu; ",
        ),
        (
            [*QUICK["ppo"], *SHORT, "env=acrobot", run],
            3,
            "the run of init_from has another environment than this one: observations float32 of shape [4] and actions"
            " Discrete(2), not observations float32 of shape [6] and actions Discrete(3); ",
        ),
        ([*QUICK["ppo"], *SHORT, f"init_from={tmp_path / 'none'}"], 3, "there is no such run"),
    ):
        failed = command(*words)
        assert "env=acrobot" not in words or not (failed.run_dir / "acrobot").exists(), "a folder that holds no run"
        assert failed.code == code and told in failed.last_line, failed.err
        assert failed.last_line.startswith("rltrain: error: ")


def test_the_configuration_of_the_other_run_is_the_one_that_it_was_trained_with(command):
    """Bug: the network was compared with that of an edited config.yaml, which `eval` refuses."""
    folder = command(*QUICK["ppo"], *SHORT).folder
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("activation: tanh", "activation: relu"))
    words = [*QUICK["ppo"], *SHORT, f"init_from={folder}", "network.activation=relu"]
    failed = command(*words)
    assert failed.code == 3 and "the checkpoint belongs to another configuration" in failed.last_line, failed.err
    (folder / "config.yaml").write_text(text)
    assert command(*words[:-1]).code == 0


def test_actions_and_inputs_of_doom_in_another_order_are_told(command):
    """Bug: the weights pressed other buttons, as only the number of actions was compared."""
    doom = [*QUICK["ppo"], *SHORT[1:], "env=doom_take_cover", "network=small_cnn", "hparams=quick/ppo_doom_take_cover"]
    doom += ["env.height=20", "env.width=20", "env.render_resolution=RES_160X120", "batch_size=32", "total_steps=32"]
    first = command(*doom, "env.noop=true", "env.game_variables=[HEALTH,AMMO2]")
    assert first.code == 0, first.err
    same = ["env.game_variables=[HEALTH,AMMO2]", "env.actions=[[MOVE_LEFT],[MOVE_RIGHT],[]]"]
    other = ["env.game_variables=[AMMO2,HEALTH]", "env.actions=[[],[MOVE_LEFT],[MOVE_RIGHT]]"]
    told = [command(*doom, f"init_from={first.folder}", *keys) for keys in (same, other)]
    assert [outcome.code for outcome in told] == [0, 0], told[0].err
    assert "weights of init_from were trained" not in told[0].err
    assert "trained with HEALTH, AMMO2, not with AMMO2, HEALTH; env.game_variables" in told[1].err
    assert "trained with MOVE_LEFT, MOVE_RIGHT, nothing, not with nothing, MOVE_LEFT, MOVE_RIGHT; env.a" in told[1].err


def test_actions_of_a_console_game_in_another_order_are_told(tmp_path, capfd):
    """Bug: the weights pressed other buttons in silence."""
    (tmp_path / "config.yaml").write_text("env: {family: retro, actions: [NOOP, LEFT]}\n")
    for actions in (["NOOP", "LEFT"], ["LEFT", "NOOP"], []):
        run = SimpleNamespace(config=SimpleNamespace(env=RetroConfig("airstriker", actions=actions)))
        Run._tell_of_other_meaning(run, tmp_path / "checkpoints" / "step_1")
    first, second = capfd.readouterr().err.splitlines()
    assert "trained with NOOP, LEFT, not with LEFT, NOOP; env.actions; " in first
    assert "trained with NOOP, LEFT, not with every combination of buttons; " in second
