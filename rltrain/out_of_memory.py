"""Out of memory: told from other errors, put in numbers, with what would need less.

torch is not imported here: where it is not loaded, it raised nothing.
"""

import contextlib
import math
import re
import sys
from collections.abc import Iterator

from rltrain.config import RunConfig
from rltrain.errors import OutOfMemory
from rltrain.host_memory import free_bytes

_WORDS = ("DefaultCPUAllocator", "_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "MPS backend out of memory")
"""What the libraries below torch say in a RuntimeError where they got no memory."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that the device or the host had no memory left."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def describe(error: BaseException) -> str:
    """How much was asked for and how much is free and there in all, as far as the error or the system tells."""
    text = str(error)
    asked = re.search(r"(?:allocate|allocation of|allocating) ([\d.]+ ?(?:[KMGT]i?B|bytes))", text)
    on_device = "CUDA" in text or "MPS" in text
    told = [f"{asked[1]} asked for"] if asked else []
    if total := re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", text):
        told.append(f"{total[2]} free of {total[1]}")
    elif not on_device:
        told.append(f"{free_bytes() / 1e9:.2f} GB free")
    return ": ".join(part for part in (f"out of {'device ' if on_device else ''}memory", ", ".join(told)) if part)


@contextlib.contextmanager
def told(config: RunConfig) -> Iterator[None]:
    """Raise OutOfMemory in place of a shortage outside of updates: in acting, in making a network or a replay."""
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        where, fix = _smaller(config, isinstance(error, MemoryError))
        raise OutOfMemory(describe(error), where, fix) from error


def _smaller(config: RunConfig, host: bool) -> tuple[str, str]:
    """The key that decides how much is held, and half of what it is now."""
    algo, num_envs = config.algo, config.num_envs or 1
    if host and hasattr(algo, "replay_capacity"):
        return "algo.replay_capacity", f"use algo.replay_capacity={algo.replay_capacity // 2}"
    if num_envs == 1:
        return "network, device", "use a smaller network or another device; `rltrain list networks` shows all"
    fewer = num_envs // 2
    fix = f"use num_envs={fewer}"
    if hasattr(algo, "num_steps") and hasattr(algo, "batch_size"):  # minibatches are to divide the smaller rollout
        size = math.gcd(fewer * algo.num_steps, algo.batch_size)
        fix += f" batch_size={size}" if size != algo.batch_size else ""
    return "num_envs", fix
