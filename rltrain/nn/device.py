"""Where and in which precision a network computes."""

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
"""Part of a device's free memory that a replay may take by itself: networks, batches and other jobs need some too."""


def resolve_device(name: str) -> torch.device:
    """The device of a name such as auto, cpu or cuda:1. Raises ConfigError where this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(name.partition(":")[2] or 0) >= count:
            raise ConfigError(
                f"{name} was asked for and {count} CUDA devices are usable", "device", "use device=cpu or device=auto"
            )
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("mps was asked for and is not usable here", "device", "use device=cpu or device=auto")
    return torch.device(name)


def staged(array: np.ndarray, device: torch.device) -> Tensor:
    """An array from where a copy to the device need not be waited for: for CUDA in pinned memory, which torch gives to
    nobody else before that copy is done."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_device(array: "np.ndarray | Tensor", device: torch.device) -> Tensor:
    """An array on a device; a tensor is there already. CUDA's copy is not waited for."""
    if isinstance(array, Tensor):
        return array
    return staged(array, device).to(device, non_blocking=device.type == "cuda")


def batch_to_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass of arrays and tensors with its arrays on a device."""
    arrays = {name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
    return replace(batch, **{name: to_device(array, device) for name, array in arrays.items()}) if arrays else batch


def runs_ahead(device: torch.device) -> bool:
    """Whether the device works on by itself while the host goes on, so that reading a number from it means to wait."""
    return device.type == "cuda"


def takes_replay(choice: str, device: torch.device, num_bytes: int) -> bool:
    """Whether the frames of a replay lie on the device: by choice, or with `auto` where a CUDA device has the room.

    Raises OutOfMemory where it was chosen and has not.
    """
    if choice == "cpu" or device.type != "cuda":
        return choice == "device"
    free = torch.cuda.mem_get_info(device)[0]
    if choice == "device" and num_bytes > free:
        what = f"the frames of the replay need {num_bytes / 1e9:.2f} GB of the device and {free / 1e9:.2f} GB are free"
        raise OutOfMemory(what, "algo.replay_device", "use algo.replay_device=cpu, or a smaller algo.replay_capacity")
    return choice == "device" or num_bytes <= REPLAY_SHARE * free


def memory_tags(name: str) -> dict[str, float]:
    """memory/cuda_* of the device of this name, in MB of 10^6 bytes: held by tensors now, the most ever, and left to
    everybody. Nothing for devices other than CUDA's."""
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
    """The dtype of the torsos. auto takes bf16 for convolutions where the processor multiplies in it, else fp32."""
    if name != "auto":
        return torch.bfloat16 if name == "bf16" else torch.float32
    if not pixels or device.type == "mps":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_multiplies_bf16() else torch.float32


def _cpu_multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bf16 is the quicker one. Linux tells by the processor's flags; elsewhere fp32 is the safe answer.

    AVX512-bf16 brings four times the speed of fp32 on AMD's Zen 5, and half of it on Intel's without AMX.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    return re.search(r"\bamx_bf16\b", text) is not None or (
        re.search(r"\bavx512_bf16\b", text) is not None and "AuthenticAMD" in text
    )
