"""The start panel of an agent with a network; apart from panel.py, which a table needs without torch."""

import gymnasium
import torch
from torch import nn

from rltrain.envs.spaces import PixelsAndVariables
from rltrain.host_memory import free_bytes
from rltrain.networks import Torso, num_parameters, obs_shape
from rltrain.panel import show_start
from rltrain.run import Run


def show_agent(
    run: Run,
    frame_space: gymnasium.Space,
    action_space: gymnasium.Space,
    network: nn.Module,
    device: torch.device,
    replay_bytes: int | None = None,
) -> None:
    """The start panel of an agent with a network."""
    config = run.config
    if not config.progress:
        return
    torso = network.torso
    assert isinstance(torso, Torso)
    facts = {
        "algorithm": config.algo.name,
        "seed": str(config.seed),
        "environment": config.env.name + (f", {config.num_envs} side by side" if config.num_envs != 1 else ""),
        "network": f"{torso.name}, {num_parameters(network):,} parameters, {str(torso.dtype).removeprefix('torch.')}",
        "observation": _observation(frame_space, config.env.stack_num),
        "action": str(action_space),
        "device": f"{device}, {_free_memory(device)}",
    }
    if isinstance(frame_space, PixelsAndVariables):
        facts["observation"] += f", the last rows: {', '.join(config.env.game_variables)}"
    if getattr(config.env, "shaping", None):
        weights = ", ".join(f"{name} {weight:g}" for name, weight in config.env.shaping.items())
        facts["reward"] = f"shaped for learning only: {weights}"
    if replay_bytes is not None:
        facts["replay"] = f"{config.algo.replay_capacity:,} frames, {replay_bytes / 1e9:.2f} GB when full"
    show_start(None if config.dry_run else run.folder, facts)


def _observation(frame_space: gymnasium.Space, stack_num: int) -> str:
    if isinstance(frame_space, gymnasium.spaces.Discrete):
        return f"one of {frame_space.n} states"
    return f"{obs_shape(frame_space, stack_num)} {frame_space.dtype}"


def _free_memory(device: torch.device) -> str:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    return f"{free / 1e9:.1f} GB free"
