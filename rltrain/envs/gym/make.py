"""Make a gymnasium environment, and find its spaces and its time limit."""

import contextlib
import copy
import dataclasses
import importlib.util
import multiprocessing
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from rltrain.config import plugin_modules
from rltrain.config.environments import GymConfig
from rltrain.config.user_code import describe, place_of
from rltrain.envs import registry
from rltrain.envs.gym import guard
from rltrain.envs.gym.conversion import Conversion, far_actions, out_of_reach
from rltrain.envs.patience import MAKING_S, StandsStill, interruptible, is_stopping
from rltrain.errors import ConfigError, EnvironmentFailure, nearest
from rltrain.system import global_random, notices, signals


def make_env(config: GymConfig) -> gymnasium.Env:
    """Return an environment from `gymnasium.make`.

    Raises ConfigError for an unknown id or wrong kwargs, and EnvironmentFailure if a package is missing, if the code of
    the environment raises an error or does not return in time, or if it returns an environment again.
    """
    if ":" in config.id:  # gymnasium imports the module
        plugin_modules.look_in_working_directory()
        plugin_modules.NAMED.add(config.id.partition(":")[0])
    limit_s = max(MAKING_S, config.step_timeout_s)
    _prepare_registry(config.id)
    try:
        with guard.environment_code(config.id), _warnings_hidden(), interruptible(limit_s):
            kwargs = copy.deepcopy(config.kwargs)  # a constructor may take entries out of a mapping that it is given
            env = gymnasium.make(
                config.id, max_episode_steps=config.max_episode_steps, disable_env_checker=True, **kwargs
            )
    except StandsStill as hang:
        what = "hung while it was made, and the run stops" if is_stopping() else f"was not made in {limit_s:g} s"
        fix = f"the fault is in the environment; if it needs longer, use env.step_timeout_s={3 * limit_s:g}"
        raise EnvironmentFailure(f"environment '{config.id}' {what}", "env.id", fix) from hang
    except EnvironmentFailure as failure:
        error = failure.__cause__
        is_unknown = isinstance(error, gymnasium.error.UnregisteredEnv | gymnasium.error.DeprecatedEnv)
        if is_unknown and not place_of(failure):  # else an environment inside of a factory
            raise ConfigError(f"unknown environment '{config.id}'", "env.id", _hint(config.id)) from error
        if isinstance(error, gymnasium.error.DependencyNotInstalled | ModuleNotFoundError):
            fix = "use `pip install` to install that package"
            if ":" in config.id:
                fix += f", or {plugin_modules.where_to_start()}"
            if ".py:" in config.id:
                fix = f"write it without .py: env.id={config.id.replace('.py:', ':')}"
            raise EnvironmentFailure(f"'{config.id}' needs a package: {error}", "env.id", fix) from error
        # What gymnasium or an environment of gymnasium refuses is a setting; so is what was typed as env.kwargs.
        is_setting = isinstance(error, TypeError | ValueError | KeyError | gymnasium.error.Error)
        if is_setting and error is not None and (config.kwargs or not place_of(error)):
            what = f"'{config.id}' cannot be made: {describe(error)}"
            raise ConfigError(what, "env.id, env.kwargs", "correct env.id or env.kwargs") from error
        raise EnvironmentFailure(f"{failure.what} while it was made", failure.where, failure.fix) from error
    finally:
        signals.keep_process()
        _keep_registration(config.id)
    inner = guard.layers(env)[-1]
    # With workers, this process makes environments one after another, for a look at them: one object will do.
    if id(inner) in (guard.living if config.workers else guard.made):
        what = f"environment '{config.id}' is the same object each time: training and evaluation would play one game"
        raise EnvironmentFailure(what, "env.id", "make a new environment in each call of its factory")
    guard.living[id(inner)] = guard.made[id(inner)] = inner
    if multiprocessing.parent_process() is None:  # a worker's trainer has told it
        _tell_of_statistics(env, config.id)
        _tell_of_inner_limit(env, config)
    return env


