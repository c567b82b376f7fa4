"""A saved configuration imports nothing: a module that it names is imported where this command line names it too."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import gymnasium
import pytest
import yaml
from small_runs import small

MODULE = """
from pathlib import Path
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
Path(__file__).with_name("it ran").touch()
gymnasium.register("Planted-v0", CartPoleEnv, max_episode_steps=20)
"""


def forget():
    """As in a process of its own."""
    sys.modules.pop("planted", None)
    gymnasium.registry.pop("Planted-v0", None)


@pytest.fixture
def planted(command, tmp_path, monkeypatch):
    """A run folder whose configuration names a module that leaves a sign when it is imported."""
    (tmp_path / "planted.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    run = command(*small("ppo", "gym"), "env.id=planted:Planted-v0", "total_steps=64", "eval_every_steps=0").folder
    forget()
    Path("it ran").unlink()
    yield run
    forget()


def test_a_module_of_ours_needs_no_naming(command):
    assert command("algo=q_learning", "env=maze", "total_steps=60", "progress=false").code == 0
    outcome = command("eval", "last", "episodes=1")
    assert outcome.code == 0, outcome.err


COMMANDS = [("resume", "total_steps=128"), ("eval", "episodes=1"), ("play", "video=true"), ("export", "format=pt2")]


@pytest.mark.parametrize("argv", COMMANDS, ids=[argv[0] for argv in COMMANDS])
def test_a_module_of_a_saved_configuration_is_not_imported_unless_it_is_named(argv, planted, command):
    name, *rest = argv
    outcome = command(name, planted, *rest)
    assert outcome.code == 2, outcome.err
    assert "would import the module 'planted'; env.id; " in outcome.last_line
    assert outcome.last_line.endswith("add env.id=planted:Planted-v0")
    outcome = command(name, planted, *rest, "env.id=CartPole-v1")
    assert outcome.code == 2, outcome.err
    assert not Path("it ran").exists()
    outcome = command(name, planted, *rest, "env.id=planted:Planted-v0")
    assert outcome.code == 0, outcome.err
    assert Path("it ran").exists(), "the control: named, it is imported"


@pytest.mark.parametrize("argv", COMMANDS, ids=[argv[0] for argv in COMMANDS])
def test_an_id_whose_kwargs_name_a_module_is_named_again(argv, command):
    """Gymnasium's wrappers of the older gym import the module in `env.kwargs.env_id=evil:X` if shimmy is installed."""
    run = command(*small("ppo", "cartpole"), "total_steps=64", "eval_every_steps=0").folder
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("id: CartPole-v1", "id: GymV26Environment-v0"))
    name, *rest = argv
    outcome = command(name, run, *rest)
    assert outcome.code == 2 and outcome.last_line.endswith("add env.id=GymV26Environment-v0"), outcome.err
    outcome = command(name, run, *rest, "env.id=GymV26Environment-v0")
    assert outcome.code in (3, 4) and "add env.id" not in outcome.last_line, "the control: named, gymnasium makes it"


def test_what_a_resume_changed_is_looked_at_too(planted, command):
    (planted / "config.yaml").rename(planted / "config.resume-1.yaml")
    values = yaml.safe_load((planted / "config.resume-1.yaml").read_text())
    values["env"]["id"] = "CartPole-v1"
    (planted / "config.yaml").write_text(yaml.safe_dump(values))
    assert command("resume", planted, "total_steps=128").code == 2
    assert not Path("it ran").exists()


def test_commands_that_only_read_import_nothing(planted, command):
    assert command("runs").code == 0
    command("plot", planted, "metric=rollout/ep_rew_mean")
    assert not Path("it ran").exists()


