"""Training in this process with a look into every step."""

from pathlib import Path

import pytest

from rltrain.algos.parts.collector import Collector
from rltrain.app.resolve import resolve
from rltrain.app.train import train
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
    return resolve(
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

        def after_step(self, num_steps):
            seen.append(look(self, self.agent, self._parts))
            agents[:] = [self.agent]
            original(self, num_steps)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "after_step", after_step)
            train(config, folder, restored)
        return seen, agents[0]

    return call


@pytest.fixture
def learned_from(monkeypatch, watched):
    """Train for one rollout, a hand-made one in place of what would be collected; returns the agent.

    `prepare(agent)` is called before.
    """

    def call(config, rollout, prepare=lambda agent: None):
        begin = Run.begin

        def collect(self):
            self.steps.advance(rollout.num_steps * rollout.num_envs, [])
            return rollout

        def begin_prepared(self, agent, **parts):
            prepare(agent)
            return begin(self, agent, **parts)

        with monkeypatch.context() as patch:
            patch.setattr(Collector, "collect", collect)
            patch.setattr(Run, "begin", begin_prepared)
            _, agent = watched(config)
        return agent

    return call


@pytest.fixture
def collected(config, tmp_path):
    """One rollout of 20 steps of the loop in 2 environments by an agent of class `make`, and that agent."""

    def call(make, algo, acts=lambda agent: agent, **kwargs):
        run_config = config(
            algo, env="loop:Loop-v0", kwargs=kwargs, num_envs=2, num_steps=20, batch_size=40, gamma=0.98
        )
        run = Run(run_config, tmp_path, None)
        try:
            agent = make(run_config, *run.spaces, 0)
            collector = Collector(acts(agent), run.pool, run, run.generator("actions"), run.env_seed(), run_config.algo)
            return collector.collect(), agent
        finally:
            run.close()
            run.logger.close()

    return call
