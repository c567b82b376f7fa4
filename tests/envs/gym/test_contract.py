"""What an environment returns is what it declared; what is not ends with code 4 and the environment's name."""

import asyncio
import builtins
import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing
from in_time import fails_after
from small_runs import small
from wayward import Clinging, single

from rltrain.app import sweep
from rltrain.config import plugin_modules
from rltrain.config.algorithms import A2CConfig
from rltrain.config.environments import GymConfig
from rltrain.config.run import RunConfig
from rltrain.config.user_code import place_of
from rltrain.envs import patience, registry
from rltrain.envs.gym import contract, guard
from rltrain.envs.gym.contract import ContractBreach
from rltrain.envs.gym.guard import environment_code
from rltrain.errors import ConfigError, EnvironmentFailure, OutOfMemory
from rltrain.run.evaluation import Interrupted, play_episodes
from rltrain.system import global_random, out_of_memory, process, signals, terminal

ID = "wayward:Wayward-v0"


@pytest.fixture(autouse=True)
def _importable(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


def wayward(how, at=0, **fields):
    return GymConfig("x", id=ID, kwargs={"how": how, "at": at}, **fields)


def play(config, num_steps=3, num_envs=2):
    pool = registry.make_pool(config, num_envs)
    try:
        obs = [pool.reset(0)]
        steps = [pool.step(np.zeros(num_envs, np.int64)) for _ in range(num_steps)]
        return obs + [step.next_obs for step in steps], steps
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("bare reset", r"reset returned an array of shape \(3,\).*must return \(observation, info\)"),
        ("reset without info", "info of type NoneType"),
        ("reset of three", "reset returned 3 values"),
        ("reset of numbers", "info of type float"),
        ("four", "step returned 4 values, but must return .*truncated, info"),
        ("short", r"observation of shape \(1,\), but must return shape \(3,\)"),
        ("long", r"observation of shape \(1, 3\)"),
        ("number", r"observation of shape \(\)"),
        ("text", "observation of type str"),
        ("ragged", "no array"),
        ("nothing", "observation of type NoneType"),
        ("objects", "observation of type array of object"),
        ("masked", "a masked array"),
        ("byte fraction", "float64 with the number 0.5, but must return uint8: whole numbers from 0 to 255"),
        ("byte above", "number 256"),
        ("byte below", "number -1"),
        ("byte nan", "number nan"),
        ("state zero", r"state 0, but must return Discrete\(4, start=1\): 1 to 4"),
        ("state above", "state 5"),
        ("state fraction", "state 1.5"),
        ("state array", r"state an array of shape \(1,\)"),
        ("reward array", r"reward an array of shape \(1,\).*one number"),
        ("reward text", "reward 1.0 of type str"),
        ("reward nothing", "reward None"),
        ("reward pair", "reward 2 values"),
        ("reward complex", "reward 1j"),
        ("flag", "terminated=.*of type dict, but must return true or false"),
    ],
)
def test_a_breach_names_the_environment_what_it_returned_and_what_it_declared(how, words):
    """Bugs: a number broadcast to a vector, a fraction cut to a byte, a dict taken for true; all in silence. The second
    breach comes long after the first steps."""
    with pytest.raises(ContractBreach, match=f"environment '{ID}': .*{words}") as caught:
        play(wayward(how))
    assert caught.value.exit_code == 4
    if "reset" not in how:
        with pytest.raises(ContractBreach, match=words):
            play(wayward(how, at=contract.FIRST_STEPS + 31), contract.FIRST_STEPS + contract.SAMPLED)


@pytest.mark.parametrize("kind", ["float", "state", "byte"])
def test_what_is_harmless_is_taken(kind):
    """Bug: an environment refused for an int in place of a float, or a float64 in place of a float32."""
    config = GymConfig("x", id="wayward:Sloppy-v0", kwargs={"kind": kind})
    obs, steps = play(config, 20)
    seen = {
        "float": [[1, 2], [0.5, 1], [3, 4], [1, 2], [1, 2]],
        "state": [0, 1, 2, 0, 1],
        "byte": [255, 7, 0, 255, 7],
    }[kind]
    for frame, wanted in zip(obs, seen, strict=False):
        assert (frame[0] == (wanted if kind != "float" else np.array(wanted, np.float32))).all()
    assert [step.reward[0] for step in steps][1:4] == [2.0, 1.0, 1.0]
    assert steps[7].terminated.all() and not steps[7].truncated.any()


def test_numbers_outside_of_the_bounds_are_told_once(capsys, monkeypatch, request):
    """Bug: a hundred warnings, or none."""
    config = GymConfig("x", id="counter:Buttons-v0")
    monkeypatch.syspath_prepend(str(request.path.parents[1]))
    pool = registry.make_pool(config, 2)
    pool.reset(0)
    for number in (9, 10, 11):
        pool._inner[0].step = lambda action, number=number: (np.full(3, number, np.float32), 0.0, False, False, {})
        pool.step(np.zeros((2, 3), np.int64))
    err = capsys.readouterr().err
    assert err.count("outside of [-9.0, 9.0]") == 1 and "10.0 at index [0]" in err


