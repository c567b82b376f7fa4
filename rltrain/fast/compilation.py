"""`compile=true`: updates run the network as torch.compile makes it."""

import importlib.util
import os
import shutil

import torch
from torch import nn

from rltrain.errors import ConfigError


def require_compiler(device: torch.device) -> None:
    """Raise ConfigError where torch.compile would find nothing to compile with."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ConfigError("torch.compile needs Triton for a GPU", "compile", "pip install triton, or compile=false")
        candidates = [os.environ.get("CC") or "gcc", "clang"]  # for what starts Triton's kernels
    else:
        candidates = [os.environ.get("CXX") or "g++", "clang++"]
    if not any(shutil.which(name) for name in candidates):
        missing = " or ".join(candidates)
        raise ConfigError(f"torch.compile finds no {missing}", "compile", "install one, or compile=false")


def compile_updates(network: nn.Module) -> None:
    """Let torch compile the network's forward pass at its first call with gradients; acting goes on without.

    The network must have been built with `fuse=False`: every parameter is computed with, and stepped, by itself.
    """
    plain, compiled = network.forward, torch.compile(network.forward)
    network.forward = lambda obs: (compiled if torch.is_grad_enabled() else plain)(obs)
