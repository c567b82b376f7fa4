"""Train until a score is reached, and print the seconds of training. `time_to_score.py` starts it for each side.

    score_side.py ours|peer ppo|dqn|dqn_doom SEED MAX_STEPS [key=value...]

The greedy policy regularly plays 20 episodes in other environments. The clock does not count these evaluations.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass

EPISODES = 20


@dataclass(frozen=True)
class Goal:
    """A task and the score to reach."""

    keys: tuple[str, ...]
    """rltrain's keys."""
    every_steps: int
    """Agent steps between two evaluations."""
    score: float
    """The mean return to reach."""


GOALS = {
    "ppo": Goal(("algo=ppo", "env=cartpole"), 2048, 475),
    "dqn": Goal(("algo=dqn", "env=cartpole"), 2048, 475),
    "dqn_doom": Goal(("algo=dqn", "env=doom"), 1000, 75),
}


class Watch:
    """Measures the training time without the evaluations."""

    def __init__(self, goal: Goal, max_steps: int) -> None:
        self.goal, self.max_steps = goal, max_steps
        self.seconds, self.start_s, self.next_step = 0.0, time.perf_counter(), goal.every_steps

    def __call__(self, step: int, play) -> None:
        """Evaluate if it is due. `play()` returns the mean return. Ends the process when the score is reached."""
        if step < self.next_step:
            return
        self.seconds += time.perf_counter() - self.start_s
        self.next_step += self.goal.every_steps
        score = play()
        if score >= self.goal.score or step >= self.max_steps:
            reached = bool(score >= self.goal.score)
            print(json.dumps({"reached": reached, "steps": step, "train_s": round(self.seconds, 2)}), flush=True)
            os._exit(0)
        self.start_s = time.perf_counter()


def ours(goal: str, seed: str, max_steps: int, keys: list[str]) -> None:
    """Train rltrain with its tuned settings and with `keys`."""
    from rltrain.system import process

    process.prepare()
    from rltrain.cli import main
    from rltrain.run.evaluation import play_episodes
    from rltrain.run.run import Run

    after_step, begin, watches = Run.after_step, Run.begin, []

    def start(run: Run, agent, **parts) -> bool:
        watches.append(Watch(GOALS[goal], max_steps))  # the clock starts here, without the start-up
        return begin(run, agent, **parts)

    def after_step_and_look(run: Run, num_steps: int) -> None:
        after_step(run, num_steps)
        play = lambda: play_episodes(run.config, run.agent, EPISODES, 1000 + run.step, True)["mean_reward"]  # noqa: E731
        watches[0](run.step, play)

    Run.begin, Run.after_step = start, after_step_and_look
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["progress=false", "eval_every_steps=0", "checkpoint_every_steps=0", f"run_dir={folder}"]
        sys.argv[1:] = [*GOALS[goal].keys, f"seed={seed}", *quiet, *keys]
        main()


def peer(goal: str, seed: str, max_steps: int) -> None:
    """Train Stable-Baselines3 with RL Zoo's settings."""
    from side_sb3 import WORKS
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    fresh = make_vec_env("CartPole-v1", n_envs=8, seed=1000)

    class Look(BaseCallback):
        """Evaluates between rollouts."""

        def _on_training_start(self) -> None:
            self.watch = Watch(GOALS[goal], max_steps)

        def _on_rollout_start(self) -> None:
            self.watch(self.num_timesteps, lambda: evaluate_policy(self.model, fresh, EPISODES)[0])

        def _on_step(self) -> bool:
            return True

    model = WORKS[f"{goal}_cartpole"]()
    model.set_random_seed(int(seed))
    model.learn(max_steps, callback=Look())


if __name__ == "__main__":
    side, goal, seed, max_steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    ours(goal, seed, max_steps, sys.argv[5:]) if side == "ours" else peer(goal, seed, max_steps)
