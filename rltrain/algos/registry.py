"""The module of each algorithm, imported only when the algorithm is used: most import torch, the others numba."""

import importlib
from pathlib import Path
from types import ModuleType

from rltrain.config import plugin_modules
from rltrain.config.algorithms import base_name
from rltrain.config.run import RunConfig
from rltrain.envs import registry
from rltrain.envs.spaces import in_words
from rltrain.errors import fitting
from rltrain.run import checked, checkpoint
from rltrain.run.evaluation import Agent

PLUGIN_MODULES: dict[str, str] = {}
"""The modules of plugins, by the name of the algorithm."""

_FUNCTIONS = {"train": "config, run", "make_agent": "config, frame_space, action_space, seed"}
_OPTIONAL = {"evaluate": "config, agent, episodes, seed, greedy, stopping"}
"""The functions of an algorithm's module, with their arguments."""


def module_of(name: str) -> ModuleType:
    """Return the module of an algorithm, which has `train(config, run)` and `make_agent(config, ...)`.

    Raises ConfigError if a plugin has no such module or functions.
    """
    own = PLUGIN_MODULES.get(name)
    if own is None:
        return importlib.import_module(f"rltrain.algos.{base_name(name)}")
    return plugin_modules.part(own, f"algo={name}", _FUNCTIONS, "rltrain/algos/a2c.py", _OPTIONAL)


def load_agent(config: RunConfig, path: Path) -> Agent:
    """Return a run's agent with the weights of a checkpoint. Sets up this process for the run's config first.

    path: the checkpoint's folder. Raises CheckpointError, also if the weights do not fit the configuration, or if the
    environment has other spaces than in the training.
    """
    state = checkpoint.read(path, without="replay")
    if not config.algo.is_tabular:
        from rltrain.fast.accelerate import set_up

        set_up(config)
    frame_space, action_space = registry.spaces(config.env)
    checkpoint.check_spaces(path, in_words(frame_space, action_space))
    agent: Agent = module_of(config.algo.name).make_agent(config, frame_space, action_space, config.seed)
    checked.check_part(config, "agent", agent, "that make_agent returned")
    with fitting(path):
        agent.load_state_dict(state["agent"])
    checked.check_restored(config, "agent", agent, state["agent"], whole=False)
    return agent