@contextlib.contextmanager
def _warnings_hidden() -> Iterator[None]:
    """Show no warning inside. What the environment says about warnings stays, such as a filter that raises them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*")
        hiding, before = warnings.filters[0], warnings.showwarning
        try:
            yield
        finally:
            filters, show = [each for each in warnings.filters if each is not hiding], warnings.showwarning
    if show is not before:
        warnings.showwarning = show
    if filters != warnings.filters:
        warnings.resetwarnings()  # it also lets go of what Python has noted by the earlier filters
        warnings.filters = filters


def seed_generators(env: gymnasium.Env, number: int) -> None:
    """Seed the spaces of an environment and of what its wrappers hold, and its `np_random`.

    Its `reset` may forget to seed that. `reset(seed=number)` makes the same generator if it passes the seed on to
    gymnasium, as it should.
    """
    global_random.seed_fresh(number)
    for layer in reversed(guard.layers(env)):
        for name in ("action_space", "observation_space"):
            with contextlib.suppress(AttributeError, NotImplementedError):  # a wrapper may have what is missing inside
                getattr(layer, name).seed(number)
    base: Any = env.unwrapped
    if isinstance(getattr(base, "_np_random", None), np.random.Generator | None):  # else one of the environment's own
        base._np_random, base._np_random_seed = seeding.np_random(number)


_registrations: dict[str, Any] = {}
"""What a module has registered under an id, by both: `module:Id-v0`; by the id alone what it meant before."""


def _prepare_registry(env_id: str) -> None:
    """Let `module:Id-v0` mean what its module has registered, and `Id-v0` what it meant before that.

    A sweep may compare the environments of two modules in one process, and Python imports each module once.
    """
    module, _, name = env_id.rpartition(":")
    if module and module not in sys.modules and name in gymnasium.registry:  # the module may register it again
        _registrations.setdefault(name, gymnasium.registry[name])
    if env_id in _registrations:
        gymnasium.registry[name] = _registrations[env_id]


def _keep_registration(env_id: str) -> None:
    module, _, name = env_id.rpartition(":")
    if module in sys.modules and name in gymnasium.registry:
        _registrations.setdefault(env_id, gymnasium.registry[name])


_STATISTICS = {
    "obs_rms": ("observations", "observe other numbers", "with fixed numbers, in the environment"),
    "return_rms": ("rewards", "score normalised rewards", "with algo.normalize_reward=true (PPO) or algo.reward_scale"),
}
"""What wrappers normalise with a mean and deviation that they learn, by the attribute's name as in gymnasium."""


def _tell_of_statistics(env: gymnasium.Env, env_id: str) -> None:
    """Warn once about wrappers whose statistics are lost with the environment."""
    for layer in guard.layers(env):
        for name in vars(layer).keys() & _STATISTICS.keys():
            of, result, instead = _STATISTICS[name]
            what = f"environment '{env_id}' normalises {of} with statistics that each new one learns anew"
            why = f"so evaluations and resumed runs {result}"
            notices.warn_once(f"{what} ({type(layer).__name__}), {why}; normalise {instead}")


def _tell_of_inner_limit(env: gymnasium.Env, config: GymConfig) -> None:
    """Warn once about a time limit in the factory that is smaller than the one of the configuration."""
    limit = time_limit(env)
    if config.max_episode_steps and limit and limit < config.max_episode_steps:
        what = f"environment '{config.id}' has a time limit of {limit} steps inside, and its episodes end there"
        notices.warn_once(
            f"{what}: env.max_episode_steps={config.max_episode_steps} replaces that of the registration only"
        )


def tell_of_other_steps(env: gymnasium.Env, env_id: str, steps: int, wanted: int) -> None:
    """Warn once that an episode was truncated inside before the limit of the configuration, `wanted`.

    A wrapper around a time limit, such as a frame skip, takes several of the steps that it counts. Many classes count
    steps themselves. `bounded` gives NO_END_STEPS, which nobody asked for.
    """
    if wanted == registry.NO_END_STEPS and (multiprocessing.parent_process() or registry.has_bounded(env_id)):
        return
    not_reached = f"so env.max_episode_steps={wanted} is not reached"
    limits = [layer for layer in guard.layers(env) if isinstance(layer, TimeLimit)]
    reached = [limit._max_episode_steps for limit in limits if limit._max_episode_steps <= (limit._elapsed_steps or 0)]
    if not reached:
        text = f"environment '{env_id}' itself truncated an episode after {steps} steps, {not_reached}"
        notices.warn_once(text, about=f"{env_id} {wanted}")
    elif min(reached) >= wanted:  # else `_tell_of_inner_limit` has told it
        what = f"environment '{env_id}' has a time limit of {min(reached)} steps inside"
        text = f"{what} that the agent reaches in {steps}, because a wrapper takes several at once, {not_reached}"
        notices.warn_once(text, about=f"{env_id} {wanted}")


def tells_of_statistics(env_id: str) -> bool:
    """Return True if a warning has told that the environment learns statistics."""
    return notices.has_told(f"environment '{env_id}' normalises ")


@contextlib.contextmanager
def opened(config: GymConfig, seed: int = 0) -> Iterator[gymnasium.Env]:
    """Make an environment for a look at it, and close it. Raises what `make_env` raises.

    It is the first of its process, in which a class may draw what it keeps for all others. seed: of what its
    constructor draws.
    """
    with global_random.fixed(seed):
        env = make_env(config)
    try:
        yield env
    finally:
        guard.close(env, config.id)


