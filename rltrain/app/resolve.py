"""From a composed configuration to one that can be trained: fill in what null and auto stand for, check every pair."""

import dataclasses
from typing import Any

from rltrain.config import network as network_config
from rltrain.config.algorithms import ACTION_WORDS, ALGOS, CONTINUOUS, action_kind, frame_bytes
from rltrain.config.environments import ENVIRONMENTS, folder_name
from rltrain.config.run import RunConfig
from rltrain.config.validate import in_range
from rltrain.envs import registry
from rltrain.envs.spaces import pixel_shape
from rltrain.errors import ConfigError
from rltrain.system import ram

_USABLE = 0.9
"""Part of the free memory that a suggestion fills: networks and emulators need some too."""


def resolve(config: RunConfig) -> RunConfig:
    """Fill in what null stands for and check every combination. Raises ConfigError or EnvironmentFailure."""
    _check_names(config)
    config = dataclasses.replace(config, env=dataclasses.replace(config.env, name=folder_name(config.env)))
    algo = _with_shorthands(config)
    if not algo.trains_on_gpu and config.device != "cpu":
        # A table on a named GPU was never refused: `device` says where networks compute.
        if config.device != "auto" and not algo.is_tabular:
            fix = "use device=cpu, or algo=a2c"
            raise ConfigError(f"{algo.name} learns on the processor's cores alone", "device", fix)
        if config.device == "auto":
            config = dataclasses.replace(config, device="cpu")
    frame_space, action_space = registry.spaces(config.env)
    if config.network.name == "auto":
        name = "table" if algo.is_tabular else _choose_network(pixel_shape(frame_space), config.device)
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, name=name))
    _check_fits(config, frame_space, action_space)
    steps = config.total_steps
    resolved = dataclasses.replace(
        config,
        algo=algo,
        num_envs=algo.num_envs,
        batch_size=getattr(algo, "batch_size", None),
        log_every_steps=config.log_every_steps or max(1, steps // 100),
        eval_every_steps=max(1, steps // 10) if config.eval_every_steps is None else config.eval_every_steps,
        checkpoint_every_steps=algo.checkpoint_every_steps(frame_space, steps)
        if config.checkpoint_every_steps is None
        else config.checkpoint_every_steps,
    )
    algo.check(frame_space, action_space, config.env.stack_num)
    check_memory(resolved, frame_space)
    check_device(resolved)
    return resolved


def check_device(config: RunConfig) -> None:
    """Raise ConfigError where the device is not there, or cannot do what is asked of it.

    Only where something is asked, as this imports torch.
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
    """Raise OutOfMemory, with the key that would mend it, where the replay or the rollout cannot fit."""
    need = config.algo.memory(frame_space, config.env.stack_num, frames_on_device=False)
    # Asking the device imports torch, so only where the answer matters.
    if need is not None and need.num_bytes > ram.free_bytes() and _frames_on_device(config, frame_space):
        need = config.algo.memory(frame_space, config.env.stack_num, frames_on_device=True)
    if need is not None:
        fits = int(_USABLE * ram.free_bytes() / max(need.bytes_per_unit, 1))
        ram.require(need.num_bytes, need.what, need.key, f"use {need.key}={max(1, fits)}")


def _frames_on_device(config: RunConfig, frame_space: Any) -> bool:
    choice = getattr(config.algo, "replay_device", "cpu")
    if choice == "cpu" or config.device == "cpu":
        return False
    from rltrain.nn import device as devices

    device = devices.resolve_device(config.device)
    num_bytes = config.algo.replay_capacity * frame_bytes(frame_space)
    # Only CUDA devices have memory of their own: `replay_device=device` on others takes the computer's.
    return device.type == "cuda" and devices.takes_replay(choice, device, num_bytes)


def _with_shorthands(config: RunConfig) -> Any:
    """Return the algorithm's settings with the root's `num_envs` and `batch_size` written into them."""
    algo = dataclasses.asdict(config.algo)
    for key in ("num_envs", "batch_size"):
        if getattr(config, key) is not None:
            if key not in algo:
                raise ConfigError(
                    f"{algo['name']} has no batch_size: it learns from a whole rollout at once",
                    key,
                    "use algo.num_steps and num_envs, or micro_batch_size for less memory",
                )
            algo[key] = getattr(config, key)
    return type(config.algo)(**algo)


def _check_names(config: RunConfig) -> None:
    """`algo.name=ppo` would run one algorithm with the settings of another: a choice is made by its group."""
    algo, env = config.algo, config.env
    if ALGOS.get(algo.name) is not type(algo):
        raise ConfigError(f"these settings are not those of '{algo.name}'", "algo.name", "choose with algo=...")
    if ENVIRONMENTS.get(env.family) is not type(env):
        raise ConfigError(f"these settings are not those of '{env.family}'", "env.family", "choose with env=...")


def _choose_network(shape: tuple[int, ...], device: str) -> str:
    """Return what network=auto stands for, given one frame's shape. Raises ConfigError for a device that is missing."""
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
    """Raise ConfigError where the algorithm or the network does not fit the observations or the actions."""
    algo, env, network = config.algo, config.env.name, config.network.name
    pixels = len(frame_space.shape or ()) == 3
    discrete_states = hasattr(frame_space, "n")
    in_range("env.stack_num", config.env.stack_num, 1, 1 if discrete_states else 255)
    if algo.is_tabular and not discrete_states:
        seen = "pixels" if pixels else "continuous observations"
        what = f"{algo.name} needs states that can be counted, and {env} has {seen}"
        raise ConfigError(what, "algo, env", "use algo=dqn, or env=taxi")
    kind = action_kind(action_space)
    if kind not in algo.action_kinds:
        needs, has = ACTION_WORDS[algo.action_kinds[0]][0], ACTION_WORDS[kind][1]
        fix = "use algo=ppo" if kind == CONTINUOUS else "use algo=ppo, or an environment with one"
        raise ConfigError(f"{algo.name} needs {needs}, and those of {env} {has}", "algo, env", fix)
    network_config.check_fits(network, pixel_shape(frame_space), env)
    if network == "table" and not algo.is_tabular:
        raise ConfigError(f"{algo.name} needs a network", "network", "use network=auto")
    if algo.is_tabular and network != "table":
        raise ConfigError(f"{algo.name} keeps a table, not a network", "network", "use network=auto")
