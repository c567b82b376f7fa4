"""An environment that reads its settings with Hydra by itself; importing it registers `Composing-v0`."""

import gymnasium
import hydra
import numpy as np
from gymnasium import spaces
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf


class Composing(gymnasium.Env):
    """Its reward is the level in game.yaml of `folder`. how: what it does to Hydra before that."""

    def __init__(self, folder: str, how: str = "compose") -> None:
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
        if how == "clear":
            GlobalHydra.instance().clear()
            OmegaConf.clear_resolvers()
        with hydra.initialize_config_dir(config_dir=folder, version_base=None):
            self.level = hydra.compose("game").level
        if how == "resolver":  # which the module has registered when it was imported, before the first job
            self.level = OmegaConf.create({"level": "${doubled_by_composing:1}"}).level

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), float(self.level), self.steps == 5, False, {}


OmegaConf.register_new_resolver("doubled_by_composing", lambda number: 2 * int(number), replace=True)
gymnasium.register("Composing-v0", Composing)
