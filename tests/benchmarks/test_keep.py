"""benchmarks/keep.py: a kept record scores as the run does, in less space."""

import json

import pytest
from small_runs import small


@pytest.fixture(scope="module")
def keep(script):
    return script("keep")


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_kept_agent_plays_as_the_run_does(keep, command, tmp_path, algo):
    """Catches an agent that is kept with other weights, such as those of the new agent that lends its optimizer."""
    run = command(*small(algo, "cartpole"), "total_steps=256", "run_dir=runs").folder
    keep.keep(str(run), tmp_path / "kept")
    theirs, ours = (command("eval", where, "episodes=3").out for where in (run, tmp_path / "kept"))
    assert json.loads(ours)["returns"] == json.loads(theirs)["returns"]
    tensors = "checkpoints/last/tensors.safetensors"
    sizes = [(where / tensors).stat().st_size for where in (run, tmp_path / "kept")]
    assert sizes[1] < 0.7 * sizes[0], "the optimizer is kept, too"
    assert command("resume", tmp_path / "kept").code == 3


def test_a_kept_run_names_no_folder_of_the_machine(keep, command, tmp_path):
    first = command(*small("ppo", "cartpole"), "total_steps=256").folder
    run = command(*small("ppo", "cartpole"), "total_steps=256", f"init_from={first}").folder
    assert str(tmp_path) in (run / "config.yaml").read_text() and str(tmp_path) in (run / "command.txt").read_text()
    keep.keep(str(run), tmp_path / "kept")
    files = [path for path in (tmp_path / "kept").rglob("*") if path.suffix in (".yaml", ".txt", ".json", ".jsonl")]
    assert len(files) > 4 and not [path.name for path in files if str(tmp_path) in path.read_text()]
    assert "init_from=RUN" in (tmp_path / "kept" / "command.txt").read_text()


def test_metrics_are_thinned_but_for_evaluations(keep):
    lines = [json.dumps({"step": n} | ({"eval/mean_reward": 1.0} if n % 100 == 0 else {})) for n in range(2001)]
    thin = keep.thinned(lines)
    assert len(thin) <= 500 and sum("eval" in line for line in thin) == 21
    assert keep.thinned(lines[:300]) == lines[:300]
