"""Whole runs: what they leave behind, that the seed decides all, and how they end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_runs import TABULAR, small
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ALGOS
from rltrain.errors import EnvironmentFailure
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.clock import Clock
from rltrain.run.evaluation import Evaluations
from rltrain.run.run import Run

QUICK = ["device=cpu", "progress=false", "eval_episodes=1", "final_eval_episodes=2"]
SMALL = ["network.hidden_sizes=[16]", *QUICK]
RUNS = {
    "q_learning": ["algo=q_learning", "env=taxi", "total_steps=30000", *QUICK],
    "dqn": [
        "algo=dqn",
        "env=cartpole",
        "total_steps=600",
        "batch_size=16",
        "algo.learning_starts=100",
        "algo.train_every_steps=4",
        "algo.updates_per_round=1",
        *SMALL,
    ],
    "d3qn_per": [
        "algo=d3qn_per",
        "env=cartpole",
        "total_steps=400",
        "num_envs=2",
        "batch_size=16",
        "algo.n_step=3",
        "algo.learning_starts=100",
        "algo.train_every_steps=4",
        "algo.updates_per_round=1",
        *SMALL,
    ],
    "pqn": [
        "algo=pqn",
        "env=cartpole",
        "total_steps=1024",
        "num_envs=4",
        "algo.num_steps=32",
        "batch_size=64",
        *SMALL,
    ],
    "ppo": [
        "algo=ppo",
        "env=cartpole",
        "total_steps=1024",
        "num_envs=4",
        "algo.num_steps=32",
        "batch_size=64",
        "algo.num_epochs=2",
        *SMALL,
    ],
}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def played(folder):
    """The rows of episodes.csv."""
    return list(csv.DictReader((folder / "episodes.csv").read_text().splitlines()))


def learned(folder):
    """The metrics without what a clock or the machine decides."""
    skipped = ("time_s", "time/", "memory/")
    return [{key: line[key] for key in line if not key.startswith(skipped)} for line in lines(folder)]


def equal(left, right):
    """Whether two nested states are the same to the last bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if hasattr(left, "shape"):
        return np.array_equal(np.asarray(left), np.asarray(right))
    return left == right


@pytest.fixture
def run(command):
    """Train and return the run folder."""

    def call(algo, *more):
        outcome = command(*RUNS[algo], *more)
        assert outcome.code == 0, outcome.err
        return outcome.folder

    return call


@pytest.mark.parametrize("algo", RUNS)
def test_a_run_folder_holds_what_scripts_read(algo, run):
    folder = run(algo, "seed=3", "name=mine")
    steps = saved_config.load(folder / "config.yaml").total_steps
    assert folder.name.endswith("-s3-mine")
    assert (folder.parent.name, folder.parent.parent.name) == (algo, "taxi" if algo == "q_learning" else "cartpole")
    result, status, meta = (json.loads((folder / f"{name}.json").read_text()) for name in ("result", "status", "meta"))
    for part in ("final", "best"):
        assert {"mean_reward", "std_reward", "episodes", "step"} <= result[part].keys()
    assert result["final"]["step"] == result["steps"] == steps
    assert all(result[key] > 0 for key in ("wall_time_s", "train_time_s", "fps", "peak_rss_mb"))
    assert status == {"state": "done", "step": steps, "pid": os.getpid(), "reason": "", "exit_code": 0}
    assert meta["seed"] == 3
    assert {"torch", "numpy"} <= meta["packages"].keys()
    assert {"git_revision", "git_dirty", "host"} <= meta.keys()
    assert (folder / "command.txt").read_text().startswith(f"rltrain algo={algo} ")
    assert all({"step", "time_s"} <= line.keys() for line in lines(folder))
    tags = {key for line in lines(folder) for key in line}
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "eval/std_reward", "time/fps"} <= tags
    assert {"memory/rss_mb", "time/total_timesteps"} <= tags
    # Bug: Linux's KiB taken for kB make the most ever held less than what was held at some time.
    assert result["peak_rss_mb"] > 0.99 * max(line.get("memory/rss_mb", 0) for line in lines(folder))
    expected = {"q_learning": {"train/q_mean"}, "ppo": {"train/approx_kl", "train/clip_fraction"}}
    assert expected.get(algo, {"train/loss", "train/td_error", "rollout/exploration_rate"}) <= tags
    assert ("memory/replay_mb" in tags) == (algo in ("dqn", "d3qn_per"))
    assert checkpoint.find(folder, "last").name == f"step_{steps:09d}"
    assert checkpoint.find(folder, "best").name == f"step_{result['best']['step']:09d}"
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]


