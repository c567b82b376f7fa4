"""Whole runs with `fast=false`: they learn what runs with the twins learn, and every algorithm has them."""

import pytest
import torch
from exact import agents_are_close
from small_runs import TABULAR, small

from rltrain.config.algorithms import ALGOS
from rltrain.fast import accelerate as fast
from rltrain.fast import losses
from rltrain.math import losses as plain_losses
from rltrain.run.run import Run

LEARNS = {
    "ppo": ["algo.learning_rate=1e-3", "algo.clip_value_range=0.2"],
    "a2c": ["algo.optimizer=rmsprop"],
    "dqn": [],
}


@pytest.fixture
def speeds(monkeypatch):
    """Whether each run that ended had the twins."""
    seen, conclude = [], Run.conclude

    def look(self):
        seen.append({function.current is not function.plain for function, _ in fast.TWINS})
        conclude(self)

    monkeypatch.setattr(Run, "conclude", look)
    return seen


def both(algo, command):
    """Folders of a run with the twins and of one without."""
    args = [*small(algo, "cartpole"), *LEARNS[algo], "total_steps=480", "log_every_steps=96", "eval_every_steps=0"]
    folders = []
    for key in ("fast=true", "fast=false"):
        outcome = command(*args, key)
        assert outcome.code == 0, outcome.err
        folders.append(outcome.folder)
    return folders


@pytest.mark.parametrize("algo", LEARNS)
def test_a_run_without_the_twins_ends_with_the_same_parameters(algo, command, speeds):
    one, other = both(algo, command)
    assert speeds == [{True}, {False}]
    assert (one / "episodes.csv").read_text() == (other / "episodes.csv").read_text(), "they did other things"
    agents_are_close(one, other, 1e-4, 1e-6)


def wrong_ppo_loss(*args, value_weight, **named):
    """Gives the value a little too much weight."""
    return losses.ppo_loss(*args, value_weight=1.01 * value_weight, **named)


def wrong_td_loss(q, action, target, weight, delta):
    """Gives the first sample a little too much weight: Adam forgives a factor."""
    loss, td_error = losses.td_loss(q, action, target, weight, delta)
    more, _ = losses.td_loss(q[:1], action[:1], target[:1], None, delta)
    return loss + 0.01 * (more - more.detach()), td_error


@pytest.mark.parametrize(
    ("algo", "function", "wrong"),
    [("ppo", plain_losses.ppo_loss, wrong_ppo_loss), ("dqn", plain_losses.td_loss, wrong_td_loss)],
)
def test_control_a_gradient_that_is_a_little_wrong_shows(algo, function, wrong, command, monkeypatch):
    twins = [(plain, wrong if plain is function else twin) for plain, twin in fast.TWINS]
    monkeypatch.setattr(fast, "TWINS", twins)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        agents_are_close(*both(algo, command), 1e-4, 1e-6)


def plays_and_is_exported(command, args, speeds):
    outcome = command(*args, "fast=false")
    assert outcome.code == 0, outcome.err
    evaluated = command("eval", outcome.folder, "episodes=1")
    assert evaluated.code == 0, evaluated.err
    assert not any(function.current is not function.plain for function, _ in fast.TWINS), "eval as the run's own"
    if speeds is not None:
        exported = command("export", outcome.folder, "format=torchscript")
        assert exported.code == 0, exported.err
        assert torch.jit.load(exported.out.strip()) is not None
        assert speeds == [{False}]


# The other names of DQN are its switches: the last of them has all.
@pytest.mark.parametrize("algo", sorted(set(ALGOS) - set(TABULAR) - {"double_dqn", "dueling_dqn", "per_dqn"}))
def test_every_algorithm_trains_plays_and_is_exported_without_the_twins(algo, command, speeds):
    args = [*small(algo, "cartpole"), "total_steps=192", "eval_every_steps=96"]
    plays_and_is_exported(command, args, speeds)


@pytest.mark.parametrize("algo", TABULAR)
def test_tables_take_the_key_and_have_no_twins(algo, command):
    outcome = command(*small(algo, "maze"), "total_steps=100", "fast=false")
    assert outcome.code == 0, outcome.err
    assert command("eval", outcome.folder).code == 0


@pytest.mark.parametrize(("algo", "precision"), [("dqn", "fp32"), ("ppo", "bf16"), ("pqn", "bf16"), ("ppo", "fp32")])
def test_pixels_without_the_twins(algo, precision, command, speeds):
    args = [*small(algo, "pong"), "network=small_cnn", f"precision={precision}", "env.size=36", "total_steps=128"]
    plays_and_is_exported(command, [*args, "env.max_episode_frames=200", "eval_every_steps=0"], speeds)
