"""Small real runs that the tests of the commands share; no test changes what they hold but videos/ and eval/."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from rltrain import cli

QUICK = ["device=cpu", "progress=false", "eval_episodes=1", "final_eval_episodes=1", "precision=fp32"]
RUNS = {
    "frozen_lake": ["algo=q_learning", "env=frozen_lake", "total_steps=20000"],
    "cartpole": [
        *("algo=ppo", "env=cartpole", "total_steps=1024", "num_envs=4", "algo.num_steps=32", "batch_size=64"),
        *("algo.num_epochs=2", "network.hidden_sizes=[16]"),
    ],
    "doom": [
        *("algo=dqn", "env=doom", "total_steps=60", "num_envs=1", "batch_size=8", "algo.learning_starts=40"),
        *("algo.updates_per_round=1", "algo.replay_capacity=200", "eval_every_steps=0", "env.frame_skip=10"),
    ],
}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a finished run, by its name in RUNS; made when first asked for."""
    root, folders = tmp_path_factory.mktemp("commands"), {}

    def get(name):
        if name not in folders:
            argv = [*RUNS[name], *QUICK, f"run_dir={root / name}"]
            sys.argv = ["rltrain", *argv]
            GlobalHydra.instance().clear()
            assert cli.run(argv) == 0
            folders[name] = (root / name / "latest").resolve()
        return folders[name]

    yield get
    sys.argv = ["rltrain"]
