"""The one place where speed is switched: at the start of a process, before anything is built."""

from typing import Any

import torch

from rltrain.config.network import SMALLEST_FRAME
from rltrain.config.run import RunConfig
from rltrain.fast import cnn, graphs, losses, mlp, optimizers
from rltrain.math import losses as plain_losses
from rltrain.math import policies, returns
from rltrain.nn import layout, networks, recording
from rltrain.nn import optimizers as plain_optimizers
from rltrain.nn.device import resolve_device
from rltrain.system import process
from rltrain.system.accelerable import Accelerable


def fuse(network: Any) -> None:
    """Twin of `nn.networks.prepare`: compute the layers of a network in one go, where that is possible."""
    mlp.fuse(network)
    cnn.fuse(network)


TWINS: list[tuple[Accelerable[..., Any], Any]] = [
    (plain_losses.td_loss, losses.td_loss),
    (plain_losses.ppo_loss, losses.ppo_loss),
    (policies.categorical_log_prob_entropy, losses.categorical_log_prob_entropy),
    (returns.gae, graphs.gae),
    (plain_optimizers.make, optimizers.make),
    (plain_optimizers.clip_gradients, optimizers.clip_gradients),
    (networks.prepare, fuse),
    (layout.channels_last, cnn.channels_last),
    (recording.recorded, graphs.recorded),
]
"""Each plain function with its twin. The tests hold every twin to its function."""


def accelerate(on: bool) -> None:
    """Put every twin in the place of its function, or the function back in its own."""
    for function, twin in TWINS:
        function.current = twin if on else function.plain


def set_up(config: RunConfig) -> None:
    """Prepare this process for a run: twins, threads, tiny numbers, tensor cores. Changes process-wide settings.

    Call it before torch's first work that several threads share: it counts for this thread and those that it starts.
    """
    accelerate(config.fast)
    if config.cuda_graphs == "false":
        returns.gae.current = returns.gae.plain  # its twin is a graph, and sees no configuration
    large_layers = config.network.name in SMALLEST_FRAME and config.network.name != "small_cnn"
    # Every core for large layers, one for small ones: threads that share a small layer gain little and wait for each
    # other. On two cores an update of Doom's small_cnn took 11 ms with two threads and 16 ms with one, but 140 ms with
    # two once another process was busy.
    torch.set_num_threads(process.wanted_threads() if large_layers else 1)
    # Numbers nearer to 0 than 1.2e-38 become 0. Adam's mean of a gradient that stays 0 gets there within 900 steps and
    # never leaves, and Intel's processors multiply such numbers a hundred times slower.
    torch.set_flush_denormal(True)
    if resolve_device(config.device).type == "cuda":
        # By itself torch uses TF32 in convolutions and not in matrix products.
        torch.backends.cuda.matmul.allow_tf32 = config.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
