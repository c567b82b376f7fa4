"""Switch the accelerated twins of `fast` on or off, and set up a process, before any network is built."""

from typing import Any

import torch

from rltrain.config.network import SMALLEST_FRAME
from rltrain.config.run import RunConfig
from rltrain.fast import cnn, graphs, losses, mlp, optimizers
from rltrain.math import losses as plain_losses
from rltrain.math import returns
from rltrain.nn import layout, networks, recording
from rltrain.nn import optimizers as plain_optimizers
from rltrain.nn.device import resolve_device
from rltrain.system import process
from rltrain.system.accelerable import Accelerable


def fuse(network: Any) -> None:
    """Twin of `nn.networks.prepare`: fuse the layers of a network into one autograd node, where possible."""
    mlp.fuse(network)
    cnn.fuse(network)


TWINS: list[tuple[Accelerable[..., Any], Any]] = [
    (plain_losses.td_loss, losses.td_loss),
    (plain_losses.ppo_loss, losses.ppo_loss),
    (returns.gae, graphs.gae),
    (plain_optimizers.make, optimizers.make),
    (plain_optimizers.clip_gradients, optimizers.clip_gradients),
    (networks.prepare, fuse),
    (layout.channels_last, cnn.channels_last),
    (recording.recorded, graphs.recorded),
]
"""Each plain function with its accelerated twin. The tests compare each twin with its plain function."""


def accelerate(on: bool) -> None:
    """Make every marked function call its twin (on), or the plain function (off)."""
    for function, twin in TWINS:
        function.current = twin if on else function.plain


def set_up(config: RunConfig) -> None:
    """Set up this process for a run: twins, number of threads, denormal numbers, TF32. All are process-wide settings.

    Call it before torch's first parallel work. The setting of denormal numbers covers this thread and those that it
    starts.
    """
    accelerate(config.fast)
    if config.cuda_graphs == "false":
        returns.gae.current = returns.gae.plain  # its twin always uses a CUDA graph
    large_layers = config.network.name in SMALLEST_FRAME and config.network.name != "small_cnn"
    # Large layers use all cores, small ones one core: there, threads gain little and wait for each other. On two cores
    # an update of Doom's small_cnn took 16 ms with one thread and 11 ms with two, but 140 ms with two threads while
    # another process was busy.
    torch.set_num_threads(process.wanted_threads() if large_layers else 1)
    # Flush denormal numbers (below 1.2e-38) to 0: Intel CPUs multiply them a hundred times slower. Without this, Adam's
    # mean of a gradient that stays 0 becomes denormal within 900 steps and stays so.
    torch.set_flush_denormal(True)
    if resolve_device(config.device).type == "cuda":
        # torch's defaults use TF32 in convolutions but not in matrix products.
        torch.backends.cuda.matmul.allow_tf32 = config.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
