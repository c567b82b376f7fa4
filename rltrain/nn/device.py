"""Devices and precisions: choose them, and copy data to a device."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rltrain.errors import ConfigError, OutOfMemory

Batch = TypeVar("Batch", bound=Any)

REPLAY_SHARE = 0.7
"""The fraction of a device's free memory that replay_device=auto may use. Networks and other jobs need the rest."""


def resolve_device(name: str) -> torch.device:
    """Return the device of a name such as auto, cpu or cuda:1. Raises ConfigError if this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name.partition(":")[2] or 0) >= count:
            raise ConfigError(
                f"there is no {name}: {count} CUDA devices are usable", "device", "use device=cpu or device=auto"
            )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("mps is not usable on this machine", "device", "use device=cpu or device=auto")
    return torch.device(name)


def staged(array: np.ndarray, device: torch.device) -> Tensor:
    """Return the array as a tensor that can be copied to the device asynchronously: for CUDA in pinned memory.

    torch does not reuse the pinned memory before the copy is done.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_device(array: "np.ndarray | Tensor", device: torch.device) -> Tensor:
    """Return the array as a tensor on the device. A tensor is returned unchanged. The copy to CUDA is asynchronous."""
    if isinstance(array, Tensor):
        return array
    return staged(array, device).to(device, non_blocking=device.type == "cuda")


def batch_to_device(batch: Batch, device: torch.device) -> Batch:
    """Return a dataclass of arrays and tensors with its arrays copied to the device."""
    arrays = {name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
    return replace(batch, **{name: to_device(array, device) for name, array in arrays.items()}) if arrays else batch


def runs_ahead(device: torch.device) -> bool:
    """Return true if the device computes asynchronously. Reading a number from such a device waits for its work."""
    return device.type == "cuda"


def takes_replay(choice: str, device: torch.device, num_bytes: int) -> bool:
    """Return true if the replay buffer's frames, of `num_bytes` bytes, are stored on the device.

    choice: "cpu", "device", or "auto" for a CUDA device with enough free memory.
    Raises OutOfMemory if the choice is "device" and the frames do not fit.
    """
    if choice == "cpu" or device.type != "cuda":
        return choice == "device"
    free = torch.cuda.mem_get_info(device)[0]
    if choice == "device" and num_bytes > free:
        what = f"the replay buffer needs {num_bytes / 1e9:.2f} GB on the device, and {free / 1e9:.2f} GB are free"
        raise OutOfMemory(what, "algo.replay_device", "use algo.replay_device=cpu, or a smaller algo.replay_capacity")
    return choice == "device" or num_bytes <= REPLAY_SHARE * free


def memory_tags(name: str) -> dict[str, float]:
    """Return the metrics memory/cuda_* in MB (10^6 bytes): used by tensors now, their peak, and free on the device.

    Empty for a device that is not CUDA.
    """
    device = resolve_device(name)
    if device.type != "cuda":
        return {}
    values = {
        "allocated": torch.cuda.memory_allocated(device),
        "peak": torch.cuda.max_memory_allocated(device),
        "free": torch.cuda.mem_get_info(device)[0],
    }
    return {f"memory/cuda_{what}_mb": round(num_bytes / 1e6, 1) for what, num_bytes in values.items()}


def resolve_precision(name: str, device: torch.device, pixels: bool) -> torch.dtype:
    """Return the dtype of the torsos. auto means bf16 for convolutions on hardware that is fast in bf16, else fp32."""
    if name != "auto":
        return torch.bfloat16 if name == "bf16" else torch.float32
    if not pixels or device.type == "mps":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return true if bf16 is faster than fp32 on this CPU, by its flags on Linux. Elsewhere return false.

    With avx512_bf16, bf16 is four times as fast as fp32 on AMD Zen 5, but half as fast on Intel CPUs without AMX.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    return re.search(r"\bamx_bf16\b", text) is not None or (
        re.search(r"\bavx512_bf16\b", text) is not None and "AuthenticAMD" in text
    )
