"""Training in this process with a look into every step."""

from pathlib import Path

import pytest

from rltrain.app.train import train
from rltrain.config import run as schema
from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig
from rltrain.run.run import Run


@pytest.fixture(autouse=True)
def _loop_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def make_config(algo, env="CartPole-v1", steps=200, kwargs=None, num_envs=None, workdir=".", **fields) -> RunConfig:
    """A small run; fields are the algorithm's."""
    return schema.resolve(
        RunConfig(
            ALGOS[algo](**fields),
            GymConfig("test", id=env, kwargs=kwargs or {}),
            NetworkConfig(hidden_sizes=[16]),
            device="cpu",
            total_steps=steps,
            num_envs=num_envs,
            eval_every_steps=0,
            checkpoint_every_steps=0,
            final_eval_episodes=1,
            run_dir=str(workdir),
            progress=False,
        )
    )


@pytest.fixture
def config(tmp_path):
    """`make_config`, with its runs in this test's folder."""
    return lambda algo, **fields: make_config(algo, workdir=tmp_path, **fields)


@pytest.fixture
def watched(monkeypatch):
    """Train, or go on from `restored`; returns what `look(run, agent, parts)` gave after every step, and the agent."""

    def call(config, look=lambda run, agent, parts: None, folder=None, restored=None):
        seen, agents = [], []
        original = Run.after_step

        def after_step(self, num_steps, agent, **parts):
            seen.append(look(self, agent, parts))
            agents[:] = [agent]
            original(self, num_steps, agent, **parts)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "after_step", after_step)
            train(config, folder, restored)
        return seen, agents[0]

    return call