def test_tensorboard_finds_the_scalars_and_the_hyperparameters(run):
    folder = run("dqn")
    (events,) = folder.glob("events.out.tfevents.*")
    values = [(event.step, value) for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    assert {value.metadata.plugin_data.plugin_name for _, value in values} >= {"hparams", "scalars"}
    assert {value.tag for _, value in values} >= {"_hparams_/experiment", "_hparams_/session_start_info"}
    logged = [(step, value.tensor.float_val[0]) for step, value in values if value.tag == "eval/mean_reward"]
    wanted = [(line["step"], line["eval/mean_reward"]) for line in lines(folder) if "eval/mean_reward" in line]
    assert logged == wanted


def test_logged_returns_are_raw_whatever_is_learned_from(run):
    folder = run("ppo", "algo.reward_clip=0.001", "algo.reward_scale=0.5")
    rows = played(folder)
    assert len(rows) > 5
    assert all(float(row["reward"]) == int(row["length"]) >= 8 for row in rows)
    tail = [float(row["reward"]) for row in rows][-100:]
    assert [line["rollout/ep_rew_mean"] for line in lines(folder) if "rollout/ep_rew_mean" in line][
        -1
    ] == pytest.approx(np.mean(tail))


@pytest.mark.parametrize("algo", RUNS)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(algo, run):
    first, again, other = run(algo), run(algo), run(algo, "seed=1")
    assert first != again
    assert learned(first) == learned(again) != learned(other)
    assert (first / "episodes.csv").read_text() == (again / "episodes.csv").read_text()
    states = [checkpoint.load(folder)[1]["agent"] for folder in (first, again, other)]
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_the_final_evaluation_plays_other_episodes_than_those_that_chose_the_best(run, monkeypatch):
    """Bug: one seed for both, so that the score of the best is the luck for which it was chosen."""
    make, seeds = Evaluations.make, {False: set(), True: set()}

    def watched(self, agent, step, seed, final, stopping):
        seeds[final].add(seed)
        return make(self, agent, step, seed, final, stopping)

    monkeypatch.setattr(Evaluations, "make", watched)
    run("dqn", "eval_every_steps=200")
    assert len(seeds[False]) == len(seeds[True]) == 1 and seeds[False] != seeds[True]


@pytest.mark.parametrize("algo", sorted(set(ALGOS) - {"double_dqn", "dueling_dqn", "per_dqn"}))  # d3qn_per is all three
def test_evaluating_and_saving_do_not_disturb_training(algo, command):
    """Sampled actions in evaluation draw random numbers: they must not be those of training."""
    args = [*small(algo, "frozen_lake" if algo in TABULAR else "cartpole"), "total_steps=300", "eval_greedy=false"]
    if algo == "a3c":  # with more workers no two runs are alike
        args.append("algo.num_workers=1")
    folders = []
    for every in (100, 0):
        outcome = command(*args, f"eval_every_steps={every}", f"checkpoint_every_steps={every}", f"name=every-{every}")
        assert outcome.code == 0, outcome.err
        folders.append(outcome.folder)
    evaluated = [[line["step"] for line in lines(folder) if "eval/mean_reward" in line] for folder in folders]
    assert evaluated[0][0] == 0 and len(evaluated[0]) > len(evaluated[1]) == 1 and evaluated[1][0] > 0
    often, never = (checkpoint.load(folder)[1] for folder in folders)
    for part in ("agent", "generators", "replay", "environments", "walk"):
        assert equal(often.get(part), never.get(part)), part
    assert played(folders[0]) == played(folders[1])


def test_what_the_untrained_agent_scores_is_shown_and_is_no_result(command, monkeypatch):
    """Bugs: no curve begins with the untrained agent; its score becomes `best`, or the score of a run in `runs`."""
    scores = iter([99.0, 1.0, 2.0, 3.0])

    def evaluate(*args):
        return {"mean_reward": next(scores), "std_reward": 0.0, "episodes": 1}

    monkeypatch.setattr("rltrain.algos.q_learning.evaluate", evaluate)
    stopped = command("algo=q_learning", "env=frozen_lake", "total_steps=300", "eval_every_steps=100", "progress=false")
    assert stopped.code == 0, stopped.err
    scored = [(line["step"], line["eval/mean_reward"]) for line in lines(stopped.folder) if "eval/mean_reward" in line]
    assert scored == [(0, 99.0), (100, 1.0), (200, 2.0), (300, 3.0)]
    result = stopped.json("result.json")
    assert (result["best"]["step"], result["best"]["mean_reward"]) == (300, 3.0)
    assert checkpoint.find(stopped.folder, "best").name == "step_000000300"
    (stopped.folder / "metrics.jsonl").write_text('{"step": 0, "time_s": 0.1, "eval/mean_reward": 99.0}\n')
    (stopped.folder / "status.json").write_text('{"state": "failed", "step": 0, "pid": 1}')
    row = command("runs").out.splitlines()[1].split()
    assert row[:6] == ["failed", "0", "0%", "-", "-", "-"]


def test_time_shares_stay_below_one_where_evaluations_fall_between_log_lines(run):
    folder = run("ppo", "log_every_steps=500", "eval_every_steps=128")
    shares = [line["time/env_fraction"] + line["time/learn_fraction"] for line in lines(folder) if "time/fps" in line]
    assert shares
    assert max(shares) <= 1.001


def test_speed_is_logged_although_every_log_line_meets_an_evaluation(run):
    folder = run("ppo", "log_every_steps=128", "eval_every_steps=128")
    assert sum("time/fps" in line for line in lines(folder)) == 8


def once(folder):
    """No tag has two values at one step, and steps never go back."""
    steps = [line["step"] for line in lines(folder)]
    seen = [(line["step"], key) for line in lines(folder) for key in line if "/" in key]
    episodes = [int(row["step"]) for row in played(folder)]
    return len(seen) == len(set(seen)) and steps == sorted(steps) and episodes == sorted(episodes)


@pytest.mark.parametrize("algo", ["dqn", "ppo"])
def test_a_resumed_run_counts_on_in_the_same_folder(algo, run, command):
    folder = run(algo)
    config = (folder / "config.yaml").read_text()
    before, updates = lines(folder), checkpoint.load(folder)[1]["agent"]["num_updates"]
    total = 2 * before[-1]["step"]
    outcome = command("resume", folder, f"total_steps={total}")
    assert outcome.code == 0, outcome.err
    assert lines(folder)[: len(before)] == before
    assert lines(folder)[-1]["step"] == total
    assert once(folder)
    assert (folder / "config.yaml").read_text() == config
    assert saved_config.load(folder / "config.resume-1.yaml").total_steps == total
    assert json.loads((folder / "result.json").read_text())["steps"] == total
    step, state = checkpoint.load(folder)
    assert step == total
    assert state["agent"]["num_updates"] > 1.5 * updates
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2


def test_a_table_resumed_in_the_middle_ends_as_if_it_had_never_stopped(run, command):
    folder = run("q_learning", "checkpoint_every_steps=20000")
    metrics, episodes = learned(folder), (folder / "episodes.csv").read_text()
    q_table = checkpoint.load(folder)[1]["agent"]["q_table"]
    outcome = command("resume", folder / "checkpoints" / "step_000020000")
    assert outcome.code == 0, outcome.err
    assert np.array_equal(checkpoint.load(folder)[1]["agent"]["q_table"], q_table)
    assert learned(folder) == metrics
    assert (folder / "episodes.csv").read_text() == episodes


def test_the_tenth_resume_goes_on_from_the_ninth(run, command):
    folder = run("q_learning", "total_steps=100")
    for number in range(2, 13):
        assert command("resume", folder, f"total_steps={number * 100}", "progress=false").code == 0
    outcome = command("resume", folder)
    assert "done at step 1,200 of 1,200" in outcome.last_line


def test_a_run_stopped_at_its_last_step_can_still_be_concluded(run, command):
    folder = run("q_learning", "total_steps=100")
    (folder / "result.json").unlink()
    assert command("resume", folder, "progress=false").code == 0
    assert json.loads((folder / "result.json").read_text())["steps"] == 100


def test_an_extended_run_stopped_in_its_final_evaluation_can_still_be_concluded(run, command):
    """Bug: "the run is done", as there was the result of fewer steps. It stayed for ever."""
    folder = run("q_learning", "total_steps=100")
    before = (folder / "result.json").read_bytes()
    assert command("resume", folder, "total_steps=200", "progress=false").code == 0
    (folder / "result.json").write_bytes(before)
    assert command("resume", folder, "progress=false").code == 0
    assert json.loads((folder / "result.json").read_text())["steps"] == 200


def test_a_run_that_is_done_keeps_no_error_of_before(command, stop_at, monkeypatch):
    """Bug: status.json said done, and error.log beside it was the traceback of the stop."""
    stop_at(200)
    folder = command("algo=q_learning", "env=frozen_lake", "total_steps=300", "progress=false").folder
    monkeypatch.undo()
    assert "Stopped" in (folder / "error.log").read_text()
    (folder / "nonfinite.json").write_text("{}")
    assert command("resume", folder, "progress=false").code == 0
    assert not (folder / "error.log").exists() and not (folder / "nonfinite.json").exists()


def test_a_stopped_run_cannot_end_before_the_step_that_it_is_at(command, stop_at):
    """Bug: `resume RUN total_steps=150` ended a run of 300 steps that was at step 200 as done, at once."""
    stop_at(200)
    folder = command("algo=q_learning", "env=frozen_lake", "total_steps=300", "progress=false").folder
    step = json.loads((folder / "status.json").read_text())["step"]
    for word in (folder, folder / "checkpoints" / f"step_{step:09d}"):
        shorter = command("resume", word, "total_steps=150")
        assert shorter.code == 2
        assert f"the run is at step {step} already, beyond 150; total_steps; give a larger value" in shorter.last_line
        assert f"rltrain resume {word} total_steps={2 * step}" in shorter.last_line
    assert not (folder / "config.resume-1.yaml").exists()
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert command("resume", folder, f"total_steps={step}", "progress=false").code == 0  # the final evaluation is due
    assert json.loads((folder / "result.json").read_text())["steps"] == step


@pytest.mark.parametrize("way", ["named", "damaged"])
def test_a_run_that_went_back_and_was_stopped_has_no_result_of_the_agent_before(way, run, command, monkeypatch):
    """Bugs: `resume` says "the run is done" for ever, with the score of an agent that is gone. No word of what goes."""
    folder = run("q_learning", "total_steps=300", "checkpoint_every_steps=100", "checkpoint_keep_every_steps=100")
    word = folder / "checkpoints" / "step_000000100" if way == "named" else folder
    if way == "damaged":
        for step in (200, 300):
            (folder / "checkpoints" / f"step_{step:09d}" / "state.json").write_text("{}")
    with monkeypatch.context() as patched:
        patched.setattr(Run, "conclude", lambda self: os.kill(os.getpid(), signal.SIGTERM) or self.stop_if_asked())
        stopped = command("resume", word, "progress=false")
    assert stopped.code == 143, stopped.err
    assert "going back from step 300 to step 100: checkpoints, lines of the logs and a result" in stopped.err
    assert not (folder / "result.json").exists()
    again = command("resume", folder, "progress=false")
    assert again.code == 0 and "going back" not in again.err, again.err
    assert json.loads((folder / "result.json").read_text())["steps"] == 300


@pytest.mark.parametrize("why", ["other", "broken", "stopped"])
def test_a_resume_that_is_refused_leaves_a_done_run_as_it_was(why, run, command, monkeypatch):
    """Bugs: `resume RUN/checkpoints/...` cuts the logs before it is refused; `rltrain runs` shows the run as failed; a
    later `resume` trains to the total_steps of the one that was refused."""
    folder = run("q_learning", "total_steps=300", "checkpoint_every_steps=100", "checkpoint_keep_every_steps=100")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "error.log")]
    before = {path: path.read_bytes() for path in files}
    begin = Run.begin

    def late(*args, **parts):
        if why == "broken":
            raise EnvironmentFailure("the licence server is down", "env", "wait")
        if why == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        return begin(*args, **parts)

    code = {"other": 3, "broken": 4, "stopped": 143}[why]
    for words in ([folder / "checkpoints" / "step_000000100"], [folder, "total_steps=600"]):
        with monkeypatch.context() as patched:
            patched.setattr(Run, "begin", late)
            if why == "other":
                patched.setattr(Run, "spaces_in_words", ["other", "spaces"])
            outcome = command("resume", *words, "progress=false")
        assert outcome.code == code, outcome.err
        assert {path: path.read_bytes() for path in files} == before
        assert not (folder / "config.resume-1.yaml").exists()
    if why == "stopped":
        assert f"resume with: rltrain resume {folder} total_steps=600 progress=false" in outcome.last_line
    assert command("resume", folder, "total_steps=600", "progress=false").code == 0
    steps = {line["step"] for line in lines(folder)}
    assert once(folder) and set(range(3, 601, 3)) <= steps


