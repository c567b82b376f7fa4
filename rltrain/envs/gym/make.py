"""Make a gymnasium environment, and find its spaces."""

import importlib.util
import warnings

import gymnasium

from rltrain.config import plugin_modules
from rltrain.config.environments import GymConfig
from rltrain.envs.gym.conversion import Conversion
from rltrain.errors import ConfigError, EnvironmentFailure, nearest


def make_env(config: GymConfig) -> gymnasium.Env:
    """Return an environment from `gymnasium.make`.

    Raises ConfigError for an unknown id or wrong kwargs, and EnvironmentFailure if a package is missing.
    """
    if ":" in config.id:  # gymnasium imports the module
        plugin_modules.look_in_working_directory()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gymnasium.make(
                config.id, max_episode_steps=config.max_episode_steps, disable_env_checker=True, **config.kwargs
            )
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        fix = "use `pip install` to install that package"
        if ":" in config.id:
            fix += ", or start rltrain in the folder of your module"
        raise EnvironmentFailure(f"'{config.id}' needs a package: {error}", "env.id", fix) from error
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        raise ConfigError(f"unknown environment '{config.id}'", "env.id", nearest(config.id, _installed())) from error
    except (TypeError, ValueError, KeyError, gymnasium.error.Error) as error:
        fix = "correct env.id or env.kwargs"
        raise ConfigError(f"'{config.id}' cannot be made: {error}", "env.id, env.kwargs", fix) from error


def _installed() -> list[str]:
    """Return the registered ids, without gymnasium's own ids that are retired or whose package is missing."""
    needs = {"mujoco": "mujoco", "box2d": "Box2D", "phys2d": "jax", "tabular": "jax"}
    missing = [module for module, package in needs.items() if importlib.util.find_spec(package) is None]
    # The entry point of a retired id (Ant-v2) is a function in the module `gymnasium.envs` that raises an error.
    without = ("gymnasium.envs:", *(f"gymnasium.envs.{module}" for module in missing))
    made_by = {
        name: entry if isinstance(entry := spec.entry_point, str) else f"{getattr(entry, '__module__', '')}:"
        for name, spec in gymnasium.registry.items()
    }
    return [name for name, place in made_by.items() if not place.startswith(without)]


def spaces(config: GymConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return the (single-frame observation, action) spaces of the pool. Raises what `make_env` raises."""
    env = make_env(config)
    try:
        conversion = Conversion(env, config.id)
        return conversion.frame_space, conversion.action_space
    finally:
        env.close()
