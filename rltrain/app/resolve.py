"""Resolve a composed configuration: replace null and auto by values, and check that all settings fit together."""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rltrain.config import network as network_config
from rltrain.config import saved as saved_config
from rltrain.config.algorithms import ACTION_WORDS, ALGOS, CONTINUOUS, Memory, action_kind, frame_bytes
from rltrain.config.environments import ENVIRONMENTS, folder_name
from rltrain.config.run import SHORTHANDS, RunConfig
from rltrain.config.runtime import RUNTIMES, RayConfig, TorchrunConfig
from rltrain.config.validate import in_range
from rltrain.envs import registry
from rltrain.envs.spaces import in_words, pixel_shape
from rltrain.errors import ConfigError, EnvironmentFailure
from rltrain.run import checked, checkpoint
from rltrain.runtime import launch
from rltrain.system import process, ram

EVERY_STEPS = ("log_every_steps", "eval_every_steps", "checkpoint_every_steps")
"""The run's keys that are null for a share of `total_steps`."""

_FLOAT_BYTES = 4
_USABLE = 0.9
"""Fraction of the free memory that a suggested size may fill; networks and emulators need the rest."""


def _refuse_subnormal(value: Any, key: str = "") -> None:
    """Raise ConfigError for a number that is 0 in the trainer's process: its hash of the settings would be another."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, inside in pairs:
        _refuse_subnormal(inside, f"{key}.{name}" if key else str(name))
    if isinstance(value, float) and 0 < abs(value) < sys.float_info.min:
        raise ConfigError(f"{value} counts as 0 in a training", key, f"use 0, or {sys.float_info.min} or more")


def resolve(config: RunConfig) -> RunConfig:
    """Replace null and auto by values and check every combination.

    Raises ConfigError, EnvironmentFailure or OutOfMemory, and CheckpointError for an init_from of another environment.
    """
    _check_names(config)
    _refuse_subnormal(dataclasses.asdict(config))
    saved_config.from_dict(dataclasses.asdict(config))  # no command could read another one from the run's config.yaml
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, name=folder_name(config.env)))
    if cfg := getattr(config.env, "cfg", None):  # so that `eval` and `resume` find it from any folder
        config = dataclasses.replace(config, env=dataclasses.replace(config.env, cfg=str(process.absolute(cfg))))
    algo = _with_shorthands(config)
    chosen = []
    if isinstance(config.runtime, RayConfig) and config.num_envs is None and algo.num_envs < config.runtime.actors:
        chosen.append("num_envs")  # DQN's default is one environment, but each explores with an epsilon of its own
        algo = dataclasses.replace(algo, num_envs=4 * config.runtime.actors)
    if not algo.trains_on_gpu and config.device != "cpu":
        # Tabular algorithms accept device=cuda and ignore it: only networks use a device.
        if config.device != "auto" and not algo.is_tabular:
            raise ConfigError(f"{algo.name} trains on the CPU only", "device", "use device=cpu, or algo=a2c")
        if config.device == "auto":
            chosen.append("device")
            config = dataclasses.replace(config, device="cpu")
    frame_space, action_space = registry.spaces(config.env)
    settled = registry.settle(config.env, action_space)
    before = vars(config.env)
    chosen += [f"env.{key}" for key, value in vars(settled).items() if value is not None and before.get(key) is None]
    config = dataclasses.replace(config, env=settled)
    if config.network.name == "auto":
        chosen.append("network")
        name = "table" if algo.is_tabular else _choose_network(pixel_shape(frame_space), config.device)
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, name=name))
    _check_fits(config, frame_space, action_space)
    check_environment(config)
    steps = config.total_steps
    chosen += [key for key in EVERY_STEPS if getattr(config, key) is None]
    resolved = dataclasses.replace(
        config,
        algo=algo,
        num_envs=algo.num_envs,
        batch_size=getattr(algo, "batch_size", None),
        log_every_steps=config.log_every_steps or max(1, steps // 100),
        eval_every_steps=max(1, steps // 10) if config.eval_every_steps is None else config.eval_every_steps,
        checkpoint_every_steps=checked.answer(algo, "checkpoint_every_steps", int, frame_space, steps)
        if config.checkpoint_every_steps is None
        else config.checkpoint_every_steps,
        chosen=sorted({*config.chosen, *chosen}),
    )
    check_memory(resolved, frame_space)
    algo.check(frame_space, action_space, config.env.stack_num)
    resolved = check_runtime(resolved)
    check_device(resolved)
    if resolved.init_from is not None:
        # `Run` checks it again; here no run folder is left behind.
        checkpoint.check_first_weights(Path(resolved.init_from), in_words(*registry.spaces(resolved.env)))
    return resolved


def check_environment(config: RunConfig) -> None:
    """Raise ConfigError if a tabular algorithm would learn from a table that does not describe the environment.

    Call it before a run is resumed, too: the environment may have changed since.
    """
    if config.algo.is_tabular:
        from rltrain.envs.tabular.table import check_table  # imports numba

        check_table(config.env)


def check_runtime(config: RunConfig) -> RunConfig:
    """Return the configuration with the processes of plain torchrun, if that started this one.

    Raises ConfigError if the algorithm or its sizes cannot be spread over the processes.
    """
    if launch.is_launched():
        runtime = config.runtime if config.runtime.name == "torchrun" else TorchrunConfig()
        size, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        config = dataclasses.replace(config, runtime=dataclasses.replace(runtime, processes=local))
    elif isinstance(config.runtime, RayConfig):
        _check_ray(config.runtime, config.algo)
        return config
    elif config.runtime.name == "torchrun":
        size = launch.num_processes(config.runtime) * config.runtime.nodes
    else:
        return config
    algo = config.algo
    if not algo.supports_torchrun:
        able = " or ".join(name for name, kind in ALGOS.items() if kind.supports_torchrun)
        raise ConfigError(f"{algo.name} learns in one process", "runtime", f"use runtime=local, or algo={able}")
    if getattr(algo, "normalize_reward", False):
        what = "the deviation of returns is that of one process"
        raise ConfigError(what, "algo.normalize_reward", "use algo.reward_scale, or runtime=local")
    if algo.num_envs < size:
        what = f"{size} processes cannot share {algo.num_envs} environments"
        raise ConfigError(what, "num_envs, runtime.processes", f"use num_envs={size} or more")
    batch_size = getattr(algo, "batch_size", algo.num_envs)
    if batch_size % algo.num_envs:
        what = f"a minibatch of {batch_size} cannot have equally many steps of each of {algo.num_envs} environments"
        near = max(1, round(batch_size / algo.num_envs)) * algo.num_envs
        raise ConfigError(what, "batch_size, num_envs", f"use a multiple of num_envs, such as batch_size={near}")
    return config


def _check_ray(runtime: RayConfig, algo: Any) -> None:
    """Raise ConfigError if actors cannot play for the algorithm, or EnvironmentFailure if Ray is not installed."""
    if not algo.supports_ray:
        raise ConfigError(
            f"{algo.name} has no actors apart from its learner", "runtime", "use runtime=local, or algo=impala or dqn"
        )
    if algo.num_envs % runtime.actors:
        what = f"{runtime.actors} actors cannot have equal parts of {algo.num_envs} environments"
        near = max(1, round(algo.num_envs / runtime.actors)) * runtime.actors
        fix = f"use a multiple of runtime.actors, such as num_envs={near}"
        raise ConfigError(what, "num_envs, runtime.actors", fix)
    require_ray("runtime")


def require_ray(key: str) -> None:
    """Raise EnvironmentFailure if Ray is not installed. key: the setting that needs it."""
    if find_spec("ray") is None:
        raise EnvironmentFailure("Ray is missing", key, "pip install 'rltrain[ray]'")


def check_device(config: RunConfig) -> None:
    """Raise ConfigError if the device is missing, or does not support the precision, CUDA graphs or compilation.

    The check imports torch, so it is skipped if the settings ask for none of these.
    """
    wants_cuda = {"cuda_graphs": config.cuda_graphs == "true", "precision": config.precision == "tf32"}
    if config.device in ("auto", "cpu") and not config.compile and not any(wants_cuda.values()):
        return
    from rltrain.nn.device import resolve_device

    algo, device = config.algo, resolve_device(config.device)
    for key, wanted in wants_cuda.items():
        if wanted and device.type != "cuda":
            raise ConfigError(f"{key}={getattr(config, key)} needs a CUDA device", f"{key}, device", f"use {key}=auto")
    if config.cuda_graphs == "true" and not algo.supports_cuda_graphs:
        raise ConfigError(f"cuda_graphs is not supported by {algo.name}", "cuda_graphs", "use cuda_graphs=auto")
    if config.compile:
        if not algo.supports_compile:
            raise ConfigError(f"compile is not supported by {algo.name}", "compile", "use compile=false")
        from rltrain.fast.compilation import require_compiler

        require_compiler(device)


def check_memory(config: RunConfig, frame_space: Any) -> None:
    """Raise OutOfMemory if the network, the replay buffer or the rollout is larger than the free memory."""
    if config.network.name == "mlp":
        _check_network(config, frame_space)
    need = checked.answer(config.algo, "memory", Memory | None, frame_space, config.env.stack_num, False)
    # _frames_on_device imports torch: call it only if the answer matters.
    if need is not None and need.num_bytes > ram.free_bytes() and _frames_on_device(config, frame_space):
        need = checked.answer(config.algo, "memory", Memory | None, frame_space, config.env.stack_num, True)
    if need is not None:
        fits = int(_USABLE * ram.free_bytes() / max(need.bytes_per_unit, 1))
        fix = f"use {need.key}={fits}" if fits else f"use a smaller num_envs than {config.algo.num_envs:,}"
        ram.require(need.num_bytes, need.what, need.key, fix)


def _check_network(config: RunConfig, frame_space: Any) -> None:
    """Raise OutOfMemory for an mlp that cannot fit. The count is low: some algorithms have two, or more moments."""
    num_inputs = getattr(frame_space, "n", None) or math.prod(frame_space.shape or ()) * config.env.stack_num
    num_parameters = network_config.mlp_parameters(config.network, int(num_inputs))
    num_bytes = _FLOAT_BYTES * num_parameters * 3  # the weights, their gradients, and a moment of the optimizer
    if num_bytes > ram.free_bytes() and _has_accelerator(config.device):
        num_bytes //= 3  # the weights alone are made in the computer's memory
    ram.require(num_bytes, f"a network of {num_parameters:,} parameters", *network_config.SMALLER_LAYERS)


def _frames_on_device(config: RunConfig, frame_space: Any) -> bool:
    choice = getattr(config.algo, "replay_device", "cpu")
    if choice == "cpu" or config.device == "cpu":
        return False
    from rltrain.nn import device as devices

    device = devices.resolve_device(config.device)
    num_bytes = config.algo.replay_capacity * frame_bytes(frame_space)
    # Only CUDA devices have their own memory; on other devices `replay_device=device` uses host memory.
    return device.type == "cuda" and devices.takes_replay(choice, device, num_bytes)


def _with_shorthands(config: RunConfig) -> Any:
    """Return the algorithm's settings with the run's `num_envs` and `batch_size` filled in. Raises ConfigError."""
    algo = dataclasses.asdict(config.algo)
    for key in SHORTHANDS:
        if getattr(config, key) is not None:
            if key not in algo:
                raise ConfigError(
                    f"{algo['name']} has no batch_size: it makes one update from each whole rollout",
                    key,
                    "use algo.num_steps and num_envs, or micro_batch_size to save memory",
                )
            algo[key] = getattr(config, key)
    return type(config.algo)(**algo)


def _check_names(config: RunConfig) -> None:
    """Raise ConfigError if `algo.name` or `env.family` was set directly: the other settings would not match it."""
    algo, env, runtime = config.algo, config.env, config.runtime
    if RUNTIMES.get(runtime.name) is not type(runtime):
        what = f"runtime.name={runtime.name} does not choose the runtime"
        raise ConfigError(what, "runtime.name", "use runtime=NAME")
    if ALGOS.get(algo.name) is not type(algo):
        raise ConfigError(f"algo.name={algo.name} does not choose the algorithm", "algo.name", "use algo=NAME")
    if ENVIRONMENTS.get(env.family) is not type(env):
        raise ConfigError(f"env.family={env.family} does not choose the environment", "env.family", "use env=NAME")


def _choose_network(shape: tuple[int, ...], device: str) -> str:
    """Return the network that network=auto means for one frame's shape. Raises ConfigError if the device is missing."""
    if len(shape) != 3:
        return "mlp"
    side, smallest = min(shape[1:]), network_config.SMALLEST_FRAME
    if side < smallest["small_cnn"]:
        return "impala_cnn"
    return "nature_cnn" if side >= smallest["nature_cnn"] and _has_accelerator(device) else "small_cnn"


