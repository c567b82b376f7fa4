"""Out of memory: told from other errors, put in numbers, with what would need less.

torch is not imported here: where it is not loaded, it raised nothing.
"""

import re
import sys

from rltrain.system.ram import free_bytes

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
