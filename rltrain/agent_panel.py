"""The start panel of an agent with a network; apart from panel.py, which a table needs without torch."""

from pathlib import Path

import psutil
import torch
from torch import nn

from rltrain.config import RunConfig
from rltrain.envs.pool import Pool
from rltrain.networks import Torso, num_parameters, obs_shape
from rltrain.panel import show_start


def show_agent(
    folder: Path, config: RunConfig, pool: Pool, network: nn.Module, device: torch.device, replay_bytes: int | None
) -> None:
    """The start panel of an agent with a network."""
    if not config.progress:
        return
    torso = network.torso
    assert isinstance(torso, Torso)
    facts = {
        "algorithm": config.algo.name,
        "environment": f"{config.env.name}, {pool.num_envs} side by side",
        "network": f"{torso.name}, {num_parameters(network):,} parameters, {str(torso.dtype).removeprefix('torch.')}",
        "observation": f"{obs_shape(pool.frame_space, pool.stack_num)} {pool.frame_space.dtype}",
        "action": str(pool.action_space),
        "device": f"{device}, {_free_memory(device)}",
    }
    if replay_bytes is not None:
        facts["replay"] = f"{config.algo.replay_capacity:,} frames, {replay_bytes / 1e9:.2f} GB when full"
    show_start(folder, facts)


def _free_memory(device: torch.device) -> str:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return f"{free / 1e9:.1f} GB free"
