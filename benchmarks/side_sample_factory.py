"""Sample Factory's side of a paired benchmark on Doom basic. It runs in its own virtual environment.

    side_sample_factory.py WARM_UP STEPS [--key=value...]

It runs Sample Factory's example (sf_examples.vizdoom.train_vizdoom) with the settings of our side: frame skip 4, no
recurrent layer, rollouts of 32 steps, one epoch of minibatches of 1024.
"""

import sys
import tempfile

from gate import Gate
from sample_factory.algo.runners.runner import AlgoObserver
from sample_factory.train import make_runner
from sf_examples.vizdoom.train_vizdoom import parse_vizdoom_cfg, register_vizdoom_components

FRAME_SKIP = 4
KEYS = [
    "--env=doom_basic", "--algo=APPO", "--device=cpu", f"--env_frameskip={FRAME_SKIP}", "--use_rnn=False",
    "--rollout=32", "--batch_size=1024", "--num_batches_per_epoch=1", "--num_epochs=1", "--wide_aspect_ratio=False",
    "--num_workers=2", "--num_envs_per_worker=8", "--train_for_env_steps=1000000000", "--save_every_sec=100000",
    "--save_best_every_sec=100000", "--experiment=benchmark",
]  # fmt: skip


class Paused(AlgoObserver):
    """Calls the gate after each training step. Sample Factory counts emulator frames."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_training_step(self, runner, training_iteration_since_resume: int) -> None:
        """Wait at the gate, which blocks the runner's event loop. The gate also stops the child processes."""
        self.gate(sum(runner.env_steps.values()) // FRAME_SKIP)


if __name__ == "__main__":
    register_vizdoom_components()
    with tempfile.TemporaryDirectory() as folder:
        cfg = parse_vizdoom_cfg([*KEYS, f"--train_dir={folder}", *sys.argv[3:]])
        cfg, runner = make_runner(cfg)
        runner.register_observer(Paused(Gate(int(sys.argv[1]), int(sys.argv[2]), stop_children=True)))
        runner.init()
        runner.run()