@pytest.mark.parametrize(
    ("dtype", "number", "words"),
    [
        ("f8", 1.7e9, "1700000001.0 in an observation; networks compute in float32, where the next number is 128 away"),
        ("i4", -1.7e9, "-1699999999 in an observation; networks compute in float32, where the next number is 128 away"),
        ("u4", 1.7e9, "where the next number is 128 away"),
        ("f4", 1.7e9, ""),
        ("f8", 9, ""),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_told(dtype, number, words, capsys):
    """Bug: seconds since 1970 trained in silence, all of two minutes the same."""
    space = spaces.Box(0, 1, (2,), dtype)
    env = SimpleNamespace(observation_space=space, action_space=None, unwrapped=None)
    checked = contract.Contract(env, "clock:Clock-v0")
    for _ in range(2):
        checked.reset((np.array([0, number + 1]).astype(dtype), {}))
    err = "".join(line for line in capsys.readouterr().err.splitlines() if "outside of" not in line)
    assert err.count("warning") == bool(words) and words in err


def test_memory_that_an_environment_wants_is_told_with_its_name():
    """Bug: "use a smaller network" for an environment's own table."""
    with pytest.raises(OutOfMemory, match="environment 'x': out of memory") as caught, environment_code("x"):
        np.zeros(10**15)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(("high", "num_warnings"), [(1, 1), (31, 1), (32, 0), (255, 0)])
def test_pictures_of_small_numbers_are_told(high, num_warnings, capsys):
    """Bug: planes of 0 and 1, which the networks divide by 255, train at a crawl in silence."""
    env = SimpleNamespace(observation_space=spaces.Box(0, high, (9, 9, 4), np.uint8), action_space=None)
    env.unwrapped = env
    for _ in range(2):
        contract.Contract(env, ID)
    assert capsys.readouterr().err.count("networks divide pixels by 255") == num_warnings


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing space", r"has no attribute 'action_space'"),
        ("strange space", r"observation_space \(3,\), which is no gymnasium space"),
        ("changing space", "another observation_space each time"),
        ("constructor", r"raised FileNotFoundError: prices.csv \(.*wayward.py, line \d+, in __init__\)"),
        ("import", r"raised ImportError: cannot import name 'nothing' from 'os'.*wayward.py, line \d+, in __init__"),
        ("exit constructor", r"raised SystemExit: 0 \(.*wayward.py"),
        ("sys.exit", r"raised SystemExit: 0 \(.*wayward.py, line \d+, in step\)"),
        ("cancelled", r"raised CancelledError: too late \(.*wayward.py, line \d+, in step\)"),
        ("generator", r"raised GeneratorExit \(.*wayward.py, line \d+, in step\)"),
        ("mute", r"raised Mute \(.*wayward.py, line \d+, in step\)"),
        ("os._exit", r"the environment called os._exit\(0\)"),
    ],
)
def test_an_environments_own_error_carries_its_name_and_place(how, words):
    """Bugs: a traceback and "a bug of rltrain"; a run that ends with code 0 in the middle."""
    with pytest.raises(EnvironmentFailure, match=words) as caught:
        play(wayward(how))
    assert ID in str(caught.value)
    if "space" in how and how != "changing space":
        with pytest.raises(EnvironmentFailure, match=words):
            registry.spaces(wayward(how))


@pytest.mark.parametrize(
    ("how", "words"),
    [("late actions", r"Discrete\(4\), not Discrete\(2\)"), ("more actions in place", r"Discrete\(4\), not "),
     ("late bounds", r"Box\(-8.0, 8.0, .*, not Box\(-1.0, 1.0, ")],
)  # fmt: skip
def test_actions_that_a_reset_changes_are_told_with_both_spaces(how, words):
    """Bug: two actions of four are trained, or forces of 1 instead of 8, and the score is that of another game."""
    with pytest.raises(ContractBreach, match=f"another action_space after a reset: {words}"):
        play(wayward(how), num_steps=11)
    if how != "more actions in place":
        with pytest.raises(ContractBreach, match=words):
            registry.make_viewer(wayward(how)).reset(0)


