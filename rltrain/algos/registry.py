"""Where each algorithm lives. An algorithm's module is imported only when it is used: it brings torch or numba."""

import importlib
from types import ModuleType
from typing import Any

from rltrain.config.algorithms import base_name
from rltrain.config.run import RunConfig
from rltrain.envs import registry
from rltrain.run.evaluation import Agent

PLUGIN_MODULES: dict[str, str] = {}
"""The modules of the algorithms that plugins registered, by the name of the algorithm."""


def module_of(name: str) -> ModuleType:
    """Return the module of an algorithm: it has `train(config, run)` and `make_agent(config, ...)`."""
    return importlib.import_module(PLUGIN_MODULES.get(name) or f"rltrain.algos.{base_name(name)}")


def load_agent(config: RunConfig, state: dict[str, Any]) -> Agent:
    """Return the agent of a run with the weights of a checkpoint, in a process that is set up for it."""
    if not config.algo.is_tabular:
        from rltrain.fast.accelerate import set_up

        set_up(config)
    frame_space, action_space = registry.spaces(config.env)
    agent: Agent = module_of(config.algo.name).make_agent(config, frame_space, action_space, config.seed)
    agent.load_state_dict(state["agent"])
    return agent
