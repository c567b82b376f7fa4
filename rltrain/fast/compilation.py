"""`compile=true`: compile the network's forward pass for updates with torch.compile."""

import importlib.util
import os
import shutil

import torch
from torch import nn

from rltrain.errors import ConfigError


def require_compiler(device: torch.device) -> None:
    """Raise ConfigError if this machine lacks the compilers that torch.compile needs."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            fix = "run `pip install triton`, or use compile=false"
            raise ConfigError("torch.compile needs Triton for a GPU", "compile", fix)
        candidates = [os.environ.get("CC") or "gcc", "clang"]  # Triton compiles the launchers of its kernels in C
    else:
        candidates = [os.environ.get("CXX") or "g++", "clang++"]
    if not any(shutil.which(name) for name in candidates):
        missing = " or ".join(candidates)
        raise ConfigError(f"torch.compile finds no {missing}", "compile", "install one of them, or use compile=false")


def compile_updates(network: nn.Module) -> None:
    """Compile the network's forward pass at its first call with gradients. Calls without gradients stay uncompiled.

    The network must have been built with `fuse=False`, so that its forward pass consists of plain torch modules.
    """
    plain, compiled = network.forward, torch.compile(network.forward)
    network.forward = lambda obs: (compiled if torch.is_grad_enabled() else plain)(obs)
