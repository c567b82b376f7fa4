"""Facts of the start panel for an agent with a network. Unlike panel.py, this module imports torch."""

from typing import Any

import gymnasium
import torch
from torch import nn

from rltrain.config.run import RunConfig
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.nn.device import resolve_device
from rltrain.nn.networks import Torso, num_parameters, obs_shape
from rltrain.run.evaluation import network_of
from rltrain.run.panel import auto_fact
from rltrain.system.ram import free_bytes


def facts(
    config: RunConfig,
    frame_space: gymnasium.Space,
    action_space: gymnasium.Space,
    agent: Any,
    replay_bytes: int | None = None,
) -> dict[str, str]:
    """Return the facts of the start panel by name, for an agent that has no table.

    The agent of a plugin may have a `network` without a torso of rltrain, or none. replay_bytes: size of the full
    replay buffer; None without one.
    """
    network, device = network_of(agent), resolve_device(config.device)
    torso = getattr(network, "torso", None)
    torso = torso if isinstance(torso, Torso) else None
    num_envs = config.algo.num_envs
    found = {
        "algorithm": config.algo.name,
        "seed": str(config.seed),
        "environment": config.env.name + (f", {num_envs} in parallel" if num_envs != 1 else ""),
        "network": _network(network, torso),
        "observation": _observation(frame_space, config.env.stack_num),
        "action": str(action_space),
        "device": f"{device}, {_threads(device)}{_free_memory(device)}",
    }
    if isinstance(frame_space, PixelsAndVariables):
        found["observation"] += f", last rows: {', '.join(config.env.game_variables)}"
    if getattr(config.env, "shaping", None):
        weights = ", ".join(f"{name} {weight:g}" for name, weight in config.env.shaping.items())
        found["reward"] = f"shaped in training only: {weights}"
    if skill := getattr(config.env, "doom_skill", None):
        found["skill"] = f"{skill} of 5 in training only"
    if replay_bytes is not None:
        frames = f"{capacity:,} frames, " if (capacity := getattr(config.algo, "replay_capacity", None)) else ""
        found["replay"] = f"{frames}{replay_bytes / 1e9:.2f} GB when full"
    chosen = {}
    if config.device == "auto":
        chosen["device"] = str(device)
    if config.precision == "auto" and torso is not None:
        chosen["precision"] = "bf16" if torso.dtype == torch.bfloat16 else "fp32"
    if config.cuda_graphs == "auto" and device.type == "cuda":
        chosen["cuda_graphs"] = str(config.algo.supports_cuda_graphs).lower()
    return found | auto_fact(config, chosen)


def _network(network: Any, torso: Torso | None) -> str:
    if not isinstance(network, nn.Module):
        return "the agent's own"
    parameters = f"{num_parameters(network):,} parameters"
    if torso is None:
        return f"{type(network).__name__}, {parameters}"
    return f"{torso.name}, {parameters}, {str(torso.dtype).removeprefix('torch.')}"


def _observation(frame_space: gymnasium.Space, stack_num: int) -> str:
    if isinstance(frame_space, gymnasium.spaces.Discrete):
        return f"one of {frame_space.n} states"
    return f"{obs_shape(frame_space, stack_num)} {frame_space.dtype}"


def _threads(device: torch.device) -> str:
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''}, " if device.type == "cpu" else ""


def _free_memory(device: torch.device) -> str:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    return f"{free / 1e9:.1f} GB free"
