"""`compile=true`: updates run the network as torch.compile makes it; who only acts goes on without."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

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


def compiled(network: nn.Module) -> Callable[..., Any]:
    """The network's forward pass, compiled at its first call; its parameters and their names stay the network's.

    To be called before `Trained`: from here on every parameter is computed with, and stepped, by itself.
    """
    for module in network.modules():
        if getattr(module, "fused", None) is not None:
            module.fused = None  # type: ignore[assignment]
    return torch.compile(network)
