"""Plant one bug after another, and see whether the quick test suite finds it.

    python benchmarks/planted_bugs.py [--only WORD]

Each bug changes one line of a copy of the checkout. Then the test files that guard this line run, with the options of
the quick suite. Without a bug the same files must pass: that is the control, run first. Prints one line for each bug,
and exits with 1 if one was not found.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Bug:
    """A changed line, and the tests that must notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str
    """Test files below tests/, separated by spaces."""


BUGS = [
    Bug("GAE runs on across episodes", "math/returns.py", "discount_TB * trace_TB * gae_lambda",
        "discount_TB * gae_lambda", "math/test_returns.py"),
    Bug("Q(lambda) runs on across episodes", "math/returns.py", "weight_TB = q_lambda * trace_TB",
        "weight_TB = q_lambda * torch.ones_like(trace_TB)", "math/test_returns.py"),
    Bug("PPO takes the larger surrogate", "math/losses.py", "-torch.minimum(ratio_B * advantage_B",
        "-torch.maximum(ratio_B * advantage_B", "math/test_losses.py"),
    Bug("a twin forgets the importance weights", "fast/losses.py", "slope_B *= weight_B", "pass",
        "fast/test_twins.py"),
    Bug("double Q-learning lets the target network choose", "math/losses.py", "next_online_q_BA.argmax",
        "next_target_q_BA.argmax", "math/test_losses.py"),
    Bug("frame stacks reach into the last episode", "envs/frame_stack.py", "stack[first, : -self._channels] = 0",
        "pass", "envs/test_frame_stack.py"),
    Bug("sampled stacks reach into the last episode", "buffers/replay.py", "self._history[slot] = 0", "pass",
        "buffers/test_replay.py"),
    Bug("n-step returns run on across episodes", "buffers/replay.py",
        'counted_NS[:, 1:] = ~np.logical_or.accumulate(self._arrays["ended"][window_NS[:, :-1]], axis=1)', "pass",
        "buffers/test_replay.py"),
    Bug("new transitions get priority 1", "buffers/prioritized.py",
        "self.max_priority = max(self.max_priority, float(magnitude.max(initial=0.0)))", "pass",
        "buffers/test_prioritized.py"),
    Bug("a truncated episode is valued by the next one's first observation", "algos/parts/collector.py",
        "rollout.next_value[to_device(truncated, value.device)] = torch.cat(truncated_values)", "pass",
        "algos/test_ppo.py algos/test_a2c.py algos/test_pqn.py"),
    Bug("a termination is bootstrapped", "algos/parts/collector.py", "np.where(terminated, 0.0, config.gamma)",
        "np.where(terminated, config.gamma, config.gamma)", "algos/test_ppo.py algos/test_a2c.py algos/test_pqn.py"),
    Bug("the target network is copied one update late", "algos/dqn.py",
        "self.learner.num_updates % self.config.target_period_updates == 0",
        "self.learner.num_updates % self.config.target_period_updates == 1", "algos/test_dqn.py"),
    Bug("PPO does not normalise advantages", "algos/ppo.py", "if self.config.normalize_advantage:", "if False:",
        "algos/test_ppo.py"),
    Bug("A3C's workers keep their first parameters", "algos/a3c.py",
        "shared.copy_to(agent.learner.trained)", "pass", "algos/test_a3c.py algos/test_async_workers.py"),
    Bug("micro-batches are added up without their share", "nn/learner.py",
        "(loss.value if share == 1.0 else share * loss.value).backward()", "loss.value.backward()",
        "nn/test_learner.py nn/test_micro_batches.py"),
    Bug("a gradient of NaN reaches the optimizer", "nn/optimizers.py", "if not math.isfinite(size):", "if False:",
        "nn/test_learner.py"),
    Bug("continuous actions leave their bounds", "nn/distributions.py",
        "np.clip(action.reshape(len(action), *self._space.shape), self._space.low, self._space.high)",
        "action.reshape(len(action), *self._space.shape)", "nn/test_distributions.py"),
    Bug("the final evaluation plays the episodes that chose the best", "run/run.py",
        '"final evaluation" if final else "evaluation"', '"evaluation"', "run/test_run.py"),
    Bug("a damaged checkpoint is taken for whole", "run/checkpoint_files.py",
        'digest(path) != facts["sha256"]', "False", "run/test_checkpoint.py faults/test_damaged_checkpoints.py"),
    Bug("Doom's clock is a termination", "envs/doom/engine.py",
        "Outcome(reward, shaping, False, self._end_tic is not None and after >= self._end_tic, tics)",
        "Outcome(reward, shaping, self._end_tic is not None and after >= self._end_tic, False, tics)",
        "envs/doom/test_doom.py"),
    Bug("a limit of Doom's engine itself is a termination", "envs/doom/engine.py",
        "truncated = game.is_episode_timeout_reached() and not game.is_player_dead()", "truncated = False",
        "envs/doom/test_doom.py"),
    Bug("actions of Discrete(n, start=k) are not shifted", "envs/gym/conversion.py",
        'self._first_action = getattr(action_space, "start", 0)', "self._first_action = 0",
        "envs/gym/test_conversion.py envs/gym/test_gym.py"),
    Bug("a pair that does not fit is trained", "app/resolve.py", "if kind not in algo.action_kinds:", "if False:",
        "app/test_cli_errors.py"),
    Bug("eval is always greedy", "commands/eval.py", "config.eval_greedy", "True", "commands/test_eval_greedy.py"),
]  # fmt: skip


def found(checkout: Path, tests: str) -> bool:
    """Return whether a test fails."""
    files = [str(checkout / "tests" / name) for name in tests.split()]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--numprocesses=0"]
    env = os.environ | {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(checkout / "numba")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], cwd=checkout, env=env, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode == 1


def main() -> None:
    """Run the control, then every bug."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a word in the description of the bugs to plant")
    only = parser.parse_args().only
    bugs = [bug for bug in BUGS if only in bug.what]
    missed = []
    with tempfile.TemporaryDirectory() as place:
        checkout = Path(place) / "rltrain"
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__"))
        for tests in sorted({bug.tests for bug in bugs}):
            assert not found(checkout, tests), f"without a bug, {tests} must pass"
        for bug in bugs:
            path = checkout / "rltrain" / bug.file
            source = path.read_text()
            assert source.count(bug.old) == 1, f"{bug.file} has {source.count(bug.old)} times: {bug.old}"
            path.write_text(source.replace(bug.old, bug.new))
            caught = found(checkout, bug.tests)
            path.write_text(source)
            missed += [] if caught else [bug.what]
            print(f"{'found ' if caught else 'MISSED'}  {bug.what} ({bug.file}; {bug.tests})", flush=True)
    print(f"{len(bugs) - len(missed)} of {len(bugs)} found")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