def test_an_environment_that_is_the_same_each_time_is_refused(command):
    """Bug: a pool of two stepped one game twice, and an evaluation reset the game of the training."""
    config = GymConfig("x", id="wayward:Single-v0")
    words = "'wayward:Single-v0' is the same object each time"
    with pytest.raises(EnvironmentFailure, match=words):
        registry.make_pool(config, 2)
    args = [*small("a2c", "gym"), "num_envs=1", "env.id=wayward:Single-v0", "total_steps=30", "eval_every_steps=0"]
    single.cache_clear()
    outcome = command(*args)
    assert outcome.code == 4 and words in outcome.last_line, outcome.err
    assert outcome.json("status.json")["step"] == 0, "before the training, not at its end"
    outcome = command(*args, "env.workers=1")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("what", "words"), [("observations", "observe other"), ("rewards", "score normalised rewards")]
)
def test_statistics_that_die_with_the_environment_are_told_once(what, words, capfd):
    """Bug: 10 of 10 points in the training and 5, chance, in the evaluation, without a word."""
    for workers in (0, 0, 1):
        config = GymConfig("x", id="wayward:Normalised-v0", kwargs={"what": what}, workers=workers)
        play(config, num_envs=1)
    err = capfd.readouterr().err
    assert err.count("warning") == err.count(f"evaluations and resumed runs {words}") == 1, err


def test_actions_without_a_choice_are_a_setting():
    """Bug: a traceback of torch.stack and "a bug in rltrain"."""
    with pytest.raises(ConfigError, match=r"not supported: MultiDiscrete\(\[\]\) without a choice"):
        registry.spaces(wayward("no choice"))


def test_ctrl_c_that_nobody_pressed_is_the_environments_own_error(monkeypatch):
    """Bug: KeyboardInterrupt raised by an environment was told as "stopped by Ctrl-C before the run began"."""
    monkeypatch.setattr(signals, "interrupts", [])
    before = signal.signal(signal.SIGINT, signals.interrupt)
    try:
        with pytest.raises(EnvironmentFailure, match="'x' raised KeyboardInterrupt"), environment_code("x"):
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), environment_code("x"):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_text_of_an_error_is_shortened():
    """Bug: an environment that quotes its data in an error made a line of megabytes."""
    with pytest.raises(EnvironmentFailure) as caught, environment_code("x"):
        raise ValueError("data " * 1_000_000)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", [FileNotFoundError, ImportError, ValueError])
def test_an_error_that_is_its_own_cause_is_the_environments_own(kind):
    """Bugs: RecursionError, told as a bug of rltrain, for `raise error from error`; a sweep that never ends."""
    first, second = kind("no map"), kind("no level")
    first.__cause__, second.__cause__ = second, first
    with fails_after(20):
        for error in (first, kind("no map")):
            error.__cause__ = error.__cause__ or error
            with pytest.raises(EnvironmentFailure, match=rf"'x' raised {kind.__name__}: no map"), environment_code("x"):
                raise error
            assert not out_of_memory.is_shortage(error) and place_of(error.with_traceback(None)) == ""
            sweep.let_go(error)


def test_a_breach_in_a_worker_ends_the_run_at_once():
    """Bug: ten workers replaced for a fault that each of them has, and code 0 if the run is short."""
    with pytest.raises(EnvironmentFailure, match="step returned 4 values") as caught:
        play(wayward("four", workers=1, max_restarts=5))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("how", ["worker bounds", "worker shape"])
def test_workers_have_the_spaces_of_the_trainer(how):
    """Bugs: forces scaled to other bounds in the workers, without a word; "a bug in rltrain" for another shape."""
    words = (
        r"\[5\] and .* was made for .*\[3\]" if "shape" in how else r"Box\(-2.0, 2.0.* was made for .*Box\(-1.0, 1.0"
    )
    with pytest.raises(EnvironmentFailure, match=words) as caught:
        play(wayward(how, workers=1))
    assert caught.value.exit_code == 4


def test_workers_agree_on_the_order_of_a_set(monkeypatch):
    """Bug: actions that an environment takes from a set had another order in each worker: two games in one training."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    process.prepare()
    _, steps = play(wayward("hash", workers=2))
    assert steps[0].reward[0] == steps[0].reward[1] != 1.0


def test_a_plugin_that_cannot_be_imported_in_a_worker_is_named(monkeypatch, capfd):
    """Bug: tracebacks of all workers, three replacements each, and a last line without the reason."""
    monkeypatch.setattr(plugin_modules, "LOADED", ["imported_in_the_trainer_only"])
    words = "in a worker process, the plugin 'imported_in_the_trainer_only' cannot be imported"
    pool = registry.make_pool(wayward("", workers=1), 1)
    with contextlib.closing(pool), pytest.raises(ConfigError, match=words):
        pool.reset(0)
    assert "Traceback" not in capfd.readouterr().err


def test_a_failing_close_is_a_warning(command, capfd):
    args = [*small("ppo", "gym"), f"env.id={ID}", "env.kwargs={how:close}", "total_steps=64", "eval_every_steps=0"]
    outcome = command(*args)
    assert outcome.code == 0 and "raised AttributeError: never opened" in outcome.err
    for how, words in (("render", "no display"), ("render nothing", "shape ()")):
        with pytest.raises(EnvironmentFailure) as caught:
            registry.make_viewer(wayward(how)).reset(0)
        assert words in str(caught.value) and ID in str(caught.value)


def test_constructors_draw_the_same_with_workers_and_without():
    """Bug: with workers all environments had one map, as each worker's generators had the same seed."""

    def worlds(workers, seed=3):
        global_random.seed(seed)
        pool = registry.make_pool(GymConfig("x", id="wayward:Sloppy-v0", kwargs={"kind": "world"}, workers=workers), 4)
        with contextlib.closing(pool):
            return pool.reset(seed)[:, 0].tolist()

    assert worlds(0) == worlds(2) == worlds(4) != worlds(4, seed=4)
    assert len(set(worlds(4))) == 4