def test_a_loss_that_is_not_finite_does_not_end_as_done(command):
    arguments = ["algo=dqn", "env=cartpole", "total_steps=2000", "progress=false"]
    outcome = command(*arguments, "algo.reward_scale=3e38")
    assert outcome.code == 5, outcome.err
    assert "train/" in outcome.last_line
    assert outcome.json("status.json")["exit_code"] == 5
    for line in (outcome.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_folder_in_use_is_left_alone(run, command):
    folder = run("q_learning", "total_steps=100")
    files = sorted(path.name for path in folder.iterdir())
    lock = run_folder.Lock(folder)
    outcome = command("resume", folder, "total_steps=200")
    lock.release()
    assert outcome.code == 8
    assert outcome.last_line.startswith("rltrain: error: another process uses this folder; ")
    assert sorted(path.name for path in folder.iterdir()) == files
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert command("resume", folder, "total_steps=200").code == 0


@pytest.mark.parametrize("algo", RUNS)
def test_eval_prints_what_it_writes_and_repeats_itself(algo, run, command):
    folder = run(algo)
    outcomes = [command("eval", folder, "episodes=3", "greedy=false", f"seed={seed}") for seed in (5, 5, 6)]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes[0].err
    printed = [json.loads(outcome.out.strip().splitlines()[-1]) for outcome in outcomes]
    assert {"mean_reward", "std_reward", "episodes", "returns", "lengths", "seed", "checkpoint"} <= printed[0].keys()
    assert printed[0]["episodes"] == len(printed[0]["returns"]) == len(printed[0]["lengths"]) == 3
    assert printed[0]["mean_reward"] == pytest.approx(np.mean(printed[0]["returns"]))
    assert printed[0] == printed[1] != printed[2]
    assert printed == [json.loads(path.read_text()) for path in sorted((folder / "eval").iterdir())]
    assert command("eval", "last", "episodes=1", "checkpoint=best").code == 0
    assert command("eval", folder / "checkpoints" / "last", "episodes=1").code == 0


def test_a_sweep_trains_each_job_in_a_folder_of_its_own(command):
    outcome = command("-m", "algo=q_learning,ppo", "seed=0,1", "env=taxi", "total_steps=64", *QUICK)
    assert outcome.code == 0, outcome.err
    (sweep,) = (outcome.run_dir / "sweeps").iterdir()
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [job.name[:2] for job in jobs] == ["00", "01", "02", "03"]
    configs = [saved_config.load(job / "config.yaml") for job in jobs]
    assert [(config.algo.name, config.seed) for config in configs] == [
        ("q_learning", 0),
        ("q_learning", 1),
        ("ppo", 0),
        ("ppo", 1),
    ]
    assert all(json.loads((job / "status.json").read_text())["state"] == "done" for job in jobs)
    assert not any(set(job.name) & set("=, []{}") for job in jobs), "a shell or Hydra would read the name"
    assert "4 of 4 jobs done, 0 failed" in outcome.err


def test_one_failed_job_does_not_stop_a_sweep_and_is_named_at_its_end(command):
    outcome = command("-m", "algo=q_learning,ppo", "env=cartpole", "total_steps=64", *QUICK)
    assert outcome.code == 1
    (sweep,) = (outcome.run_dir / "sweeps").iterdir()
    failed, done = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert f"failed: {failed.name}: q_learning needs discrete states" in outcome.err
    assert "1 of 2 jobs done, 1 failed" in outcome.last_line
    assert json.loads((failed / "status.json").read_text())["exit_code"] == 2
    assert json.loads((done / "status.json").read_text())["state"] == "done"


def test_status_follows_a_run_whose_logs_are_far_apart(command, monkeypatch):
    seen = []
    advance = Run.advance

    def look(self, num_steps, episodes):
        seen.append(json.loads((self.folder / "status.json").read_text())["step"])
        advance(self, num_steps, episodes)

    monkeypatch.setattr(Run, "advance", look)
    monkeypatch.setattr("rltrain.run.run.STATUS_EVERY_S", 0.0)
    assert command(*RUNS["ppo"], "log_every_steps=1000", "eval_every_steps=0").code == 0
    assert {256, 384, 512} <= set(seen)


STOPS = [("dqn", signal.SIGTERM, 143), ("ppo", signal.SIGINT, 130), ("ppo", signal.SIGHUP, 129)]


@pytest.mark.parametrize(("algo", "number", "exit_code"), STOPS)
def test_a_signal_stops_a_run_that_can_be_resumed(algo, number, exit_code, command, tmp_path):
    argv = [*RUNS[algo], "total_steps=1e7", "log_every_steps=100", "eval_every_steps=0"]
    # Under nohup a closed terminal is ignored, by whatever is started too.
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from rltrain.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *argv], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (found := list(tmp_path.rglob("metrics.jsonl"))) or not found[0].read_text():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        error = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.communicate()
    folder = found[0].parent
    assert process.returncode == exit_code, error
    what, where, fix = error.strip().splitlines()[-1].split("; ")
    assert error.count("rltrain: stopping: saving first; press Ctrl-C again to exit without saving\n") == 1
    assert what.startswith("rltrain: error: stopped by ") and what.strip(")").endswith(number.name)
    assert fix.endswith(f"rltrain resume {where}"), "no command to copy"
    assert (tmp_path / where).resolve() == folder.resolve()
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("stopped", exit_code)
    step, _ = checkpoint.load(folder)
    assert status["step"] == step >= 100
    assert not (folder / "result.json").exists()
    outcome = command("resume", folder, f"total_steps={step + 300}", "progress=false")
    assert outcome.code == 0, outcome.err
    assert once(folder)
    assert json.loads((folder / "result.json").read_text())["steps"] >= step + 300


