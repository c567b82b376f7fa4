"""Recognise and describe out-of-memory errors.

This module does not import torch: if torch is not loaded, the error is not from torch.
"""

import contextlib
import errno
import re
import sys

from rltrain.errors import causes
from rltrain.system.ram import free_bytes

_WORDS = ("DefaultCPUAllocator", "_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "MPS backend out of memory")
"""Texts of the RuntimeErrors that torch's libraries raise when memory runs out."""
_LOADING = ("failed to map segment from shared object", "cannot allocate memory", "Cannot allocate memory")
"""Texts of the errors of loading a library without enough memory or address space (`ulimit -v`)."""


def is_shortage(error: BaseException) -> bool:
    """Return True if the error says that device or host memory ran out."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    for each in causes(error):  # llvmlite raises another error without the reason
        if not isinstance(each, ImportError | OSError):
            break
        if getattr(each, "errno", None) == errno.ENOMEM or any(word in str(each) for word in _LOADING):
            return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in (*_WORDS, "can't start new thread"))


def describe(error: BaseException) -> str:
    """Return a text with the memory that was requested, free and installed, as far as these are known."""
    text = str(error)
    requested = re.search(r"(?:allocate|allocation of|allocating) ([\d.]+ ?(?:[KMGT]i?B|bytes))", text)
    on_device = "CUDA" in text or "MPS" in text
    facts = [f"{requested[1]} requested"] if requested else []
    if total := re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", text):
        facts.append(f"{total[2]} free of {total[1]}")
    elif not on_device:
        with contextlib.suppress(MemoryError):  # looking takes memory, too
            facts.append(f"{free_bytes() / 1e9:.2f} GB free")
    return ": ".join(part for part in (f"out of {'device ' if on_device else ''}memory", ", ".join(facts)) if part)
