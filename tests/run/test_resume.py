"""A run that was stopped and resumed against the same run that never stopped: not one bit may differ."""

import json
import os
import signal
import zlib

import numpy as np
import pytest
import yaml
from exact import differences, flat, lines, same

from rltrain.buffers import pieces
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ALGOS
from rltrain.run import checkpoint, evaluation
from rltrain.run.run import Run

SMALL = {
    "q_learning": [],
    "sarsa": [],
    "monte_carlo": [],
    "dqn": ["algo.learning_starts=64", "algo.replay_capacity=300", "algo.prioritized=true", "algo.n_step=3"],
    "pqn": ["algo.num_steps=16", "batch_size=32"],
    "reinforce": ["algo.batch_size=60", "algo.baseline=true"],
    "a2c": [],
    "impala": ["algo.num_steps=5"],
    "ppo": ["algo.num_steps=16", "batch_size=32"],
}
TOY = {"q_learning", "sarsa", "monte_carlo"}
EXACT = sorted(name for name in ALGOS if name in SMALL)


@pytest.mark.parametrize("algo", EXACT)
@pytest.mark.parametrize("env", ["frozen_lake", "cartpole", "pendulum"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(algo, env, command, stop_at, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    if (env != "frozen_lake" and algo in TOY) or (env == "pendulum" and algo in ("dqn", "pqn")):
        pytest.skip("does not fit")
    steps = 40_000 if algo in TOY else 700
    args = [f"algo={algo}", f"env={env}", f"total_steps={steps}", "device=cpu", "progress=false", *SMALL[algo]]
    args += [
        f"eval_every_steps={steps // 3}",
        "eval_episodes=1",
        "final_eval_episodes=1",
        f"log_every_steps={steps // 7}",
    ]
    if algo not in TOY:
        args.append("num_envs=4" if algo in ("ppo", "pqn") else "num_envs=3")
    whole = command(*args)
    assert whole.code == 0, whole.err
    whole = whole.folder
    rng = np.random.default_rng(zlib.crc32(f"{algo} {env}".encode()))
    with monkeypatch.context():
        stop_at(int(rng.integers(steps // 5, steps * 4 // 5)))
        stopped = command(*args)
    assert stopped.code == 143, stopped.err
    monkeypatch.undo()
    part = stopped.folder
    assert json.loads((part / "status.json").read_text())["state"] == "stopped"
    saved_step = json.loads((part / "status.json").read_text())["step"]
    resumed = command("resume", part, "progress=false")
    assert resumed.code == 0, resumed.err
    assert f"resumed at step {saved_step:,}\n" in resumed.err
    assert differences(whole, part) == []
    assert lines(whole) == lines(part)
    whole_episodes, part_episodes = ((run / "episodes.csv").read_text() for run in (whole, part))
    assert whole_episodes == part_episodes


@pytest.fixture
def stop_in_evaluation(monkeypatch):
    """Send this process a signal in the middle of its n-th evaluation."""

    def arm(number, kind=signal.SIGTERM):
        begun = []

        class Stack(evaluation.FrameStack):
            def reset(self, frame):
                begun.append(self)
                return super().reset(frame)

            def push(self, frame, first):
                if len(begun) == number and begun[-1] is self:
                    os.kill(os.getpid(), kind)
                return super().push(frame, first)

        monkeypatch.setattr(evaluation, "FrameStack", Stack)

    yield arm
    monkeypatch.undo()


def best_of(run) -> tuple:
    """What `best` says and points to."""
    link = checkpoint.find(run, "best")
    agent = dict(flat(checkpoint.read(link)["agent"]))
    return json.loads((run / "result.json").read_text())["best"], link.name, agent


# Every number with DQN and one with each other algorithm are enough for every day.
INTERRUPTED = [(algo, number) for algo in sorted(set(EXACT) - TOY) for number in (1, 2, 3, 4)]
DAILY = {*(("dqn", number) for number in (1, 2, 3, 4)), ("a2c", 4), ("ppo", 1), ("pqn", 2), ("reinforce", 1)}


@pytest.mark.parametrize(
    ("algo", "number"),
    [pytest.param(*pair, marks=() if pair in DAILY else pytest.mark.slow) for pair in INTERRUPTED],
)
def test_an_evaluation_that_a_signal_interrupted_is_made_by_the_resumed_run(
    algo, number, command, stop_in_evaluation, monkeypatch
):
    """Number 1 is that of the untrained agent, number 4 the final one. Bug: a checkpoint of step 0 does not fit."""
    args = [f"algo={algo}", "env=cartpole", "total_steps=400", "device=cpu", "progress=false", *SMALL[algo]]
    args += ["eval_every_steps=130", "eval_episodes=2", "final_eval_episodes=2", "checkpoint_every_steps=100"]
    args += ["log_every_steps=50", "num_envs=4" if algo in ("ppo", "pqn") else "num_envs=3"]
    if algo in ("reinforce", "ppo", "pqn"):
        args.append("eval_every_steps=200")  # once or twice: their steps are not those that were asked for
    whole = command(*args).folder
    evaluations = [line["step"] for line in lines(whole) if "eval/mean_reward" in line]
    if number > len(evaluations):
        pytest.skip("a rollout or batch is longer than the time between two evaluations")
    stop_in_evaluation(number)
    stopped = command(*args)
    monkeypatch.undo()
    assert stopped.code == 143, stopped.err
    part = stopped.folder
    assert [line["step"] for line in lines(part) if "eval/mean_reward" in line] == evaluations[: number - 1]
    step, state = checkpoint.load(part)
    assert step == evaluations[number - 1]
    assert state["run"]["evaluation_due"] == (number < len(evaluations))
    resumed = command("resume", part, "progress=false")
    assert resumed.code == 0, resumed.err
    assert differences(whole, part) == []
    assert lines(whole) == lines(part)
    for one, other in zip(best_of(whole), best_of(part), strict=True):
        assert one == other if not isinstance(one, dict) or "step" in one else all(same(one[k], other[k]) for k in one)


def test_a_late_evaluation_that_is_interrupted_again_or_killed_leaves_no_gap_and_no_double(
    command, stop_in_evaluation, monkeypatch
):
    args = ["algo=dqn", "env=cartpole", "total_steps=400", "device=cpu", "progress=false", *SMALL["dqn"]]
    args += ["eval_every_steps=130", "eval_episodes=2", "final_eval_episodes=2", "checkpoint_every_steps=0"]
    whole = command(*args).folder
    stop_in_evaluation(2)
    part = command(*args).folder
    monkeypatch.undo()
    complete = checkpoint.find(part)
    stop_in_evaluation(1, signal.SIGINT)
    assert command("resume", part, "progress=false").code == 130
    monkeypatch.undo()
    assert checkpoint.find(part) == complete
    original = Run.after_step
    with monkeypatch.context() as patch:  # as if killed: after the evaluation, before anything else is saved
        patch.setattr(Run, "after_step", lambda *args, **parts: (_ for _ in ()).throw(KeyboardInterrupt))
        command("resume", part, "progress=false")
    assert Run.after_step is original
    assert [line["step"] for line in lines(part) if "eval/mean_reward" in line] == [0, checkpoint.load(part)[0]]
    assert checkpoint.find(part) == complete, "the best agent's checkpoint took the place of the complete one"
    assert checkpoint.load(part)[1]["replay"]
    assert command("resume", part, "progress=false").code == 0
    assert differences(whole, part) == []
    assert lines(whole) == lines(part)


def test_a_run_of_an_rltrain_that_lacked_a_setting_goes_on_with_its_default(command):
    args = ["algo=a2c", "env=cartpole", "total_steps=200", "device=cpu", "progress=false", *SMALL["a2c"]]
    run = command(*args).folder
    config = saved_config.load(run / "config.yaml")
    values = yaml.safe_load((run / "config.yaml").read_text())
    del values["algo"]["learning_rate_end"]
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    [of_then] = saved_config.fingerprints(config, run) - {saved_config.fingerprint(config)}
    for path in run.glob("checkpoints/step_*/manifest.json"):
        facts = json.loads(path.read_text())
        assert facts["made_for"] == saved_config.fingerprint(config)
        path.write_text(json.dumps(facts | {"made_for": of_then}))
    for total in (400, 600):  # the second time from checkpoints of now
        resumed = command("resume", run, f"total_steps={total}", "progress=false")
        assert resumed.code == 0 and "cannot be used" not in resumed.err, resumed.err