def test_the_command_that_a_stopped_run_prints_resumes_it(command, tmp_path, monkeypatch, stop_at):
    """Bug: it did not name the module again, and ended with code 2."""
    (tmp_path / "planted.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    stop_at(32)
    stopped = command(*small("ppo", "gym"), "env.id=planted:Planted-v0", "total_steps=128", "eval_every_steps=0")
    assert stopped.code == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(stopped.last_line.partition("resume with: rltrain ")[2])
    forget()
    assert command(*words).code == 0
    forget()


@pytest.mark.parametrize(
    ("runtime", "key"),
    [
        ({"name": "ray", "address": "127.0.0.1:1"}, "runtime.address"),
        ({"name": "torchrun", "rendezvous": "127.0.0.1:1", "nodes": 2}, "runtime.rendezvous"),
        ({"name": "torchrun", "rendezvous": "127.0.0.1:1"}, "runtime.rendezvous"),
    ],
)
def test_a_saved_address_is_not_joined_unless_it_is_named(runtime, key, command, monkeypatch):
    """Bug: `resume` of somebody else's run joined the cluster that it named, which then sends code to run."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it connects"))
    plain = [*small("q_learning", "maze"), "total_steps=60"]
    run = command(*plain).folder
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"runtime": runtime}))
    for words in (["resume", run, "total_steps=90"], ["reproduce", run], [f"config={run}"]):
        outcome = command(*words)
        assert outcome.code == 2, outcome.err
        assert f"would join other processes at '127.0.0.1:1'; {key}; " in outcome.last_line
        named = command(*words, f"{key}=127.0.0.1:1")
        assert "would join" not in named.err, "the control: named, it goes on"
    assert command("eval", run, "episodes=1").code == 0, "which needs no other process"
    assert command("resume", run, "total_steps=90", "runtime=local").code == 0


def test_a_saved_sweep_joins_nothing_either(command, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it connects"))
    plain = [*small("q_learning", "maze"), "total_steps=60"]
    assert command("-m", *plain, "seed=0,1").code == 0
    sweep = max(Path("runs/sweeps").iterdir())
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["jobs"][1]["config"]["runtime"] = {"name": "ray", "address": "127.0.0.1:1"}
    del plan["digest"]  # whoever made the plan can make one that is right, too
    shutil.rmtree(sweep / plan["jobs"][1]["folder"])
    (sweep / "sweep.json").write_text(json.dumps(plan))
    outcome = command("resume", sweep)
    assert outcome.code == 1 and "a job of a sweep is one process" in outcome.err, outcome.err


def test_a_job_of_a_saved_sweep_imports_nothing_that_the_plan_does_not_name(command, tmp_path, monkeypatch):
    """Bug: `resume SWEEP` looked at the plan, and a job's own config.yaml named a module of the folder."""
    assert command("-m", *small("q_learning", "maze"), "total_steps=60", "seed=0,1").code == 0
    sweep = max(Path("runs/sweeps").iterdir())
    job = next(sweep.glob("*seed-1"))
    (job / "result.json").unlink()
    config = yaml.safe_load((job / "config.yaml").read_text())
    evil = yaml.safe_dump(config | {"env": config["env"] | {"id": "evil_module:X-v0"}})
    (job / "config.resume-1.yaml").write_text(evil)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it is imported')")
    monkeypatch.syspath_prepend(tmp_path)
    outcome = command("resume", sweep)
    assert outcome.code == 1 and "evil_module" not in sys.modules, outcome.err
    assert "the job's settings have env.id=evil_module:X-v0, and the plan of the sweep has env.id=" in outcome.err
    (job / "config.resume-1.yaml").unlink()
    (job / "config.yaml").write_text(evil)
    outcome = command("resume", sweep)
    assert outcome.code == 3 and "evil_module" not in sys.modules and "they differ in env.id" in outcome.last_line
    (job / "config.yaml").write_text(yaml.safe_dump(config))
    assert command("resume", sweep).code == 0, "the control"


def test_a_runtime_that_is_no_mapping_is_told(command):
    """Bugs: a traceback for `runtime: [1]` in a saved configuration, and for `runtime.processes=[`."""
    run = command(*small("q_learning", "maze"), "total_steps=60").folder
    outcome = command("resume", run, "total_steps=90", "runtime=torchrun", "runtime.processes=[")
    assert outcome.code == 2 and "the value '[' cannot be read; runtime.processes; " in outcome.last_line, outcome.err
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"runtime": [1]}))
    outcome = command("resume", run, "total_steps=90")
    assert outcome.code == 2 and "runtime is not a mapping; runtime; " in outcome.last_line, outcome.err