def _has_accelerator(device: str) -> bool:
    if device == "cpu":
        return False
    from rltrain.nn.device import resolve_device

    return resolve_device(device).type != "cpu"


def _check_fits(config: RunConfig, frame_space: Any, action_space: Any) -> None:
    """Raise ConfigError if the algorithm or the network does not support the observations or the actions."""
    algo, env, network = config.algo, config.env.name, config.network.name
    pixels = len(frame_space.shape or ()) == 3
    discrete_states = hasattr(frame_space, "n")
    in_range("env.stack_num", config.env.stack_num, 1, 1 if discrete_states else 255)
    if algo.is_tabular and not discrete_states:
        seen = "pixels" if pixels else "continuous observations"
        what = f"{algo.name} needs discrete states, but {env} has {seen}"
        raise ConfigError(what, "algo, env", "use algo=dqn, or env=taxi")
    kind = action_kind(action_space)
    if kind not in algo.action_kinds:
        needs, has = ACTION_WORDS[algo.action_kinds[0]], ACTION_WORDS[kind]
        fix = "use algo=ppo" if kind == CONTINUOUS else "use algo=ppo, or an environment with one action per step"
        raise ConfigError(f"{algo.name} needs {needs}, but {env} has {has}", "algo, env", fix)
    network_config.check_fits(network, pixel_shape(frame_space), env)
    if network == "table" and not algo.is_tabular:
        raise ConfigError(f"{algo.name} needs a network", "network", "use network=auto")
    if algo.is_tabular and network != "table":
        raise ConfigError(f"{algo.name} uses a table, not a network", "network", "use network=auto")