def test_a_dry_run_builds_and_learns_and_leaves_nothing(command, tmp_path):
    outcome = command("algo=ppo", "env=cartpole", "dry_run=true", "device=cpu")
    assert outcome.code == 0, outcome.err
    assert "parameters" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_that_is_stopped_does_not_name_its_folder(command, stop_at, tmp_path):
    """Bug: a command to resume a run whose folder is gone."""
    stop_at(1)
    outcome = command("algo=q_learning", "env=maze", "dry_run=true")
    assert outcome.code == 143
    assert outcome.last_line == "rltrain: error: stopped by SIGTERM; nothing was kept"
    assert not list(tmp_path.iterdir())


def test_the_revision_is_that_of_rltrain(monkeypatch, tmp_path):
    """Bug: in a hook of git's, the revision of the user's own repository."""
    before = run_folder._git()
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert run_folder._git() == before


def test_the_share_of_evaluations_is_counted_and_named_where_it_is_large(command, monkeypatch):
    """Bug: half of the time goes to evaluations, and nothing says so."""
    monkeypatch.setattr("rltrain.run.panel._LONG_S", 0.0)
    often = ["eval_every_steps=64", "log_every_steps=64", "eval_episodes=5", "progress=true"]
    outcome = command(*RUNS["ppo"], *often)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    shares = [line["time/eval_fraction"] for line in lines if "time/eval_fraction" in line]
    assert max(shares) > 0 and all(0 <= share < 1 for share in shares)
    result = outcome.json("result.json")
    told = "larger eval_every_steps (now 64) or fewer eval_episodes (now 5)" in outcome.err
    assert told == (result["train_time_s"] < 0.5 * result["wall_time_s"])


def test_an_environment_that_freezes_the_time_does_not_freeze_that_of_a_run(monkeypatch):
    """Bug: 512,000,000,000 steps/s, and a run of -56,968 s."""
    clock = Clock(0, {})
    monkeypatch.setattr(time, "perf_counter", lambda: -60_000.0)
    assert 0 <= clock.train_s <= clock.wall_s < 60
    assert 0 < clock.end_window(512)["time/fps"] < 1e9


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["total_steps=60"], True),  # fewer than algo.learning_starts
        (["total_steps=200", "algo.learning_starts=64", "batch_size=64", "algo.replay_capacity=200"], False),
    ],
)
def test_a_run_without_an_update_says_so(keys, told, command):
    """Bug: "reached 20 +- 5", and the agent was as it began."""
    outcome = command("algo=dqn", "env=cartpole", *QUICK, "eval_every_steps=0", *keys)
    assert outcome.code == 0, outcome.err
    assert ("no update was made in 60 steps, so the agent is as it began" in outcome.err) == told, outcome.err