@pytest.mark.parametrize("kind", ["float", "torch", "numba"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_reaches_the_global_generators_and_the_spaces(workers, kind):
    """Bug: seed=7 twice gives other episodes, as the environment draws from `random`, in its constructor too, from
    torch, or in code that numba has compiled."""

    def rewards(seed):
        global_random.seed(seed)  # as a run does before it makes its environments
        config = GymConfig("x", id="wayward:Sloppy-v0", kwargs={"kind": kind}, workers=workers)
        pool = registry.make_pool(config, 2)
        pool.reset(seed)
        found = [pool.step(np.zeros(2, np.int64)).reward.tolist() for _ in range(9)]
        pool.close()
        return found

    assert rewards(3) == rewards(3) != rewards(4)


@pytest.mark.parametrize(
    "by", ["constructor", "space of the constructor", "space of its own", "environment inside", "space inside"]
)
def test_a_seed_reaches_what_gymnasium_would_seed_itself(by):
    """Bug: seed=0 twice gives other episodes where a constructor draws from `np_random` or from a space, where a space
    is not the outermost one, or where an environment forgets to seed one that it holds."""

    def drawn(seed, workers=0):
        global_random.seed(seed)
        inside, kwargs = ("Inside", {}) if by == "space inside" else ("", {"by": by})
        config = GymConfig("x", id=f"drawn:Drawn{inside}-v0", kwargs=kwargs, workers=workers)
        with contextlib.closing(registry.make_pool(config, 3)) as pool:
            return pool.reset(seed)[:, 0].tolist()

    first = drawn(3)
    assert drawn(3) == first and len({*first, *drawn(4)}) == 6
    if by in ("space of its own", "space inside"):
        assert drawn(3, workers=2) == first


@pytest.mark.parametrize("kind", ["float", "torch", "numba"])
def test_an_evaluation_leaves_the_global_generators_as_they_were(kind):
    """Bug: training goes on with other numbers after an evaluation, so a run depends on how often it is evaluated."""
    states = []

    def policy(obs, greedy, generator):
        states.append(state())
        return np.zeros(len(obs), np.int64)

    def state():
        if kind == "torch":
            return torch.get_rng_state().numpy().tobytes()
        if kind == "numba":  # also the second number of a normal pair
            return tuple(global_random._states().numba)
        return random.getstate(), np.random.get_state()[2]

    config = RunConfig(algo=A2CConfig(), env=GymConfig("x", id="wayward:Sloppy-v0", kwargs={"kind": kind}))
    before = state()
    play_episodes(config, SimpleNamespace(policy=policy), 2, 0, True)
    assert len(set(states)) == len(states) > 1, "the control: the environment draws from them"
    assert state() == before


@pytest.mark.parametrize("how", ["other actions", "other shape"])
def test_an_evaluation_in_other_spaces_is_the_environments_fault(how, command, monkeypatch):
    """Bugs: seven actions in the evaluation, two in the training, scored in silence; "a bug in rltrain" for a shape."""
    import wayward as module

    monkeypatch.setattr(module.Wayward, "num_alike", 10**9)
    args = [*small("a2c", "gym"), f"env.id={ID}", f"env.kwargs={{how:{how}}}", "total_steps=30", "eval_every_steps=0"]
    before = module.Wayward.num_made
    assert command(*args).code == 0
    num_in_run = module.Wayward.num_made - before
    monkeypatch.setattr(module.Wayward, "num_alike", module.Wayward.num_made + 1)
    outcome = command("eval", "last", f"env.id={ID}")
    assert outcome.code == 4 and "but the agent was made for" in outcome.last_line, outcome.err
    monkeypatch.setattr(module.Wayward, "num_alike", module.Wayward.num_made + num_in_run - 1)
    outcome = command(*args)
    assert outcome.code == 4 and "but the agent was made for" in outcome.last_line, outcome.err
    assert ("Discrete(7)" if "actions" in how else "[5]") in outcome.last_line


def test_a_state_space_that_changes_in_place_is_held_to_what_it_was():
    """Bug: state 50 of 4 passed, as the space said 100 by then, and ended as an IndexError of ours."""
    pool = registry.make_pool(wayward("state"), 1)
    pool.reset(0)
    space = pool._envs[0].unwrapped.observation_space
    space.n, space.start = 100, 2
    pool.step(np.zeros(1, np.int64))  # state 1
    pool._inner[0].step = lambda action: (50, 0.0, False, False, {})
    with pytest.raises(ContractBreach, match=r"state 50, but must return Discrete\(4, start=1\): 1 to 4"):
        pool.step(np.zeros(1, np.int64))


@pytest.mark.parametrize("how", ["deletes the folder", "no gradients"])
def test_what_an_environment_changes_in_the_process_is_no_bug_of_ours(how, command, tmp_path):
    """Bugs: a traceback and "a bug in rltrain", from os.getcwd and from a loss without gradients."""
    import torch

    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    try:
        args = [*small("a2c", "gym"), f"env.id={ID}", f"env.kwargs={{how:{how}}}", "total_steps=30"]
        outcome = command(*args, f"run_dir={tmp_path}/runs")
    finally:
        os.chdir(tmp_path)
        torch.set_grad_enabled(True)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", ["open", "sorted"])
def test_a_function_of_python_that_an_environment_replaces_is_its_fault(name, command, monkeypatch, tmp_path):
    """Bug: a traceback of rltrain, and with `print` another one while an error was told."""
    monkeypatch.setattr(builtins, name, getattr(builtins, name))  # put back, whatever happens
    args = [*small("a2c", "gym"), f"env.id={ID}", f"env.kwargs={{how:replaces {name}}}", "total_steps=30"]
    outcome = command(*args, f"run_dir={tmp_path}/runs")
    assert outcome.code == 4, outcome.err
    assert f"a module of yours (wayward) changed Python's {name}, which ended in TypeError" in outcome.last_line
    monkeypatch.setattr(builtins, "print", None)
    assert "unknown command 'nonsense'" in command("nonsense").last_line


@pytest.mark.parametrize("name", ["sys.path", "recursion limit"])
def test_what_an_environment_takes_from_python_is_its_fault(name, command, monkeypatch, tmp_path):
    """Bug: a traceback of rltrain, as it could not import safetensors for the first checkpoint, or call a function."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in [module for module in sys.modules if module.partition(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, module)
    limit = sys.getrecursionlimit()
    args = [*small("a2c", "gym"), f"env.id={ID}", f"env.kwargs={{how:replaces {name}}}", "total_steps=30"]
    outcome = command(*args, f"run_dir={tmp_path}/runs")
    assert outcome.code == 4, outcome.err
    assert f"a module of yours (wayward) changed Python's {name}, which ended in" in outcome.last_line
    assert "Traceback" not in outcome.err
    assert sys.getrecursionlimit() == limit


def test_the_files_of_a_run_can_be_read_whatever_umask_an_environment_sets(command, tmp_path):
    """Bug: status.json and the checkpoints had no rights at all, also for the user."""
    umask = os.umask(0o022)
    try:
        args = [*small("a2c", "gym"), f"env.id={ID}", "env.kwargs={how:takes rights}", "total_steps=30"]
        outcome = command(*args, "checkpoint_every_steps=10", f"run_dir={tmp_path}/runs")
    finally:
        os.umask(umask)
    assert outcome.code == 0, outcome.err
    assert [path for path in outcome.folder.rglob("*") if path.stat().st_mode & 0o600 != 0o600] == []


def test_a_constructor_that_changes_the_directory_moves_no_files(command, tmp_path):
    """Bug: the run, the film and the exported network came to lie in the environment's own folder."""
    env = [f"env.id={ID}"]
    outcome = command(*small("a2c", "gym"), *env, "env.kwargs={how:changes directory}", "total_steps=30")
    assert outcome.code == 0, outcome.err
    assert outcome.folder.is_relative_to(tmp_path), outcome.folder
    for what, words in (("play", ["out=film.gif"]), ("export", ["format=torchscript", "out=net.pt"])):
        os.chdir(tmp_path)
        done = command(what, outcome.folder, *env, *words)
        assert done.code == 0 and done.out.splitlines()[-1] == words[-1].removeprefix("out="), done.err
        assert (tmp_path / done.out.splitlines()[-1]).exists()


@pytest.mark.parametrize("how", ["tee", "mutes"])
def test_a_stream_that_an_environment_replaces_is_used_with_care(how, command, monkeypatch):
    """Bugs: no attribute 'isatty', told as a bug of rltrain; code 1 without a word for None."""
    import wayward

    monkeypatch.setattr(wayward.Tee, "copy", [])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # put back, whatever happens
    monkeypatch.setattr(terminal, "_guarded", {})
    terminal.guard()  # as in a process of its own
    args = [*small("a2c", "gym"), f"env.id={ID}", f"env.kwargs={{how:{how}}}", "total_steps=30", "progress=true"]
    outcome = command(*args)
    assert outcome.code == 0 and "reached 10.00" in outcome.err, outcome.err
    assert ("reached 10.00" in "".join(wayward.Tee.copy)) is (how == "tee")


@pytest.mark.parametrize("algo", ["a2c", "dqn"])
def test_the_default_dtype_of_an_environment_is_its_own(algo, command, monkeypatch):
    """Bug: networks in float64 for observations in float32, told as a bug of rltrain."""
    import torch

    outcome = command(*small(algo, "gym"), f"env.id={ID}", "env.kwargs={how:float64}", "total_steps=100")
    assert outcome.code == 0 and torch.get_default_dtype() == torch.float32, outcome.err
    monkeypatch.setattr(guard, "_torch", {})
    with environment_code(ID):
        torch.set_default_dtype(torch.float64)
        with environment_code(ID):
            pass
        assert torch.get_default_dtype() == torch.float64, "its code goes on"
    assert (torch.get_default_dtype(), guard._torch) == (torch.float32, {ID: (torch.float64, None, {})})


def test_autocast_that_an_environment_leaves_on_is_its_own(monkeypatch):
    """Bug: the opponent of an environment computes between two steps with autocast, and so did updates and acting."""
    import torch

    monkeypatch.setattr(guard, "_torch", {})
    autocast = torch.autocast("cpu", torch.float16)
    with environment_code(ID):
        autocast.__enter__()
    assert not torch.is_autocast_enabled("cpu")
    with environment_code(ID):
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16, "its code goes on"
        autocast.__exit__(None, None, None)
    with environment_code(ID):
        assert not torch.is_autocast_enabled("cpu")
    assert guard._torch == {}
    with torch.autocast("cpu", torch.bfloat16):  # the one of a plugin's algorithm
        with environment_code(ID):
            torch.set_default_dtype(torch.float64)
        assert torch.is_autocast_enabled("cpu")
        with environment_code(ID):
            torch.set_default_dtype(torch.float32)
    with environment_code(ID):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("algo", ["a2c", "dqn"])
def test_the_default_device_of_an_environment_is_its_own(algo, command, monkeypatch):
    """Bug: networks on the device of the environment's simulator, told as a bug of rltrain."""
    import torch

    monkeypatch.setattr(guard, "_torch", {})
    outcome = command(*small(algo, "gym"), f"env.id={ID}", "env.kwargs={how:meta}", "total_steps=100")
    assert outcome.code == 0 and torch.get_default_device().type == "cpu", outcome.err


def test_the_folder_for_temporary_files_is_not_the_environments():
    """Bug: A3C could not start its workers, as an environment had removed the folder; told as a bug of rltrain."""
    before = tempfile.gettempdir()
    play(wayward("temporary folder"), num_envs=1)
    assert tempfile.tempdir == before and os.path.isdir(before)


@pytest.mark.parametrize("how", ["warnings as errors", "all warnings anew"])
def test_what_a_constructor_says_about_warnings_stays(how):
    """Bug: a step that catches NumPy's warnings as exceptions got none, and scored otherwise than in gymnasium."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        pool = registry.make_pool(wayward(how), 2)
        with pytest.raises(RuntimeWarning):
            warnings.warn("divide by zero encountered", RuntimeWarning, stacklevel=1)
        assert warnings.filters[1:] == (before if how == "warnings as errors" else [])
        pool.close()


def test_other_filters_of_warnings_stay_and_nothing_is_shown_while_an_environment_is_made(recwarn):
    before = list(warnings.filters)
    registry.make_pool(wayward("warnings as errors"), 1).close()
    assert [each for each in warnings.filters if each in before] == before and not recwarn.list


@pytest.mark.parametrize("how", ["handler in C", "blocks signals"])
def test_an_evaluation_answers_a_signal_whatever_the_environment_does_to_it(how):
    """Bug: SIGTERM was never answered, as Python does not know of handlers that a library sets in C."""
    received = []

    def policy(obs, greedy, generator):
        signal.raise_signal(signal.SIGTERM)
        return np.zeros(len(obs), np.int64)

    config = RunConfig(algo=A2CConfig(), env=wayward(how))
    try:
        with signals.answering(lambda number, frame: received.append(number)), pytest.raises(Interrupted):
            play_episodes(config, SimpleNamespace(policy=policy), 1, 0, True, lambda num_done: bool(received))
    finally:
        faulthandler.unregister(signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    assert received == [signal.SIGTERM]


def test_the_ends_of_workers_are_told_whatever_the_environment_ignores():
    """Bug: "Cannot close a process while it is still running", a bug of rltrain, with env.workers."""
    before = signal.getsignal(signal.SIGCHLD)
    for answering in (contextlib.nullcontext(), signals.answering(lambda number, frame: None)):
        with answering:
            registry.spaces(wayward("ignores its children"))
            assert signal.getsignal(signal.SIGCHLD) == before != signal.SIG_IGN


def test_children_that_a_library_ignores_in_c_are_told_again():
    """Bug: Python's record of the handler said that nothing was ignored."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    try:
        libc.signal(signal.SIGCHLD, int(signal.SIG_IGN))
        signals.keep_process()
        status = Path("/proc/self/status").read_text()
        (ignored,) = [line for line in status.splitlines() if line.startswith("SigIgn")]
        assert not int(ignored.split()[1], 16) >> (signal.SIGCHLD - 1) & 1
    finally:
        libc.signal(signal.SIGCHLD, int(signal.SIG_DFL))


def test_a_handler_for_the_ends_of_children_stays():
    """Bug: an environment whose solver says by SIGCHLD that it is ready scored -5 instead of 5."""
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
    try:
        handler = signal.getsignal(signal.SIGCHLD)
        registry.spaces(GymConfig("x", id="CartPole-v1"))
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("is_stopping", [True, False])
def test_an_environment_that_fails_while_the_run_stops_is_left(is_stopping, monkeypatch, capsys):
    """Bug: Ctrl-C also ended the simulator of an environment, so the run failed and saved nothing."""
    pool = registry.make_pool(GymConfig("x", id="CartPole-v1"), 2)
    pool.reset(0)
    monkeypatch.setattr(type(pool._inner[1].unwrapped), "step", lambda self, action: 1 // 0)
    monkeypatch.setattr(patience, "_stopping", is_stopping)
    if not is_stopping:
        with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
            pool.step(np.zeros(2, np.int64))
        return
    for _ in range(2):
        assert pool.step(np.zeros(2, np.int64)).truncated.all()
    err = capsys.readouterr().err
    assert err.count("ZeroDivisionError") == err.count("the run stops without it") == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_each_environment_gets_a_copy_of_the_kwargs(workers):
    """Bug: the environment that is made to look at its spaces took the reward away from all that train."""
    config = GymConfig("x", id="wayward:Taking-v0", kwargs={"options": {"gain": 100.0}}, workers=workers)
    registry.spaces(config)
    _, steps = play(config)
    assert steps[0].reward.tolist() == [100.0, 100.0] and config.kwargs == {"options": {"gain": 100.0}}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_can_end_the_programs_that_it_starts(workers):
    """Bugs: a worker ignored SIGTERM, and so did the simulators that it started: `terminate` did nothing. What was
    forked in a run, as by multiprocessing, had the run's own handler, which saves instead of ending."""
    with signals.answering(lambda number, frame: None), fails_after(120):
        play(wayward("starts a program", workers=workers), num_envs=1)


def test_a_forked_process_can_be_ended_at_once():
    """Bug: a signal that came before the child had dropped rltrain's handler was lost, and the child never ended."""
    with signals.answering(lambda number, frame: None), fails_after(20):
        for _ in range(30):
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(3)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize("module", ["rltrain.run.run", "mine"])
def test_a_forked_process_has_no_handler_of_rltrains(module):
    """Bug: it answers SIGTERM as the trainer does. A handler of the environment's own stays."""

    def handler(number, frame):
        pass

    with signals.answering(lambda number, frame: None):
        if module == "mine":
            signal.signal(signal.SIGTERM, handler)
        installed = signal.getsignal(signal.SIGTERM)
        child = os.fork()
        if not child:
            kept = signal.getsignal(signal.SIGTERM) is installed
            os._exit(3 if kept else 4)
        _, status = os.waitpid(child, 0)
        assert signal.getsignal(signal.SIGTERM) is installed
    assert os.waitstatus_to_exitcode(status) == (4 if module.startswith("rltrain") else 3)


def test_what_ends_a_task_of_asyncio_ends_no_sweep(command, tmp_path, monkeypatch):
    """Bugs: a raw traceback for an error that is no Exception, and the jobs after it were never begun."""
    (tmp_path / "cancelling.py").write_text("import asyncio\nraise asyncio.CancelledError('x')\n")
    outcome = command("plugins=[cancelling]", *small("a2c", "cartpole"))
    assert outcome.code == 2 and "cannot be imported: CancelledError: x" in outcome.last_line, outcome.err
    job = sweep.Job(0, "00", [], [], {}, {})

    def cancelled(*given):
        raise asyncio.CancelledError("y")

    monkeypatch.setattr(sweep, "_train", cancelled)
    sweep.attempt(sweep.Sweep(tmp_path, [job]), job)
    assert sweep.state_in(tmp_path / "00") == "failed"


def test_an_environment_with_a_destructor_is_closed_but_never_destroyed(monkeypatch):
    """Bug: a run waits for ever in a `__del__`, which nothing can end, such as one that calls a `close` that hangs."""
    monkeypatch.setattr(guard.process, "undead", [])
    for env in (Clinging(), OrderEnforcing(Clinging())):
        guard.close(env, "x")
    del env
    gc.collect()
    assert Clinging.ends == 0 and len(guard.process.undead) == 2


def test_the_child_of_an_environment_that_forks_does_not_train(tmp_path):
    """Bug: the child returned from `reset` too, and two trainers wrote to one run folder."""
    pool = registry.make_pool(wayward("forks"), 1)
    trainer = os.getpid()
    pool.reset(0)
    if os.getpid() != trainer:  # pragma: no cover (the bug)
        (tmp_path / "child").touch()
        guard.process.exit_now(0)
    assert os.waitpid(pool._envs[0].unwrapped.child, 0)[1] == 0
    assert not (tmp_path / "child").exists()


def test_a_thread_that_ends_the_process_is_told(tmp_path):
    """Bug: code 0 in the middle of a run, without a word, as another thread than the trainer's called `os._exit`."""
    code = (
        "import os, threading, time\nfrom rltrain.envs.gym import guard\n"
        "threading.Timer(0, lambda: os._exit(0)).start()\ntime.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 4 and "a thread called os._exit(0)" in done.stderr


def test_the_status_of_a_run_that_a_thread_ends_says_so(command, monkeypatch, tmp_path):
    """Bug: status.json says "running" for good."""
    seen = []

    def exit_now(code):
        status = json.loads((tmp_path / "runs" / "latest" / "status.json").read_text())
        seen.append((code, status["exit_code"], status["state"], status["reason"]))
        raise SystemExit

    monkeypatch.setattr(guard.process, "exit_now", exit_now)
    args = [*small("a2c", "gym"), f"env.id={ID}", "env.kwargs={how:thread exit,at:5}", "total_steps=30"]
    command(*args, "eval_every_steps=0", f"run_dir={tmp_path}/runs")
    assert seen[0][:3] == (4, 4, "failed") and "a thread called os._exit(0)" in seen[0][3]
    assert guard.process.last_words == []


def test_a_signal_handler_of_an_environment_ends_no_run_in_silence(monkeypatch):
    """Bug: code 0 in the middle of a run, if the handler called `os._exit` while rltrain computed."""
    monkeypatch.setattr(guard.process, "last_words", [print])
    monkeypatch.setattr(guard.process, "exit_now", lambda code: pytest.fail("it ends the process"))
    before = signal.signal(signal.SIGVTALRM, lambda *given: os._exit(0))
    try:
        with pytest.raises(guard.Exited, match=r"os._exit\(0\)"):
            signal.raise_signal(signal.SIGVTALRM)
    finally:
        signal.signal(signal.SIGVTALRM, before)


def test_a_plugin_that_raises_is_named_with_its_place(command, tmp_path):
    """Bug: "a bug of rltrain" for an error in the user's algorithm; code 0 for its `sys.exit(0)`."""
    for name, wrong in (("raising_parts", "raise KeyError('lost')"), ("leaving_parts", "sys.exit(0)")):
        (tmp_path / f"{name}.py").write_text(
            "import sys\nfrom dataclasses import dataclass\n"
            "from rltrain import plugins\nfrom rltrain.algos.ppo import make_agent\n"
            "from rltrain.config.algorithms import PPOConfig\n"
            f"@dataclass\nclass Mine(PPOConfig):\n    name: str = '{name}'\n"
            f"def train(config, run):\n    {wrong}\n"
            "plugins.register_algorithm(Mine)\n"
        )
        outcome = command(f"plugins=[{name}]", f"algo={name}", "env=cartpole", "total_steps=64", "progress=false")
        assert outcome.code == 4, outcome.err
        assert (
            f"your module '{name}' raised" in outcome.last_line and f"{name}.py, line 10, in train" in outcome.last_line
        )
        assert outcome.json("status.json")["exit_code"] == 4


def test_another_bit_generator_of_numpy_is_put_back():
    """Bug: "state must be for a PCG64 RNG", a bug in rltrain, after an evaluation whose environment had set one."""
    ours, before = np.random.get_bit_generator(), np.random.get_state(legacy=False)
    try:
        wanted = np.random.random(3)
        np.random.set_state(before)
        with global_random.preserved():
            np.random.set_bit_generator(np.random.PCG64(1))
            with global_random.preserved():
                global_random.seed(3)
                inside = np.random.random()
            global_random.seed(3)
            assert np.random.random() == inside, "the environment's own is seeded, too"
        assert (np.random.random(3) == wanted).all()
    finally:
        np.random.set_bit_generator(ours)


@pytest.mark.parametrize("where", ["inside", "outside", "at the end"])
def test_c_code_of_an_environment_that_ends_the_process_is_told(where):
    """Bug: Fortran's STOP, or a simulator without a licence, ended a training with code 0 and without a word."""
    code = (
        "import ctypes, sys; from rltrain.envs.gym import guard; leave = ctypes.CDLL(None).exit\n"
        "with guard.environment_code('Mine-v0'):\n    if sys.argv[1] == 'inside': leave(0)\n"
        "if sys.argv[1] == 'outside': leave(3)\nprint('all is done')"
    )
    done = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, timeout=60)
    assert done.returncode == {"inside": 4, "outside": 3, "at the end": 0}[where], done.stderr
    assert ("C code of the environment" in done.stderr) == (where == "inside")
    assert done.stdout == ("all is done\n" if where == "at the end" else "")