def spaces(config: GymConfig) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return the (single-frame observation, action) spaces of the pool. Raises what `make_env` raises."""
    with opened(config) as env:
        conversion = Conversion(env, config)
        _note(env, config)
        return conversion.frame_space, conversion.action_space


def counted_from(config: GymConfig) -> tuple[int, Any]:
    """Return `Conversion.counted_from` of the environment. Raises what `make_env` raises."""
    with opened(config) as env:
        return Conversion(env, config).counted_from


def settle(config: GymConfig, action_space: gymnasium.Space) -> GymConfig:
    """Return the configuration of a new run with `scale_actions` decided, and tell what is unusual about the actions.

    action_space: the second of `spaces(config)`. Raises what `make_env` raises.
    """
    if not isinstance(action_space, Box):
        return dataclasses.replace(config, scale_actions=bool(config.scale_actions))
    space: Any = _facts(config).actions
    if out_of_reach(space):
        what = f"the actions of '{config.id}' lie between {space.low.tolist()} and {space.high.tolist()}"
        why = "a new policy acts around 0 with deviation 1, and all beyond a bound is played as the bound"
        notices.warn_once(f"{what}; {why}; shift them in the environment, so that 0 is a good action to begin with")
    if not far_actions(space):
        return dataclasses.replace(config, scale_actions=bool(config.scale_actions))
    bounds = f"the actions of '{config.id}' lie between {space.low.tolist()} and {space.high.tolist()}"
    if config.scale_actions is False:
        why = "a new policy acts around 0 with deviation 1, which reaches little of that"
        notices.warn(f"{bounds}; {why}; use env.scale_actions=true")
        return config
    notices.tell(f"{bounds}; the policy acts from -1 to 1 and is scaled: env.scale_actions=true")
    return dataclasses.replace(config, scale_actions=True)


def without_limit(env: gymnasium.Env) -> tuple[gymnasium.Env, int]:
    """Return the environment without what `gymnasium.make` put around it, and the time limit that was removed, or 0.

    These two wrappers take as long as a step of CartPole, so the pool counts the steps itself. A time limit of the
    factory's own stays inside, and so does a subclass, with whatever else it does.
    """
    limit = 0
    if type(env) is TimeLimit:
        limit, env = env._max_episode_steps, env.env
    if type(env) is OrderEnforcing:
        env = env.env
    return env, limit


def time_limit(env: gymnasium.Env) -> int | None:
    """Return the smallest time limit among the wrappers of an environment, in agent steps; None if there is none."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)


def missing_limit(config: GymConfig) -> str | None:
    """Return what is missing, in words, if neither the configuration nor the environment has a time limit; else None.

    Raises what `make_env` raises.
    """
    return None if known_limit(config) else f"'{config.id}' is registered without a time limit (max_episode_steps)"


def known_limit(config: GymConfig) -> int | None:
    """Return the time limit of the configuration, the registration or a wrapper, in agent steps; None without one.

    Raises what `make_env` raises.
    """
    spec = _registrations.get(config.id) or gymnasium.registry.get(config.id)
    registered = spec.max_episode_steps if spec is not None else None
    return config.max_episode_steps or registered or _facts(config).limit


class _Facts(NamedTuple):
    """What an environment declares."""

    actions: gymnasium.Space
    limit: int | None


_seen: dict[str, _Facts] = {}
"""Facts of the environments that this process has made, because making one may take long."""


def _key(config: GymConfig) -> str:
    return f"{config.id} {config.kwargs} {config.max_episode_steps}"


def _facts(config: GymConfig) -> _Facts:
    if _key(config) not in _seen:
        with opened(config) as env:
            _note(env, config)
    return _seen[_key(config)]


def _note(env: gymnasium.Env, config: GymConfig) -> None:
    with guard.environment_code(config.id):
        _seen[_key(config)] = _Facts(env.action_space, time_limit(env))


def _hint(env_id: str) -> str:
    """Return what to use instead of an unknown id."""
    module, _, name = env_id.rpartition(":")
    entry_points = _entry_points()
    package = module.partition(".")[0]
    own = [f"{module}:{known}" for known, entry in entry_points.items() if re.split(r"[.:]", entry)[0] == package]
    if module and own:
        return nearest(env_id, own)
    if module in sys.modules:
        return f"the module {module} registers no environment: call gymnasium.register('{name}', ...) in it"
    name = re.sub(r"^ALE/|(NoFrameskip|Deterministic)?-v\d+$", "", name)
    game = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.removesuffix("-ram")).lower()
    if importlib.util.find_spec("ale_py") is not None:
        from rltrain.envs.atari.pool import games

        if game in games():
            return f"Atari games have an environment of their own: use env=atari env.game={game}"
        if "ALE/" in env_id or "NoFrameskip" in env_id:
            return f"for an Atari game use env=atari env.game=NAME; {nearest(game, games())}"
    hint = nearest(env_id, _installed())
    return hint if hint.endswith("?") else "for an environment of your own use env.id=my_module:Name-v0"


def _entry_points() -> dict[str, str]:
    """Return what makes the environment of each registered id: `module:attribute`, or `module:` of a callable."""
    return {
        name: entry if isinstance(entry := spec.entry_point, str) else f"{getattr(entry, '__module__', '')}:"
        for name, spec in gymnasium.registry.items()
    }


def _installed() -> list[str]:
    """Return the registered ids, without gymnasium's own ids that are retired or whose package is missing."""
    needs = {"mujoco": "mujoco", "box2d": "Box2D", "phys2d": "jax", "tabular": "jax"}
    missing = [module for module, package in needs.items() if importlib.util.find_spec(package) is None]
    # The entry point of a retired id (Ant-v2) is a function in the module `gymnasium.envs` that raises an error.
    without = ("gymnasium.envs:", *(f"gymnasium.envs.{module}" for module in missing))
    return [name for name, entry in _entry_points().items() if not entry.startswith(without)]
