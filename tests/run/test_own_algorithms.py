"""What an algorithm of a plugin hands over is checked, and what is wrong has the algorithm's name."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rltrain.errors import EnvironmentFailure
from rltrain.run import checked
from rltrain.run.statistics import Statistics
from rltrain.system import restored

CONFIG = SimpleNamespace(algo=SimpleNamespace(name="mine"))
BOX = spaces.Box(np.array([-1, 0, -np.inf, 0.1], np.float32), np.array([1, np.inf, 2, 1000], np.float32))


def refused(words):
    return pytest.raises(EnvironmentFailure, match=f"algorithm 'mine': .*{words}")


@pytest.mark.parametrize(
    ("action", "exists"),
    [
        ([1, 0, 0, 1], True),
        ([-1, 1e30, -1e30, 1000], True),
        ([1.0000001, 5, 2.0000002, 0.09998], True),  # rounded: 500.05 - 499.95 in float32
        ([1.0001, 0, 0, 1], False),
        ([0, -0.01, 0, 1], False),
        ([0, 0, 2.01, 1], False),
        ([np.nan, 0, 0, 1], False),
        ([0, np.inf, 0, 1], False),
        ([0, 0, -np.inf, 1], False),
    ],
)
def test_actions_of_a_box_are_finite_and_within_its_bounds(action, exists):
    """Bug: five times the largest action, and NaN, were played and scored."""
    refuse = checked.action_check(CONFIG, SimpleNamespace(action_space=BOX, num_envs=1), "train gave its pool")
    action = np.array([action], np.float32)
    if exists:
        return refuse(action)
    with refused(r"the actions \["):
        refuse(action)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"train/a": {"b": 3}}, "the metric 'train/a' that it records is a dict"),
        ({"train/a": "converged"}, "is a str, which is no number"),
        ({"train/a": np.zeros(3)}, "is a ndarray"),
        ({"train/a": torch.zeros(3)}, "is a Tensor"),
        ({"train/a": None}, "is a NoneType"),
        (lambda: [1], "run.record returned a list"),
        (lambda: {"eval/mean_reward": 1.0}, "a metric 'eval/mean_reward', under which"),
        (lambda: {3: 1.0}, "a metric with the name 3"),
    ],
)
def test_a_metric_is_a_number_under_a_name_of_its_own(metrics, words):
    """Bugs: "a bug in rltrain" after the whole training; the plugin's number in the place of rltrain's score."""
    statistics = Statistics(CONFIG, {})
    statistics.record({"train/right": torch.ones(1), "train/left": np.float32(2)})
    assert statistics.tags(8, "cpu")["train/right"] == 1.0
    statistics.record(metrics)
    with refused(words):
        statistics.tags(8, "cpu")


@pytest.mark.parametrize("name", ["step", "rollout/ep_rew_mean", "memory/rss_mb", "time/fps", "eval/mean_reward"])
def test_a_name_of_rltrains_own_is_refused_at_once(name):
    checked.check_tags(CONFIG, {f"{name}2": 1.0, "train/loss": 1.0, "rollout/exploration_rate": 1.0})
    with refused(f"a metric '{name}', under which rltrain writes a value of its own"):
        checked.check_tags(CONFIG, {name: 1.0})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "evaluate returned a NoneType"),
        (10.0, "evaluate returned a float"),
        ({"mean": 1.0}, "returned a dict without mean_reward"),
        ({"mean_reward": np.ones(1), "std_reward": 0.0, "episodes": 1}, "mean_reward that evaluate returned is array"),
        ({"mean_reward": 1.0, "std_reward": 0.0, "episodes": 1.0}, "the episodes that evaluate returned is 1.0"),
    ],
)
def test_evaluate_returns_numbers(found, words):
    """Bug: "a bug in rltrain" after the whole training."""
    with refused(words):
        checked.scores(CONFIG, found)


def test_the_numbers_of_an_evaluation_become_pythons():
    found = {"mean_reward": np.float32(2), "std_reward": 0, "episodes": np.int64(3), "more": [1]}
    right = checked.scores(CONFIG, found)
    assert right == {"mean_reward": 2.0, "std_reward": 0.0, "episodes": 3}
    assert [type(value) for value in right.values()] == [float, float, int]


STATE = {
    "w": np.array([1.0, np.nan]),
    "step": 3,
    "text": [1, None],
    "net": {"a": torch.ones(2), "half": torch.ones(2, dtype=torch.bfloat16)},
    "optimizer": {"state": {"0": {"exp_avg": torch.ones(2)}}, "param_groups": [{"fused": True}]},
}


@pytest.mark.parametrize(
    ("own", "whole", "lost"),
    [
        (STATE, True, ""),
        (STATE | {"step": 3.0, "text": (1, None), "w": np.array([1, np.nan], np.float32), "more": 1}, True, ""),
        (STATE | {"optimizer": STATE["optimizer"] | {"param_groups": [{"fused": None}]}}, True, ""),
        (STATE | {"w": np.array([1.0, 2.0])}, True, "w"),
        (STATE | {"w": np.array([1.0])}, True, "w"),
        (STATE | {"w": None}, True, "w"),
        (STATE | {"step": 4}, True, "step"),
        (STATE | {"net": STATE["net"] | {"a": torch.zeros(2)}}, True, "net/a"),
        (STATE | {"net": 3}, True, "net"),
        (STATE | {"optimizer": {"state": {}, "param_groups": []}}, True, "optimizer/state/0"),
        # A checkpoint makes texts of names that are numbers.
        (STATE | {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}}, True, ""),
        (STATE | {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}, False, "optimizer/state/0/exp_avg"),
        ({"w": STATE["w"]}, True, "step"),
        ({"w": STATE["w"]}, False, ""),  # an agent that is evaluated needs no optimizer
    ],
)
def test_a_state_that_was_loaded_is_compared_by_value(own, whole, lost):
    assert restored.lost(own, STATE, whole) == lost


def test_a_number_that_was_rounded_as_it_was_loaded_is_restored():
    """Bug: "has not restored", for float32 weights that a network in bf16 had taken."""
    own, loaded = {"w": torch.full((2,), 0.1, dtype=torch.bfloat16)}, {"w": torch.full((2,), 0.1)}
    assert restored.lost(own, loaded) == ""
    assert restored.lost({"w": np.full(2, 0.1, np.float16)}, {"w": np.full(2, 0.1)}) == ""
    assert restored.lost(own, {"w": torch.full((2,), 0.2)}) == "w"


class Forgetful:
    def __init__(self, w=1.0, methods=()):
        self.w = w

    def policy(self, obs, greedy, generator):
        raise NotImplementedError

    def state_dict(self):
        return {"w": self.w}

    def load_state_dict(self, state):
        pass


def test_a_part_that_does_not_restore_its_state_is_named():
    """Bug: `eval` scored the untrained agent, `resume` went on from it and said that it was exact."""
    checked.check_restored(CONFIG, "agent", Forgetful(), {"w": 1.0})
    with refused("load_state_dict of its agent has not restored 'w'"):
        checked.check_restored(CONFIG, "agent", Forgetful(), {"w": 2.0})


def test_a_part_may_hold_a_clock():
    """Bug: "has not restored 'trained_s'", which was restored, and had gone on since."""
    part = Forgetful()
    part.state_dict = lambda: {"trained_s": time.perf_counter()}
    checked.check_restored(CONFIG, "agent", part, {"trained_s": 5.0})


def test_a_part_has_its_methods_with_their_arguments_and_a_name_of_its_own():
    """Bugs: "a bug in rltrain" in `eval`; a part called `generators` was replaced by the random streams."""
    checked.check_part(CONFIG, "agent", Forgetful())
    other = Forgetful()
    other.policy = lambda obs: obs
    with refused(r"\(Forgetful\) has no policy\(obs, greedy, generator\)"):
        checked.check_part(CONFIG, "agent", other)
    with refused(r"make_agent returned \(NoneType\) has no policy, state_dict, load_state_dict"):
        checked.check_part(CONFIG, "agent", None, "that make_agent returned")
    with refused("has the name 'generators', which rltrain uses itself"):
        checked.check_part(CONFIG, "generators", Forgetful())
