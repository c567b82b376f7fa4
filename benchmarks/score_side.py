"""One training on CartPole until it scores 475; prints the seconds of training, in either side's environment.

    score_side.py ours|peer ppo|dqn SEED MAX_STEPS [key=value...]

Every 2,048 steps the greedy policy plays 20 episodes in fresh environments, with the clock stopped.
"""

import json
import os
import sys
import tempfile
import time

EVERY_STEPS, EPISODES, SCORE = 2048, 20, 475


class Watch:
    """Stops its clock while it looks at the score."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps, self.seconds, self.start_s, self.next_step = max_steps, 0.0, time.perf_counter(), EVERY_STEPS

    def __call__(self, step: int, play) -> None:
        """Evaluate where it is due by `play`, which gives a mean return; ends the process at the score."""
        if step < self.next_step:
            return
        self.seconds += time.perf_counter() - self.start_s
        self.next_step += EVERY_STEPS
        score = play()
        if score >= SCORE or step >= self.max_steps:
            reached = bool(score >= SCORE)
            print(json.dumps({"reached": reached, "steps": step, "train_s": round(self.seconds, 2)}), flush=True)
            os._exit(0)
        self.start_s = time.perf_counter()


def ours(algo: str, seed: str, max_steps: int, keys: list[str]) -> None:
    """rltrain with its own tuned settings, or with `keys`."""
    from rltrain import process

    process.prepare()
    from rltrain.cli import main
    from rltrain.evaluate import play_episodes
    from rltrain.run import Run

    after_step, make_pool, watches = Run.after_step, Run.make_pool, []

    def start(run: Run):
        pool = make_pool(run)
        watches.append(Watch(max_steps))  # what comes before is start-up
        return pool

    def after_step_and_look(run: Run, num_steps: int, agent, **parts) -> None:
        after_step(run, num_steps, agent, **parts)
        watches[0](run.step, lambda: play_episodes(run.config, agent, EPISODES, 1000 + run.step, True)["mean_reward"])

    Run.make_pool, Run.after_step = start, after_step_and_look
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["progress=false", "eval_every_steps=0", "checkpoint_every_steps=0", f"run_dir={folder}"]
        sys.argv[1:] = [f"algo={algo}", "env=cartpole", f"seed={seed}", *quiet, *keys]
        main()


def peer(algo: str, seed: str, max_steps: int) -> None:
    """Stable-Baselines3 at RL Zoo's settings."""
    from side_sb3 import WORKS
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    fresh = make_vec_env("CartPole-v1", n_envs=8, seed=1000)

    class Look(BaseCallback):
        """Between rollouts."""

        def _on_training_start(self) -> None:
            self.watch = Watch(max_steps)

        def _on_rollout_start(self) -> None:
            self.watch(self.num_timesteps, lambda: evaluate_policy(self.model, fresh, EPISODES)[0])

        def _on_step(self) -> bool:
            return True

    model = WORKS[f"{algo}_cartpole"]()
    model.set_random_seed(int(seed))
    model.learn(max_steps, callback=Look())


if __name__ == "__main__":
    side, algo, seed, max_steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    ours(algo, seed, max_steps, sys.argv[5:]) if side == "ours" else peer(algo, seed, max_steps)
